"""Where a module sits in the base model: its layer, its kind, and the groups that statistics are summarised over."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

BANDS = ("lower", "middle", "upper")
"""Thirds of the depth (arXiv 2606.19549, Appendix E)."""
KINDS = ("q", "k", "v", "o", "mlp")
GROUPS = ("all", *BANDS, *KINDS)
"""What every per-layer statistic is summarised over, in the order of the feature vector."""

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)(?:\.|$)")
_KINDS = (
    ("q", ("q_proj", "query", "wq", "q_lin")),
    ("k", ("k_proj", "key", "wk", "k_lin")),
    ("v", ("v_proj", "value", "wv", "v_lin")),
    ("o", ("o_proj", "wo", "out_lin", "out_proj")),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A module's place: `layer` is None outside the numbered blocks; `kind` is one of `KINDS` or None."""

    layer: int | None
    kind: str | None

    def groups(self, num_layers: int) -> tuple[str, ...]:
        """Return the groups of `GROUPS` that the module belongs to, in a model of `num_layers` blocks."""
        band = () if self.layer is None else (band_of(self.layer, num_layers),)
        return ("all", *band, *(() if self.kind is None else (self.kind,)))


def place_of(module: str) -> Place:
    """Read a module's place off its name, such as ``model.layers.3.self_attn.q_proj``."""
    layer = _LAYER.search(module)
    last = module.rsplit(".", 1)[-1]
    kind = next((kind for kind, names in _KINDS if last in names), None)
    if kind is None and ("mlp" in module or "feed_forward" in module or last in ("fc1", "fc2", "w1", "w2", "w3")):
        kind = "mlp"
    return Place(int(layer[1]) if layer else None, kind)


def band_of(layer: int, num_layers: int) -> str:
    """Return the third of the depth that a layer lies in.

    Raises
    ------
    ValueError
        The layer is not one of `num_layers`.
    """
    if not 0 <= layer < num_layers:
        raise ValueError(f"layer {layer} is outside a model of {num_layers} layers")
    return BANDS[3 * layer // num_layers]


def num_layers_of(modules: Iterable[str]) -> int:
    """Return one more than the largest layer number seen, at least 1: the depth, if the last layer is adapted."""
    return 1 + max((place.layer for place in map(place_of, modules) if place.layer is not None), default=0)
