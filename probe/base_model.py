"""Shapes of a base model's linear modules, read from safetensors headers without loading a tensor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from probe.records import MergeProbeError

SINGLE_FILE = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"


class BaseModelError(MergeProbeError):
    """The folder does not hold a base model whose shapes can be read."""


@dataclass(frozen=True, slots=True)
class BaseShapes:
    """What an adapter must fit: the base model's names and the shapes of its weight matrices.

    Attributes
    ----------
    name
        The name that adapters give in `base_model_name_or_path`, usually a hub id.
    aliases
        Further accepted names, such as a local folder.
    modules
        Module name, such as "model.layers.0.self_attn.q_proj", -> (d_out, d_in).
    """

    name: str
    aliases: tuple[str, ...]
    modules: Mapping[str, tuple[int, int]]

    def accepts(self, name: str) -> bool:
        """Say whether `name` means this base: equal to a name or to its last path component, in any case."""
        return any(_same_name(name, own) for own in (self.name, *self.aliases))


def _same_name(first: str, second: str) -> bool:
    first, second = (name.strip().rstrip("/").casefold() for name in (first, second))
    return first == second or first.rsplit("/", 1)[-1] == second.rsplit("/", 1)[-1]


def read_base_shapes(folder: Path | str, name: str, aliases: tuple[str, ...] = ()) -> BaseShapes:
    """Read the shapes of all two-dimensional ".weight" tensors of a safetensors model folder.

    Raises
    ------
    BaseModelError
        The folder has neither a single file nor a shard index, a file is damaged, or no matrix was found.
    """
    folder = Path(folder)
    modules = {module: shape for file in _weight_files(folder) for module, shape in _matrices(file)}
    if not modules:
        raise BaseModelError(f"Base model {folder}: no two-dimensional '.weight' tensor found; is this a causal LM?")
    return BaseShapes(name=name, aliases=aliases, modules=modules)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / SHARD_INDEX).is_file():
        return [folder / shard for shard in _shards(folder / SHARD_INDEX)]
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    raise BaseModelError(
        f"Base model {folder}: expected {SINGLE_FILE} or {SHARD_INDEX}; save the model as safetensors first."
    )


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BaseModelError(f"{index}: expected a 'weight_map' ({error}); download it again.") from error


def _matrices(file: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                shape = tensors.get_slice(key).get_shape()
                if key.endswith(".weight") and len(shape) == 2:
                    yield key.removesuffix(".weight"), (shape[0], shape[1])
    except (OSError, SafetensorError) as error:
        raise BaseModelError(f"{file}: not a readable safetensors file ({error}); download it again.") from error
