"""Everything that a plan of one small bank may hold, measured: what a proof compares, and what its oracle knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from probe.bank.labelling.measurement import Measurement, Stage, merged
from probe.bank.records import AdapterRecord

GROUP_SIZES = (2, 3)
"""Members of the groups of which every one is measured."""


def every_group(
    adapters: Sequence[AdapterRecord], operators: Sequence[str], of_all: Sequence[str]
) -> Iterator[Measurement]:
    """Yield every pair and triple of the adapters that may be merged, and the merges of all.

    Every module is asked the rows of the protected adapters too, and so is each adapter alone: what becomes of safety
    inside a merge is told against the base and against its members.

    Parameters
    ----------
    operators
        That pairs and triples are merged by.
    of_all
        That all adapters are merged by, with the protected ones and without.
    """
    guests = [adapter.name for adapter in adapters if adapter.is_protected]
    free = [adapter.name for adapter in adapters if not adapter.is_protected]
    for name in (*free, *guests):
        for guest in guests:
            if guest != name:
                yield Measurement(Stage.PROOF, (name,), (guest,))
    for size in GROUP_SIZES:
        for operator in operators:
            for names in combinations(free, size):
                yield merged(Stage.PROOF, names, operator, guests)
    for operator in of_all:
        yield merged(Stage.PROOF, free, operator, guests)
        if guests:
            yield merged(Stage.PROOF, (*free, *guests), operator)
