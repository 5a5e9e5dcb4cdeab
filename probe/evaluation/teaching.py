"""Other things to learn from than the records as they are: fewer, noisier or shuffled labels; each a pure function."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from probe.bank.records import Label, Records
from probe.predictors.labelled_merges import module_of

SEED = 0
_SCORES = tuple(f"{who}_{what}" for who in ("base", "single", "merged") for what in ("scores", "log_likelihoods"))
Teaching = Callable[[Records], Records]


def fewer_merges(share: float) -> Teaching:
    """Return what keeps a share of the merged modules, drawn; whatever a smaller share keeps, a larger one keeps."""

    def keep(label: Label) -> bool:
        # A module's own number in 0..1, whatever else there is: so shares are nested.
        return zlib.crc32(repr(module_of(label)).encode()) < share * 2**32

    return lambda records: replace(
        records, labels=tuple(label for label in records.labels if _is_alone(label) or keep(label))
    )


def fewer_rows(share: float) -> Teaching:
    """Return what keeps one evaluation row of so many, in every merge's label; `share` is 1 over a whole number."""
    step = round(1 / share)

    def thinned(label: Label) -> Label:
        return replace(label, **{name: getattr(label, name)[::step] for name in _SCORES})

    return _on_merges(lambda labels: map(thinned, labels))


def noisy(deviation: float) -> Teaching:
    """Return what adds normal noise to the Ret of every merge's label.

    Parameters
    ----------
    deviation
        In units of Ret; every row's score is moved by as much of the gain, so that all else follows.
    """

    def moved(label: Label, noise: float) -> Label:
        return replace(label, merged_scores=tuple(score + noise * label.gain.value for score in label.merged_scores))

    def of(labels: Sequence[Label]) -> Iterable[Label]:
        noise = np.random.default_rng(SEED).normal(0.0, deviation, size=len(labels))
        return (moved(label, float(own)) for label, own in zip(labels, noise, strict=True))

    return _on_merges(of)


def shuffled(records: Records) -> Records:
    """Let what was measured of modules change places: whole module by whole module, among those of one size.

    Nothing is left to learn but the distribution of labels, and what sets of one size have in common.
    """
    modules: dict[object, list[Label]] = {}
    for label in records.labels:
        if not _is_alone(label):
            modules.setdefault(module_of(label), []).append(label)
    by_size: dict[int, list[list[Label]]] = {}
    for labels in modules.values():
        by_size.setdefault(len(labels), []).append(labels)
    draw = random.Random(SEED)  # noqa: S311 - a draw, not a key
    moved = [label for label in records.labels if _is_alone(label)]
    for some in by_size.values():
        given = draw.sample(some, len(some))
        for own, other in zip(some, given, strict=True):
            moved += [_with_scores_of(one, measured) for one, measured in zip(own, other, strict=True)]
    return replace(records, labels=tuple(moved))


def _with_scores_of(label: Label, measured: Label) -> Label:
    return replace(label, **{name: getattr(measured, name) for name in _SCORES})


def _on_merges(change: Callable[[Sequence[Label]], Iterable[Label]]) -> Teaching:
    def taught(records: Records) -> Records:
        alone = tuple(label for label in records.labels if _is_alone(label))
        merges = [label for label in records.labels if not _is_alone(label)]
        return replace(records, labels=(*alone, *change(merges)))

    return taught


def _is_alone(label: Label) -> bool:
    return label.action == "single"
