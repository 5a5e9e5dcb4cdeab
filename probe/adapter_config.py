"""The parts of a PEFT `adapter_config.json` that decide what the update is; everything unsupported is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from probe.base_model import BaseShapes
from probe.records import MergeProbeError

REFUSED_OPTIONS: Mapping[str, str] = {
    "bias": "its trained biases are no part of a low-rank update",
    "lora_bias": "its trained biases are no part of a low-rank update",
    "modules_to_save": "it replaces whole base modules",
    "trainable_token_indices": "it replaces embedding rows",
    "target_parameters": "it changes parameters that are no linear modules",
    "layer_replication": "it changes the base model's layers",
    "megatron_config": "its tensors are sharded by Megatron",
    "fan_in_fan_out": "its factors are transposed",
    "alora_invocation_tokens": "it acts on a part of the prompt only",
    "monteclora_config": "its update is sampled, not fixed",
    "arrow_config": "it routes among several adapters",
    "kasa_config": "its update is not B A alone",
}
"""Option -> why an adapter that sets it is refused. Any `use_...` option but `use_rslora` is refused as well."""

BASE_CHANGING_INITS = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initialisations that alter the base weights: such factors are right over the altered base only."""


Number = TypeVar("Number", int, float)


class AdapterError(MergeProbeError):
    """An adapter cannot be used as it is.

    Attributes
    ----------
    field
        What is wrong, such as "adapter_config.use_dora" or "tensors".
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message, field)  # both, so that the error survives pickling between processes
        self.field = field

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Rank and scale of every module, and the base that the adapter was trained on (None: it does not say)."""

    rank: int
    alpha: float
    is_rank_stabilised: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    base_name: str | None

    @property
    def scaling(self) -> float:
        """The declared scale, alpha/r or alpha/sqrt(r), that modules outside the patterns have."""
        return self.alpha / self._divisor(self.rank)

    def rank_of(self, module: str) -> int:
        """Return the declared rank of a module."""
        return _matching(self.rank_pattern, module, self.rank)

    def scale_of(self, module: str) -> float:
        """Return alpha/r, or alpha/sqrt(r) for rank-stabilised LoRA (arXiv 2312.03732)."""
        return _matching(self.alpha_pattern, module, self.alpha) / self._divisor(self.rank_of(module))

    def _divisor(self, rank: int) -> float:
        return math.sqrt(rank) if self.is_rank_stabilised else rank


def _matching(pattern: Mapping[str, Number], module: str, default: Number) -> Number:
    """Look a module up as PEFT does: the first key that, as a regular expression, matches the end of its name."""
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def parse_config(raw: object) -> AdapterConfig:
    """Check a parsed `adapter_config.json` and return what matters of it.

    Raises
    ------
    AdapterError
        The config is no object, lacks or misstates a field, or uses an option that MergeProbe does not support.
    """
    if not isinstance(raw, dict):
        raise AdapterError(f"adapter_config.json: expected a JSON object, got {type(raw).__name__}.", "adapter_config")
    _check_kind(raw)
    _check_options(raw)
    return AdapterConfig(
        rank=_positive_int(raw.get("r"), "r"),
        alpha=_positive_number(raw.get("lora_alpha"), "lora_alpha"),
        is_rank_stabilised=_flag(raw.get("use_rslora"), "use_rslora"),
        rank_pattern={key: _positive_int(v, "rank_pattern") for key, v in _pattern(raw, "rank_pattern").items()},
        alpha_pattern={key: _positive_number(v, "alpha_pattern") for key, v in _pattern(raw, "alpha_pattern").items()},
        base_name=_base_name(raw.get("base_model_name_or_path")),
    )


def check_base(config: AdapterConfig, base: BaseShapes) -> None:
    """Refuse an adapter that names another base, or none.

    Raises
    ------
    AdapterError
        With field "adapter_config.base_model_name_or_path".
    """
    if config.base_name is None or not base.accepts(config.base_name):
        raise _refusal(
            "base_model_name_or_path",
            f"is {config.base_name!r}, but this bank serves {base.name!r}; "
            "train on that base, or correct the name if it is the same model",
        )


def _check_kind(raw: Mapping[str, object]) -> None:
    if raw.get("peft_type") != "LORA":
        raise _refusal("peft_type", f"is {raw.get('peft_type')!r}, expected 'LORA'; only LoRA adapters can be merged")
    if raw.get("task_type") not in (None, "CAUSAL_LM"):
        raise _refusal("task_type", f"is {raw['task_type']!r}, expected 'CAUSAL_LM' or null")
    if not isinstance(raw.get("target_modules"), str | list) or not raw["target_modules"]:
        raise _refusal("target_modules", f"is {raw.get('target_modules')!r}, expected module names; PEFT writes them")


def _check_options(raw: Mapping[str, object]) -> None:
    for option, value in raw.items():
        is_unknown_variant = option.startswith("use_") and option != "use_rslora"
        is_set = bool(value) and value != "none"
        if is_set and (option in REFUSED_OPTIONS or is_unknown_variant):
            reason = REFUSED_OPTIONS.get(option, "it is another method than plain LoRA")
            raise _refusal(option, f"is {value!r}, which is not supported: {reason}; train without it")
    init = str(raw.get("init_lora_weights")).lower()
    if init.startswith(BASE_CHANGING_INITS):
        raise _refusal("init_lora_weights", f"is {init!r}, which alters the base; convert to plain LoRA when saving")


def _refusal(option: str, what: str) -> AdapterError:
    return AdapterError(f"adapter_config.json: {option} {what}.", f"adapter_config.{option}")


def _flag(value: object, option: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise _refusal(option, f"is {value!r}, expected true or false")
    return bool(value)


def _positive_int(value: object, option: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refusal(option, f"is {value!r}, expected a whole number of 1 or more")
    return value


def _positive_number(value: object, option: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise _refusal(option, f"is {value!r}, expected a positive number")
    return float(value)


def _pattern(raw: Mapping[str, object], option: str) -> Mapping[str, object]:
    pattern = raw.get(option) or {}
    if not isinstance(pattern, dict):
        raise _refusal(option, f"is {pattern!r}, expected an object of module pattern -> value")
    for key in pattern:
        try:
            re.compile(rf"(.*\.)?({key})$")
        except re.error as error:
            raise _refusal(option, f"has the key {key!r}, which is no regular expression ({error})") from error
    return pattern


def _base_name(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _refusal("base_model_name_or_path", f"is {value!r}, expected a string")
    return value or None
