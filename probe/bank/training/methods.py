"""The training methods of a bank, one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from probe.bank.training.objectives import PREFERENCE, SUPERVISED, Objective
from probe.bank.training.settings import MethodName
from probe.bank.training.starts import MethodInputs, quiet_start, random_factors, sparse_start, uniform_start


@dataclass(frozen=True, slots=True)
class Method:
    """A way to come by an adapter.

    Attributes
    ----------
    start
        (PEFT model, tokenizer, inputs, A seed) -> nothing; fills the factors and freezes what is not trained.
    objective
        What training lowers; None is an adapter that is never trained.
    """

    start: Callable[[Any, Any, MethodInputs, int], None]
    objective: Objective | None


METHODS: Mapping[MethodName, Method] = {
    "sft": Method(uniform_start, SUPERVISED),
    "dpo": Method(uniform_start, PREFERENCE),
    "osrm": Method(quiet_start, SUPERVISED),
    "flylora": Method(sparse_start, SUPERVISED),
    "random": Method(random_factors, None),
}
