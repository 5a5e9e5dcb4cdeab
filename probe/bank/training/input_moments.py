"""Second moments of what adapted modules read, and the directions in which they read least."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from probe.bank.training.wrapping import AdaptedModule
from probe.calibration.examples import Batch, Examples, encode_examples
from probe.calibration.model_parts import forward_hooks
from probe.reference import hidden_states
from probe.rows import Row


class InputMoments:
    """Sums of x x^T over tokens; modules that read the very same tensor, as q, k and v do, share theirs."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._readers: dict[str, list[str]] = {}
        self._latest: tuple[Tensor, str] | None = None

    def by_reader(self) -> Iterator[tuple[Sequence[str], Tensor]]:
        """Yield (modules, sum of x x^T (d_in, d_in), float32) of each distinct input."""
        for source, moment in self._sums.items():
            yield self._readers[source], moment

    def add(self, name: str, x: Tensor, tokens: Tensor) -> None:
        """Take what module `name` reads, (b, T, d_in); `tokens` are the positions in (b T) that are no padding."""
        if self._latest is not None and self._latest[0] is x:
            readers = self._readers[self._latest[1]]
            if name not in readers:
                readers.append(name)
            return
        self._latest = (x, name)
        self._readers.setdefault(name, [name])
        kept = x.detach().flatten(0, 1)[tokens.to(x.device)].float()
        total = self._sums.setdefault(name, kept.new_zeros(kept.shape[1], kept.shape[1]))
        total.addmm_(kept.T, kept)


def input_moments(
    model: Any, tokenizer: Any, rows: Sequence[Row], modules: Mapping[str, AdaptedModule]
) -> InputMoments:
    """Run `rows` forward once and add up what each module reads.

    Parameters
    ----------
    model
        A base model with an adapter on it that changes nothing yet.
    modules
        Name -> adapted module.
    """
    examples = encode_examples(tokenizer, rows)
    moments = InputMoments()
    with torch.no_grad():
        for batch in examples.batches():
            with _listening(moments, modules, _token_places(batch, examples)):
                hidden_states(model, batch.rows, examples.pad_id)
    return moments


def quiet_directions(moment: Tensor, rank: int) -> Tensor:
    """Return the `rank` orthonormal directions of least energy, (rank, d), as rows, least first."""
    # In float64: the least eigenvalues are many orders below the greatest.
    vectors: Tensor = torch.linalg.eigh(moment.double()).eigenvectors
    return vectors[:, :rank].T.float()


def _token_places(batch: Batch, examples: Examples) -> Tensor:
    return batch.flat(examples.positions())


@contextmanager
def _listening(moments: InputMoments, modules: Mapping[str, AdaptedModule], tokens: Tensor) -> Iterator[None]:
    def listener(name: str) -> Any:
        def listen(_module: Any, inputs: tuple[Any, ...], _output: Any) -> None:
            moments.add(name, inputs[0], tokens)

        return listen

    with forward_hooks((module.layer, listener(name)) for name, module in modules.items()):
        yield
