"""How a predictor is fitted: every number of it that may be chosen, with its default."""

from __future__ import annotations

from dataclasses import dataclass

from probe.signals import Family


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Options of a fit; ablations are options, not other code.

    Attributes
    ----------
    seed
        Of folds, of every draw, and of training.
    num_trees, depth
        Of the regressor; the classifier has half as many trees.
    huber_slope
        Error, in units of Ret, from which on the loss grows linearly: a single wild label must not bend the trees.
    alpha
        Share of merges that may fall below their lower bound.
    families
        Families of signals that are read (`Family.DYNAMICS` are slopes and variances over checkpoints).
    num_folds
        Folds of adapters that errors are measured on; every pair of folds is a fit of its own.
    columns_per_block
        Columns of each block of the pair vector that the trees are given, those most correlated with Ret in the rows
        that are fitted; None is all. Time is proportional to them, and 24 of 7 blocks are still more than there are
        adapters in most banks.
    num_threads
        Of the trees; the same number gives the same trees.
    """

    seed: int = 0
    num_trees: int = 300
    depth: int = 6
    huber_slope: float = 0.1
    alpha: float = 0.1
    families: frozenset[Family] = frozenset(Family)
    num_folds: int = 5
    columns_per_block: int | None = 24
    num_threads: int = 1
