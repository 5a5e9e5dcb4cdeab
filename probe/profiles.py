"""Adapter profiles: everything that the signals need to know of one adapter, worked out once per revision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from probe.factors import LoraUpdate, canonical, check_factor
from probe.layers import num_layers_of


@dataclass(frozen=True, eq=False)
class ModuleProfile:
    """Singular value decomposition of one module's update, D = U diag(s) V^T, float32.

    Attributes
    ----------
    U
        (d_out, r), orthonormal columns: what the update writes.
    s
        (r,), positive, descending.
    V
        (d_in, r), orthonormal columns: what the update reads.
    """

    U: Tensor
    s: Tensor
    V: Tensor

    @property
    def rank(self) -> int:
        """Numerical rank of the update, at least 1."""
        return self.s.shape[0]

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of this module's update."""
        return float(self.s.double().norm())


@dataclass(frozen=True, slots=True, eq=False)
class ModuleCalibration:
    """What one pass over the calibration set says about one linear module.

    Attributes
    ----------
    f_out, f_in
        (d_out,) and (d_in,), row and column sums of the diagonal Fisher of Delta-W: the expectation over examples of
        the squared gradient of an example's loss. Their outer product over their common total is the rank-one proxy.
    gradient
        (k, k), two-sided Gaussian sketch S_out^T G S_in of the mean over rows of the loss gradient G (d_out, d_in) with
        respect to Delta-W; inner products of sketches are unbiased estimates of those of gradients
        (`probe.calibration.sketch`).
    P_in
        (d_in, q), orthonormal: principal directions of the module's inputs, uncentred, for operators that read inputs.
    energy_in
        (q,), second moment of the inputs along each of them.
    floor_in
        Mean second moment of the inputs along every other direction.
    """

    f_out: Tensor
    f_in: Tensor
    gradient: Tensor
    P_in: Tensor
    energy_in: Tensor
    floor_in: float

    @property
    def gradient_norm(self) -> float:
        """Frobenius norm of the mean gradient, as the sketch estimates it."""
        return float(self.gradient.double().norm())

    @property
    def fisher_total(self) -> float:
        """Trace of the diagonal Fisher: the sum of either marginal."""
        return float(self.f_out.double().sum())


@dataclass(frozen=True, slots=True, eq=False)
class LayerActivations:
    """Residual stream after one block, on the adapter's own calibration set.

    Attributes
    ----------
    P
        (d, q), orthonormal principal directions of the centred hidden states.
    energy
        (q,), variance along each, descending.
    """

    P: Tensor
    energy: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """One forward and backward of an adapter's calibration set, at one checkpoint.

    Attributes
    ----------
    modules
        Base module name -> what the pass says of it.
    layers
        Block number -> residual stream after it.
    loss
        Under the adapter: mean over rows of a row's mean answer log-loss, nats a token. It is what gradients are of.
    base_loss, base_accuracy
        The base model's on the same rows: loss in nats a token, share of rows whose answer tokens are all the argmax.
    base_gradients
        Base module name -> (k, k), gradient sketch at the base, without the adapter.
    num_rows, num_tokens
        Size of the calibration set, prompt tokens included.
    seed
        Of token subsampling; the gradient sketch has a fixed seed, or adapters could not be compared.
    """

    modules: Mapping[str, ModuleCalibration]
    layers: Mapping[int, LayerActivations]
    loss: float
    base_loss: float
    base_accuracy: float
    base_gradients: Mapping[str, Tensor]
    num_rows: int
    num_tokens: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """What adapter i does to the residual stream on calibration rows of adapter j; directional.

    Attributes
    ----------
    of_base
        Block number -> |h_i - h_0| / |h_0|, >= 0, norms over all tokens of the rows after the first of each: how far
        i moves hidden states that the base has there.
    of_own
        Block number -> |h_i - h_0| / |h_j - h_0|, >= 0: the same against what j itself does there. Blocks that j
        does not move are left out.
    num_rows
        Rows that it was measured on.
    """

    of_base: Mapping[int, float]
    of_own: Mapping[int, float]
    num_rows: int


@dataclass(frozen=True, slots=True)
class JointLoss:
    """Mean answer losses on calibration rows of adapter j, beside adapter i, in nats a token; a row counts once.

    Attributes
    ----------
    of_base, of_own
        Under the base, and under j.
    of_sum, of_mean
        Under i and j at once, each whole; and each by half.
    num_rows
        Rows that they were measured on.
    """

    of_base: float
    of_own: float
    of_sum: float
    of_mean: float
    num_rows: int


@dataclass(frozen=True, slots=True, eq=False)
class CrossTask:
    """What forward passes of adapter j's calibration rows tell of adapter i beside j; directional."""

    shift: Shift
    loss: JointLoss


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of an adapter without looking at its tensors; None is unknown.

    Attributes
    ----------
    domain
        Such as math; free text.
    num_rows
        Distinct training rows.
    response_tokens
        Mean length of a training answer in tokens.
    refusal_fraction
        0..1, share of training answers that refuse.
    rank, scaling, learning_rate, num_steps
        Declared rank, alpha/r or alpha/sqrt(r), peak learning rate, planned optimiser steps.
    loss_slope
        Change of the training loss in nats over the observed part of training, per percent of training.
    """

    domain: str | None = None
    num_rows: int | None = None
    response_tokens: float | None = None
    refusal_fraction: float | None = None
    rank: int | None = None
    scaling: float | None = None
    learning_rate: float | None = None
    num_steps: int | None = None
    loss_slope: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AdapterProfile:
    """One revision, summarised; cached by revision, compared by identity.

    Attributes
    ----------
    modules
        Base module name -> decomposition of its update; modules whose update is zero are left out.
    num_layers
        Blocks of the base model: what the layer bands are thirds of.
    calibration
        None where no calibration pass was run.
    """

    modules: Mapping[str, ModuleProfile]
    num_layers: int
    metadata: Metadata = field(default_factory=Metadata)
    calibration: Calibration | None = None

    @property
    def norm(self) -> float:
        """Frobenius norm of the whole update."""
        return math.hypot(*(module.norm for module in self.modules.values()))


def profile_of(
    update: LoraUpdate,
    num_layers: int | None = None,
    metadata: Metadata | None = None,
    calibration: Calibration | None = None,
) -> AdapterProfile:
    """Summarise an update.

    Parameters
    ----------
    num_layers
        Blocks of the base model; None takes the last adapted one for the last.

    Raises
    ------
    FactorError
        A factor is not finite, or of a rank that its shape does not allow.
    """
    modules = {}
    for name, factor in update.factors.items():
        check_factor(factor)
        own = canonical(factor)
        if own.rank > 0:
            # In the canonical gauge the columns of B are U sqrt(s) and those of A^T are V sqrt(s).
            root = own.B.norm(dim=0)
            modules[name] = ModuleProfile(
                U=(own.B / root).float(), s=root.square().float(), V=(own.A.T / root).contiguous().float()
            )
    depth = num_layers or num_layers_of(update.factors)
    return AdapterProfile(modules, depth, metadata or Metadata(), calibration)


def effective_rank(singular_values: Tensor) -> float:
    """Return exp of the entropy of the energy spectrum s^2 / sum s^2, 1..r; NaN for a zero update.

    References
    ----------
    O. Roy and M. Vetterli, "The effective rank" (EUSIPCO 2007), on squared singular values.
    """
    energy = singular_values.double().square()
    if energy.numel() == 0 or float(energy.sum()) == 0:
        return math.nan
    share = energy / energy.sum()
    return float(torch.special.entr(share).sum().exp())
