"""A base model with a fresh adapter on it, and the adapter's layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn import Parameter

from probe.bank.training.settings import Precision, Training
from probe.embedded import EMBEDDED_NAME
from probe.reference import quiet_peft

PREFIX = "base_model.model."
"""What PEFT puts before the base model's module names."""


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedModule:
    """One adapted module: its PEFT layer, and the factors in it, which change as training goes on."""

    layer: Any

    @property
    def A(self) -> Parameter:  # noqa: N802 - what every LoRA paper calls it
        """(r, d_in)."""
        weight: Parameter = self.layer.lora_A["default"].weight
        return weight

    @property
    def B(self) -> Parameter:  # noqa: N802
        """(d_out, r), without the scale."""
        weight: Parameter = self.layer.lora_B["default"].weight
        return weight

    @property
    def scale(self) -> float:
        """Alpha / r."""
        return float(self.layer.scaling["default"])


@contextmanager
def wrapped_base(model: Any, training: Training) -> Iterator[Any]:
    """Yield a PEFT model with an adapter whose B is zero, and give `model` back as it was.

    With bfloat16 the adapter sits on a copy of the base that lives no longer than the block.
    """
    base = base_in(model, training.precision)
    with quiet_peft():
        wrapped = get_peft_model(base, training.lora_config())
    # PEFT writes the folder that the base was read from, which differs from machine to machine.
    wrapped.peft_config["default"].base_model_name_or_path = EMBEDDED_NAME
    try:
        yield wrapped
    finally:
        wrapped.unload().__dict__.pop("peft_config", None)
        base.requires_grad_(False)
        base.eval()


def base_in(model: Any, precision: Precision) -> Any:
    """Return `model` itself for float32, else a copy with bfloat16 weights that shares nothing with it.

    Buffers keep their dtype: the rotary frequencies lose long positions in bfloat16.
    """
    if precision == "float32":
        return model
    halves: dict[int, Any] = {
        id(weight): Parameter(weight.detach().to(torch.bfloat16), requires_grad=False) for weight in model.parameters()
    }
    return copy.deepcopy(model, halves)


def adapted_modules(wrapped: Any) -> Mapping[str, AdaptedModule]:
    """Return base module name -> its adapter's part, by name."""
    layers = ((name, module) for name, module in wrapped.named_modules() if isinstance(module, LoraLayer))
    return {name.removeprefix(PREFIX): AdaptedModule(layer) for name, layer in sorted(layers, key=lambda pair: pair[0])}


def factors_of(wrapped: Any) -> dict[str, Tensor]:
    """Return the factors under the names of PEFT's files, bfloat16, on the CPU."""
    tensors: dict[str, Tensor] = {}
    for name, module in adapted_modules(wrapped).items():
        for side, factor in (("A", module.A), ("B", module.B)):
            tensors[f"{PREFIX}{name}.lora_{side}.weight"] = factor.detach().to("cpu", torch.bfloat16)
    return tensors
