"""Metadata: what is known of an adapter before anything is measured. Weak alone (arXiv 2606.19549, Section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable

from probe.layers import place_of
from probe.profiles import AdapterProfile
from probe.signals.signal import PAPER, UNBOUNDED, AdapterSignal, Family, Need, Pair, PairSignal, Resolution, Values

DOMAINS = ("math", "code", "science", "instruction", "safety")
"""The paper's five; any other domain is in none of them."""


def fact(name: str) -> Callable[[AdapterProfile], Values]:
    """Return a signal that reads one field of `Metadata`."""
    return lambda profile: _known(getattr(profile.metadata, name))


def log_fact(name: str) -> Callable[[AdapterProfile], Values]:
    """Return a signal that reads log10 of one positive field of `Metadata`."""

    def read(profile: AdapterProfile) -> Values:
        value = getattr(profile.metadata, name)
        return {"": math.log10(value)} if value else {}

    return read


def is_domain(domain: str) -> Callable[[AdapterProfile], Values]:
    """Return a signal that is 1 for adapters of a domain and 0 for others."""

    def read(profile: AdapterProfile) -> Values:
        own = profile.metadata.domain
        return {} if own is None else {"": float(own == domain)}

    return read


def mlp_share(profile: AdapterProfile) -> Values:
    """Return the share of adapted modules that belong to an MLP, 0..1: which target modules were chosen."""
    kinds = [place_of(name).kind for name in profile.modules]
    return {"": kinds.count("mlp") / len(kinds)} if kinds else {}


def same_domain(pair: Pair) -> Values:
    """Return 1 if both adapters are of one domain, else 0; undefined if one domain is unknown."""
    domains = pair.first.metadata.domain, pair.second.metadata.domain
    return {} if None in domains else {"": float(domains[0] == domains[1])}


def _known(value: float | None) -> Values:
    return {} if value is None else {"": float(value)}


def _fact(key: str, bounds: tuple[float, float], direction: str, *, is_log: bool = False) -> AdapterSignal:
    read = log_fact(key) if is_log else fact(key)
    family = Family.DYNAMICS if key == "loss_slope" else Family.METADATA
    return AdapterSignal(
        key, family, read, Resolution.WHOLE, frozenset({Need.METADATA}), "none", bounds, direction, PAPER
    )


def _domain(name: str) -> AdapterSignal:
    return AdapterSignal(
        key=f"is_{name}",
        family=Family.METADATA,
        function=is_domain(name),
        resolution=Resolution.WHOLE,
        needs=frozenset({Need.METADATA}),
        cost="none",
        bounds=(0.0, 1.0),
        direction="1 = of this domain",
        source=PAPER,
    )


ADAPTER_ROWS = (
    _fact("num_rows", (0.0, math.inf), "log10; higher = more training data", is_log=True),
    _fact("response_tokens", (0.0, math.inf), "higher = longer answers"),
    _fact("refusal_fraction", (0.0, 1.0), "higher = more of its training answers refuse"),
    _fact("rank", (1.0, math.inf), "declared rank"),
    _fact("scaling", (0.0, math.inf), "alpha/r or alpha/sqrt(r)"),
    _fact("learning_rate", UNBOUNDED, "log10 of the peak", is_log=True),
    _fact("num_steps", (0.0, math.inf), "log10 of the planned steps", is_log=True),
    _fact("loss_slope", UNBOUNDED, "more negative = still learning fast"),
    *map(_domain, DOMAINS),
    AdapterSignal(
        key="mlp_share",
        family=Family.METADATA,
        function=mlp_share,
        resolution=Resolution.WHOLE,
        needs=frozenset({Need.WEIGHTS}),
        cost="none",
        bounds=(0.0, 1.0),
        direction="0 = attention only",
        source=PAPER + " (target modules)",
    ),
)
PAIR_ROWS = (
    PairSignal(
        key="same_domain",
        family=Family.METADATA,
        function=same_domain,
        resolution=Resolution.WHOLE,
        needs=frozenset({Need.METADATA}),
        is_symmetric=True,
        cost="none",
        bounds=(0.0, 1.0),
        direction="1 = one domain",
        source=PAPER,
    ),
)
