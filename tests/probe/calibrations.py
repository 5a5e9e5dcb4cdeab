"""Random calibrations: any module shapes, no base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from probe.profiles import Calibration, LayerActivations, ModuleCalibration
from tests import tiny

SKETCH = 6
"""Width of gradient sketches."""


def random_calibration(
    seed: int,
    shapes: Mapping[str, tuple[int, int]] = tiny.SHAPES,
    num_directions: int = 3,
    num_layers: int = tiny.NUM_LAYERS,
) -> Calibration:
    """Return a calibration of every module of `shapes`: Gaussian sketches, orthonormal directions, positive energies.

    The inputs have more energy along the directions than along any other; both Fisher marginals have one total.
    """
    generator = torch.Generator().manual_seed(seed)
    return Calibration(
        modules={name: _module(shape, num_directions, generator) for name, shape in shapes.items()},
        layers={layer: _layer(num_directions, generator) for layer in range(num_layers)},
        loss=1.0,
        base_loss=2.0,
        base_accuracy=0.5,
        base_gradients={name: torch.randn(SKETCH, SKETCH, generator=generator) for name in shapes},
        num_rows=8,
        num_tokens=64,
        seed=seed,
    )


def with_module(calibration: Calibration, name: str, **changes: object) -> Calibration:
    """Return a calibration in which one module's fields are replaced."""
    changed = replace(calibration.modules[name], **changes)  # type: ignore[arg-type]
    return replace(calibration, modules={**calibration.modules, name: changed})


def _module(shape: tuple[int, int], num_directions: int, generator: torch.Generator) -> ModuleCalibration:
    d_out, d_in = shape
    f_out, f_in = torch.rand(d_out, generator=generator), torch.rand(d_in, generator=generator)
    return ModuleCalibration(
        f_out=f_out,
        f_in=f_in * f_out.sum() / f_in.sum(),
        gradient=torch.randn(SKETCH, SKETCH, generator=generator),
        P_in=_orthonormal(d_in, num_directions, generator),
        energy_in=_energies(num_directions, generator),
        floor_in=0.1 + float(torch.rand((), generator=generator)),
    )


def _layer(num_directions: int, generator: torch.Generator) -> LayerActivations:
    return LayerActivations(
        P=_orthonormal(tiny.HIDDEN, num_directions, generator), energy=_energies(num_directions, generator)
    )


def _orthonormal(size: int, num_columns: int, generator: torch.Generator) -> Tensor:
    basis: Tensor = torch.linalg.qr(torch.randn(size, num_columns, generator=generator))[0]
    return basis


def _energies(num_directions: int, generator: torch.Generator) -> Tensor:
    return 2 + torch.rand(num_directions, generator=generator).sort(descending=True).values * 5
