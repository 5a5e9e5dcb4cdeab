"""Why two adapters may conflict: the mechanisms of arXiv 2606.19549, Section 2.2, in words, numbers and layers.

A finding says what a signal shows, not what a merge would do. On the demo bank, adapters that show no conflict lose
most of their gain in a merge, and pairs of one domain, which merge well, write the same directions. Only a measurement
on the merged module decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from probe.layers import place_of
from probe.plan_score import TARGET_RETENTION
from probe.signals import PAIR_SIGNALS, Measured, Pair, Resolution, Values, measure_pair
from probe.signals.summary import weighted_mean


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One way in which a merge can fail, and the signal that shows it.

    Attributes
    ----------
    signal
        A key of `PAIR_SIGNALS`.
    threshold, is_conflict
        Where the conflict begins, and (value, threshold) -> whether there is one.
    summary
        What the signal says where there is conflict; `{value}` is its norm-weighted mean over those places.
    reason
        For the threshold.
    """

    name: str
    signal: str
    threshold: float
    is_conflict: Callable[[float, float], bool]
    summary: str
    reason: str


def _under(value: float, threshold: float) -> bool:
    return value < threshold


def _over(value: float, threshold: float) -> bool:
    return value > threshold


MECHANISMS = (
    Mechanism(
        "destructive addition",
        "cosine",
        -0.2,
        _under,
        "the updates point against each other (cosine {value:.2f}), so their sum cancels",
        "the paper's threshold, Section 3",
    ),
    Mechanism(
        "over-amplification",
        "cosine",
        0.7,
        _over,
        "the updates point the same way (cosine {value:.2f}), so their sum is nearly twice as long there",
        "the paper's threshold, Section 3",
    ),
    Mechanism(
        "sign conflict",
        "sign_conflict",
        0.6,
        _over,
        "most of what both change has opposite signs ({value:.0%} by weight, 50 % by chance)",
        "ours: well over the 0.5 of unrelated updates",
    ),
    Mechanism(
        "subspace collision (inputs)",
        "overlap_in",
        0.2,
        _over,
        "they read the same directions ({value:.2f} above chance), so a low rank cannot hold both",
        "ours: demo adapters lie within 0.05 of chance, a shared start of A gives nearly 1",
    ),
    Mechanism(
        "subspace collision (outputs)",
        "overlap_out",
        0.2,
        _over,
        "they write the same directions ({value:.2f} above chance), so one overwrites the other",
        "ours: demo pairs across domains reach 0.11, those of one domain 0.25 to 0.31",
    ),
    Mechanism(
        "Fisher-direction collision",
        "fisher_overlap",
        0.2,
        _over,
        "they overlap where the second one's loss is sensitive (Fisher-weighted |cosine| {value:.2f})",
        "ours: demo math and safety average 0.08 to 0.09",
    ),
    Mechanism(
        "activation drift",
        "shift_of_own",
        0.5,
        _over,
        "the first one moves the second one's hidden states {value:.0%} as far as the second one itself does",
        "ours: half of the adapter's own effect",
    ),
    Mechanism(
        "lost answers",
        "loss_kept_sum",
        TARGET_RETENTION,
        _under,
        "with the first one added, the second one keeps {value:.0%} of what it gains on its rows",
        "the share that a safe merge keeps",
    ),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one mechanism shows on one ordered pair.

    Attributes
    ----------
    value
        Mean of the signal over the places in conflict, else over all; weighted by the product of the norms where both
        updates have them. None where it was not measured, and `missing` says why.
    share
        0..1, how much of the common places is in conflict, by the same weights.
    layers, kinds
        Layers and kinds of module in conflict.
    sentence
        The finding in words.
    """

    mechanism: str
    signal: str
    threshold: float
    is_conflict: bool
    value: float | None
    share: float
    layers: tuple[int, ...]
    kinds: tuple[str, ...]
    sentence: str
    missing: str | None = None


def explain(pair: Pair) -> tuple[Finding, ...]:
    """Return a finding for every mechanism, those in conflict first, the most widespread first."""
    measured = {m.signal: measure_pair(PAIR_SIGNALS[m.signal], pair) for m in MECHANISMS}
    findings = [_find(mechanism, measured[mechanism.signal], pair) for mechanism in MECHANISMS]
    return tuple(sorted(findings, key=lambda finding: (not finding.is_conflict, -finding.share)))


def layers_in_words(layers: Sequence[int]) -> str:
    """Return layers as a person would say them, such as "layers 2-4 and 7"."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    spans = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    listed = spans[0] if len(spans) == 1 else f"{', '.join(spans[:-1])} and {spans[-1]}"
    return f"layer{'s' * (len(layers) > 1)} {listed}"


def _find(mechanism: Mechanism, measured: Measured, pair: Pair) -> Finding:
    if not measured.values:
        sentence = f"{mechanism.name[0].upper()}{mechanism.name[1:]}: {measured.missing}."
        return _finding(mechanism, False, None, 0.0, {}, sentence, measured.missing)
    weights = _weights(mechanism, measured.values, pair)
    conflicts = {p: v for p, v in measured.values.items() if mechanism.is_conflict(v, mechanism.threshold)}
    share = math.fsum(weights[place] for place in conflicts) / math.fsum(weights.values())
    value = weighted_mean(conflicts or measured.values, weights)
    return _finding(mechanism, bool(conflicts), value, share, conflicts, _sentence(mechanism, value, share, conflicts))


def _finding(
    mechanism: Mechanism,
    is_conflict: bool,
    value: float | None,
    share: float,
    places: Values,
    sentence: str,
    missing: str | None = None,
) -> Finding:
    return Finding(
        mechanism=mechanism.name,
        signal=mechanism.signal,
        threshold=mechanism.threshold,
        is_conflict=is_conflict,
        value=value,
        share=share,
        layers=_layers(places),
        kinds=tuple(sorted({kind for kind in (place_of(place).kind for place in places) if kind})),
        sentence=sentence,
        missing=missing,
    )


def _sentence(mechanism: Mechanism, value: float, share: float, conflicts: Values) -> str:
    if not conflicts:
        return f"No {mechanism.name}: {mechanism.signal} is {value:.2f} on average, nowhere past {mechanism.threshold}."
    name, told = f"{mechanism.name[0].upper()}{mechanism.name[1:]}", mechanism.summary.format(value=value)
    if PAIR_SIGNALS[mechanism.signal].resolution is Resolution.WHOLE:
        return f"{name}: {told}."
    layers = _layers(conflicts)
    where = f"in {layers_in_words(layers)}" if layers else "outside the numbered layers"
    return f"{name} {where} ({share:.0%} of what both change): {told}."


def _weights(mechanism: Mechanism, values: Values, pair: Pair) -> Mapping[str, float]:
    """Weigh a module by how much both updates do there; a block of the residual stream counts like any other."""
    if PAIR_SIGNALS[mechanism.signal].resolution is Resolution.MODULE:
        return {name: a.norm * b.norm for name, (a, b) in pair.modules.items() if name in values}
    return dict.fromkeys(values, 1.0)


def _layers(places: Values) -> tuple[int, ...]:
    """Layer numbers of modules, or of blocks, which are named by their number."""
    numbers = {int(place) if place.isdigit() else place_of(place).layer for place in places}
    return tuple(sorted(number for number in numbers if number is not None))
