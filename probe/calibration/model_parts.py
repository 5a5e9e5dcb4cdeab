"""Where to listen inside a causal language model: its blocks and the linear modules in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from probe.calibration.errors import CalibrationError
from probe.layers import place_of

Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]
"""A forward hook of torch: (module, inputs, output) -> new output, or None to keep it."""


def block_linears(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, nn.Linear]:
    """Return the linear modules inside the numbered blocks, in the model's order.

    Parameters
    ----------
    names
        The modules wanted; None is every one.

    Raises
    ------
    CalibrationError
        A name is none of them, or the model has none at all.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and place_of(name).layer is not None
    }
    if not found:
        raise CalibrationError(
            f"{type(model).__name__} has no linear module inside numbered blocks; pass a decoder such as Llama."
        )
    if names is None:
        return found
    wanted = set(names)
    if unknown := sorted(wanted - found.keys()):
        raise CalibrationError(
            f"{unknown[0]!r} is no linear module of a numbered block; expected names such as {next(iter(found))!r}."
        )
    return {name: module for name, module in found.items() if name in wanted}


def blocks(model: nn.Module) -> dict[int, nn.Module]:
    """Return block number -> block, whose output is the residual stream after it."""
    found: dict[int, nn.Module] = {}
    for name, module in model.named_modules():
        layer = place_of(name).layer
        if layer is not None and name.endswith(f".{layer}"):
            found.setdefault(layer, module)
    return found


@contextmanager
def forward_hooks(hooks: Iterable[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Set forward hooks, and remove each of them in the end, whatever happens."""
    with ExitStack() as stack:
        for module, hook in hooks:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


@contextmanager
def block_outputs(model: nn.Module, on_output: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Listen to the residual stream: `on_output` gets block numbers and hidden states (b, T, d) without their graph."""

    def listening(number: int) -> Hook:
        def listen(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
            on_output(number, (output[0] if isinstance(output, tuple) else output).detach())

        return listen

    with forward_hooks((block, listening(number)) for number, block in blocks(model).items()):
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off; every module gets its own training flag back."""
    flags: Mapping[nn.Module, bool] = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag
