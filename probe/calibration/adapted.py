"""A base model with an update in memory on top: no adapter folder, and the model's modules stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear

from probe.calibration.errors import CalibrationError
from probe.calibration.model_parts import Hook, forward_hooks
from probe.factors import LoraFactor, LoraUpdate


@contextmanager
def adapted(model: nn.Module, update: LoraUpdate) -> Iterator[None]:
    """Add an update to the model's linear modules while the block runs: y += (x A^T) B^T.

    Factors take the dtype and the device of the weights that they go with. Updates nest: inside another `adapted`
    both count.

    Raises
    ------
    CalibrationError
        The model has no linear module of that name and shape. No hook is set then.
    """
    hooks = [(linear_of(model, name, factor), factor) for name, factor in update.factors.items()]
    with forward_hooks((module, _adding(module, factor)) for module, factor in hooks):
        yield


def linear_of(model: nn.Module, name: str, factor: LoraFactor) -> nn.Linear:
    """Return the linear module that a factor is for.

    Raises
    ------
    CalibrationError
        The model has no linear module of that name and shape.
    """
    try:
        module = model.get_submodule(name)
    except AttributeError:
        module = None
    if not isinstance(module, nn.Linear):
        raise CalibrationError(
            f"the update adapts {name!r}, which is no linear module of this {type(model).__name__}; "
            "load the base model that the adapter was trained on."
        )
    shape = (module.out_features, module.in_features)
    if factor.shape != shape:
        raise CalibrationError(
            f"the update of {name!r} is {factor.shape}, but the module is {shape} (d_out, d_in); "
            "load the base model that the adapter was trained on."
        )
    return module


def _adding(module: nn.Linear, factor: LoraFactor) -> Hook:
    B, A = factor.B.to(module.weight), factor.A.to(module.weight)  # noqa: N806 - as every LoRA paper calls them

    def add(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + linear(linear(inputs[0], A), B)

    return add
