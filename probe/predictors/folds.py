"""Folds of adapters: what belongs together is held out together."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from probe.bank.records import AdapterRecord


def adapter_folds(adapters: Iterable[AdapterRecord], num_folds: int, seed: int) -> Mapping[str, int]:
    """Return adapter -> fold, 0 to num_folds - 1.

    Adapters of one group (a shared seed, deltas of one preference) are in one fold, and every domain is spread over the
    folds as evenly as can be, so that a fold held out is a draw of new adapters, not of new domains.
    """
    units: dict[tuple[str, str], list[str]] = {}
    for adapter in adapters:
        key = (adapter.domain, adapter.name) if adapter.group is None else ("", adapter.group)
        units.setdefault(key, []).append(adapter.name)
    order = sorted(units)
    random.Random(f"folds {seed}").shuffle(order)  # noqa: S311 - a draw, not a key
    # By domain, so that one after another is dealt out; groups first, because they are the largest.
    order.sort(key=lambda unit: unit[0])
    sizes = [0] * num_folds
    folds: dict[str, int] = {}
    for unit in order:
        smallest = sizes.index(min(sizes))
        sizes[smallest] += len(units[unit])
        folds |= dict.fromkeys(units[unit], smallest)
    return folds
