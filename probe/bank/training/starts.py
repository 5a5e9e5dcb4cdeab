"""Where training starts: the first values of an adapter's factors. Every draw comes from a seed, never global state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from probe.bank.training.input_moments import input_moments, quiet_directions
from probe.bank.training.wrapping import adapted_modules
from probe.records import MergeProbeError
from probe.rows import Row

SPARSE_SHARE = 0.25
"""Entries of a row of FlyLoRA's A that are not zero: k/r of the paper's k 8, r 32."""


class StartError(MergeProbeError):
    """A start lacks what it is computed from."""


@dataclass(frozen=True, slots=True)
class MethodInputs:
    """What single methods need beside the rows; others ignore it.

    Attributes
    ----------
    rejected
        ``dpo``: a worse answer to each row, in the rows' order.
    neighbours
        ``osrm``: rows of the other tasks that this adapter is to stay clear of.
    replay
        General prompts that the base answers for itself; supervised methods train on those answers too.
    norms
        ``random``: base module name -> Frobenius norm that the update shall have, >= 0.
    """

    rejected: Sequence[str] = ()
    neighbours: Sequence[Row] = ()
    replay: Sequence[str] = ()
    norms: Mapping[str, float] = field(default_factory=dict)


def draw_a_matrices(wrapped: Any, a_seed: int) -> None:
    """Fill every A (r, d_in) uniformly in +-1/sqrt(d_in), from `a_seed` alone.

    The bound is that of PEFT's own start; the generator is ours, so that the draw depends neither
    on global state nor on anything the task did before.
    """
    generator = Generator().manual_seed(a_seed)
    for module in adapted_modules(wrapped).values():
        bound = 1.0 / math.sqrt(module.A.shape[1])
        start = torch.empty(module.A.shape).uniform_(-bound, bound, generator=generator)
        module.A.data.copy_(start)


def uniform_start(wrapped: Any, _tokenizer: Any, _inputs: MethodInputs, a_seed: int) -> None:
    """Draw A as LoRA does; B is zero."""
    draw_a_matrices(wrapped, a_seed)


def quiet_start(wrapped: Any, tokenizer: Any, inputs: MethodInputs, _a_seed: int) -> None:
    """Let A's rows span the directions in which the neighbours' module inputs have least energy; B is zero.

    The rows are orthonormal. Nothing is drawn: what A starts from is the other tasks.

    Raises
    ------
    StartError
        There are no neighbours.

    References
    ----------
    Zhang and Zhou, "Unraveling LoRA Interference: Orthogonal Subspaces for Robust Model Merging" (arXiv 2505.22934).
    """
    if not inputs.neighbours:
        raise StartError(
            "the OSRM start needs rows of other tasks, and there are none; "
            "give the recipe a group that holds adapters of further domains."
        )
    modules = adapted_modules(wrapped)
    moments = input_moments(wrapped.get_base_model(), tokenizer, inputs.neighbours, modules)
    for names, moment in moments.by_reader():
        for name in names:
            module = modules[name]
            module.A.data.copy_(quiet_directions(moment, module.A.shape[0]))


def sparse_start(wrapped: Any, _tokenizer: Any, _inputs: MethodInputs, a_seed: int) -> None:
    """Draw a sparse A and freeze it: a quarter of each row's entries, normal with deviation 1/r; B is zero.

    This is FlyLoRA without its input-dependent choice of ranks, which no engine can serve.

    References
    ----------
    Zou et al., "FlyLoRA" (arXiv 2510.08396), Section 3.
    """
    generator = Generator().manual_seed(a_seed)
    for module in adapted_modules(wrapped).values():
        module.A.data.copy_(_sparse_matrix(module.A.shape, generator))
        module.A.requires_grad_(False)


def random_factors(wrapped: Any, _tokenizer: Any, inputs: MethodInputs, a_seed: int) -> None:
    """Draw both factors, and scale B so that each module's update has the norm that is asked for.

    Raises
    ------
    StartError
        No norm is given for a module.
    """
    generator = Generator().manual_seed(a_seed)
    for name, module in adapted_modules(wrapped).items():
        if name not in inputs.norms:
            raise StartError(
                f"a random adapter needs the norm of {name!r}, and the named adapter has none there; "
                "give both recipes the same modules."
            )
        down = torch.randn(module.A.shape, generator=generator) / math.sqrt(module.A.shape[1])
        up = torch.randn(module.B.shape, generator=generator)
        norm = module.scale * float(((up.T @ up) * (down @ down.T)).sum().sqrt())
        module.A.data.copy_(down)
        module.B.data.copy_(up * (inputs.norms[name] / norm))


def _sparse_matrix(shape: torch.Size, generator: Generator) -> Tensor:
    """Return (r, d_in) with the same number of non-zero entries in each row."""
    rank, width = shape
    num_kept = max(1, round(SPARSE_SHARE * width))
    matrix = torch.zeros(shape)
    for row in matrix:
        places = torch.randperm(width, generator=generator)[:num_kept]
        row[places] = torch.randn(num_kept, generator=generator) / rank
    return matrix
