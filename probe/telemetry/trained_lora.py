"""The LoRA adapter of a model that is being trained: found in its wrappings, checked, saved."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from probe.adapter_config import AdapterConfig, AdapterError, parse_config
from probe.adapter_io import CONFIG_FILE, TENSOR_FILE, TENSOR_KEY
from probe.records import MergeProbeError

WRAPPINGS = ("module", "_orig_mod")
"""Where DistributedDataParallel and torch.compile keep the model that they wrap."""


class TrainedModelError(MergeProbeError):
    """The model in training is no PEFT model with one active adapter whose tensors are whole."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedLora:
    """The one active LoRA adapter of a PEFT model; its tensors change as training goes on.

    Attributes
    ----------
    model
        The PEFT model, unwrapped.
    name
        The adapter's name in it.
    fields
        Its `adapter_config.json`.
    config
        What matters of that.
    """

    model: Any
    name: str
    fields: Mapping[str, Any]
    config: AdapterConfig

    @property
    def num_layers(self) -> int | None:
        """Blocks of the base model, where its config says so."""
        return getattr(self.model.get_base_model().config, "num_hidden_layers", None)

    def save(self, folder: Path) -> None:
        """Write the adapter as it is now, in PEFT's layout and its own dtype.

        Raises
        ------
        OSError
            The files cannot be written.
        """
        # Not PEFT's save_pretrained: it may ask the hub whether the vocabulary has grown.
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in self.tensors().items()}
        try:
            save_file(tensors, folder / TENSOR_FILE, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"{folder / TENSOR_FILE} cannot be written: {error}") from error
        (folder / CONFIG_FILE).write_text(json.dumps(self.fields, indent=2) + "\n", encoding="utf-8")

    def tensors(self) -> dict[str, Tensor]:
        """Return the live tensors under the names of PEFT's files."""
        with warnings.catch_warnings():
            # Of sharded tensors, which `trained_lora` refuses by name.
            warnings.filterwarnings("ignore", ".*have invalid shape")
            state = get_peft_model_state_dict(self.model, adapter_name=self.name, save_embedding_layers=False)
        # Regional compilation wraps single blocks.
        return {key.replace("_orig_mod.", ""): tensor for key, tensor in state.items()}


def trained_lora(model: Any) -> TrainedLora:
    """Find the LoRA adapter that is being trained.

    Parameters
    ----------
    model
        A `peft.PeftModel`, possibly wrapped by DistributedDataParallel or torch.compile.

    Raises
    ------
    TrainedModelError
        It is no PEFT model, several adapters are active, or the tensors are sharded.
    AdapterError
        The adapter is of a kind that MergeProbe does not support, such as DoRA.
    """
    peft_model = _unwrapped(model)
    names = list(peft_model.active_adapters)
    if len(names) != 1:
        raise TrainedModelError(f"The active adapters are {names}, expected one; call set_adapter before training.")
    fields = _config_fields(peft_model, names[0])
    lora = TrainedLora(peft_model, names[0], fields, parse_config(fields))
    _check_tensors(lora.tensors())
    return lora


def _unwrapped(model: Any) -> Any:
    inner = model
    while not isinstance(inner, PeftModel):
        # A base model may have a submodule of its own called so; what counts is only whether PEFT lies below.
        wrapped = next((found for name in WRAPPINGS if (found := getattr(inner, name, None)) is not None), None)
        if wrapped is None:
            raise TrainedModelError(
                f"The model is a {type(model).__name__}, expected a PEFT model with a LoRA adapter; "
                "wrap it with peft.get_peft_model before it goes to the Trainer (with TRL, give `peft_config`)."
            )
        inner = wrapped
    return inner


def _config_fields(model: Any, name: str) -> dict[str, Any]:
    config = model.peft_config[name]
    # PEFT holds module names in sets, whose order would change the revision from run to run.
    fields: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=_plain))
    base_name = fields.get("base_model_name_or_path") or getattr(model.get_base_model().config, "name_or_path", None)
    return fields | {"base_model_name_or_path": base_name or None, "inference_mode": True}


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def _check_tensors(tensors: Mapping[str, Tensor]) -> None:
    if not tensors:
        raise TrainedModelError("The active adapter has no LoRA tensors; check its `target_modules`.")
    for key, tensor in tensors.items():
        if TENSOR_KEY.fullmatch(key) is None:
            raise AdapterError(
                f"Tensor {key!r} is no factor of a linear module, and only those can be merged; "
                "leave its module out of `target_modules`.",
                "tensors",
            )
        # ZeRO-3 leaves empty tensors behind, FSDP tensors that know only a part of themselves.
        if tensor.dim() != 2 or hasattr(tensor, "to_local"):
            raise TrainedModelError(
                f"Tensor {key!r} is sharded ({type(tensor).__name__}, shape {tuple(tensor.shape)}), expected a whole "
                "matrix on every process; train with DDP or ZeRO-2, or without this callback."
            )
