"""The calibration pass against dense oracles, on a tiny random Llama."""

# ruff: noqa: N806 - B, A, G and the like are what the mathematics calls these matrices

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer

import probe.reference
from probe.calibration import CalibrationError, calibrate, calibrate_base
from probe.calibration import sketch as sketches
from probe.calibration.examples import encode_examples
from probe.calibration.model_parts import block_linears
from probe.factors import LoraFactor, LoraUpdate, scaled
from probe.layers import place_of
from probe.rows import Row
from tests import tiny
from tests.probe.calibration_oracles import (
    LINEARS,
    ROWS,
    assert_same,
    dense_gradients,
    merged,
    num_hooks,
    row_losses,
    stream,
)
from tests.probe.test_reference import write_character_base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_character_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def update(folder: Path) -> LoraUpdate:
    linears = block_linears(AutoModelForCausalLM.from_pretrained(folder))
    shapes = {n: (m.out_features, m.in_features) for n, m in linears.items() if place_of(n).kind in ("q", "v", "mlp")}
    return scaled(tiny.random_update(1, 3, shapes), 0.02)


def test_fisher_marginals_are_those_of_each_rows_dense_gradient(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    seen = calibrate(model, tokenizer, ROWS, update)
    gradients = dense_gradients(merged(model, update), tokenizer)
    assert list(seen.modules) == list(gradients) == LINEARS
    for name, G in gradients.items():
        fisher = G.square().mean(dim=0)
        torch.testing.assert_close(seen.modules[name].f_out, fisher.sum(1), rtol=1e-3, atol=1e-9)
        torch.testing.assert_close(seen.modules[name].f_in, fisher.sum(0), rtol=1e-3, atol=1e-9)


def test_sketches_are_those_of_the_mean_dense_gradient(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    seen = calibrate(model, tokenizer, ROWS, update)
    at_base = dense_gradients(model, tokenizer)
    under_adapter = dense_gradients(merged(model, update), tokenizer)
    for name in LINEARS:
        d_out, d_in = at_base[name].shape[1:]
        S_out = sketches.gaussian(f"{sketches.SKETCH_SCHEMA}|out|{name}", d_out)
        S_in = sketches.gaussian(f"{sketches.SKETCH_SCHEMA}|in|{place_of(name).layer}", d_in)
        for own, G in ((seen.modules[name].gradient, under_adapter), (seen.base_gradients[name], at_base)):
            torch.testing.assert_close(own, S_out.T @ G[name].mean(0) @ S_in, rtol=1e-3, atol=1e-6)


def test_inner_products_of_sketches_are_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    G, H = torch.randn(20, 12, generator=generator), torch.randn(20, 12, generator=generator)
    H = H + G
    seen = []
    for seed in range(2000):
        S_out, S_in = sketches.gaussian(f"out {seed}", 20, 8), sketches.gaussian(f"in {seed}", 12, 8)
        seen.append(((S_out.T @ G @ S_in) * (S_out.T @ H @ S_in)).sum())
    values = torch.stack(seen)
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean()) - float((G * H).sum())) < 3 * error
    assert error < 0.05 * float((G * H).sum())


def test_losses_and_accuracy_are_those_of_single_rows(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    seen = calibrate(model, tokenizer, ROWS, update)
    assert seen.base_loss == pytest.approx(float(row_losses(model, tokenizer).detach().mean()), rel=1e-5)
    assert seen.loss == pytest.approx(float(row_losses(merged(model, update), tokenizer).detach().mean()), rel=1e-5)
    assert (seen.num_rows, seen.num_tokens) == (5, sum(len(r.prompt) - 20 + len(r.answer) + 1 for r in ROWS))


def test_base_accuracy_counts_rows_whose_every_token_is_the_argmax(model: Any, tokenizer: Any) -> None:
    by_row = [probe.reference.answer_rows(model, tokenizer, [row])[0].is_argmax for row in ROWS]
    assert calibrate_base(model, tokenizer, ROWS).accuracy == sum(map(bool, by_row)) / 5 == 0
    # A model whose output is one constant vector of logits says the end token everywhere, so empty answers are right.
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias = torch.nn.Parameter(torch.eye(len(tokenizer))[tokenizer.eos_token_id])
    rows = [*ROWS, Row("<|im_start|>", "", "forced")]
    assert calibrate_base(model, tokenizer, rows).accuracy == pytest.approx(1 / 6)


def test_stream_directions_are_the_principal_components_without_first_tokens(
    model: Any, tokenizer: Any, update: LoraUpdate
) -> None:
    seen = calibrate(model, tokenizer, ROWS, update, num_directions=6, num_sampled_tokens=1000)
    merged(model, update)
    per_row = [stream(model, tokenizer, row) for row in ROWS]
    for number, layer in seen.layers.items():
        tokens = torch.cat([row[number][1:] for row in per_row]).double()
        _, s, vh = torch.linalg.svd(tokens - tokens.mean(0), full_matrices=False)
        torch.testing.assert_close(layer.energy.double(), s[:6].square() / len(tokens), rtol=1e-3, atol=0)
        torch.testing.assert_close((layer.P @ layer.P.T).double(), vh[:6].T @ vh[:6], rtol=0, atol=1e-3)


def test_input_directions_are_those_of_the_second_moment(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    seen = calibrate(model, tokenizer, ROWS, update, num_directions=5, num_sampled_tokens=1000)
    merged(model, update)
    inputs: dict[str, list[Tensor]] = {name: [] for name in LINEARS}
    for name, module in block_linears(model).items():
        module.register_forward_hook(lambda _m, args, _o, name=name: inputs[name].append(args[0][0].detach()))
    row_losses(model, tokenizer)
    for name, parts in inputs.items():
        tokens, own = torch.cat(parts).double(), seen.modules[name]
        moment = tokens.T @ tokens / len(tokens)
        values, vectors = (part.flip(-1) for part in torch.linalg.eigh(moment))
        torch.testing.assert_close(own.energy_in.double(), values[:5], rtol=1e-3, atol=0)
        torch.testing.assert_close(own.P_in.T @ own.P_in, torch.eye(5), rtol=0, atol=1e-5)
        assert own.floor_in == pytest.approx(float(values[5:].mean()), rel=1e-3)
        kept = (own.P_in.double().T @ vectors[:, :5]).svd().S
        assert float(kept.min()) > 1 - 1e-3


def test_fewer_tokens_than_directions_give_fewer_directions(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    seen = calibrate(model, tokenizer, ROWS, update, num_sampled_tokens=4)
    # What the first block reads are embeddings, alike where tokens are: they may span even less.
    assert {m.P_in.shape[1] for name, m in seen.modules.items() if ".1." in name} == {4}
    assert max(m.P_in.shape[1] for m in seen.modules.values()) == 4
    # Centred vectors span one direction less.
    assert {tuple(layer.P.shape) for layer in seen.layers.values()} == {(32, 3)}


def test_other_factors_of_the_same_update_change_nothing(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    gauge = torch.tensor([[2.0, 1.0, 0.0], [0.0, -1.0, 3.0], [0.5, 0.0, 1.0]])
    other = LoraUpdate(
        {name: LoraFactor(f.B @ gauge, torch.linalg.inv(gauge) @ f.A) for name, f in update.factors.items()}
    )
    assert_same(calibrate(model, tokenizer, ROWS, other), calibrate(model, tokenizer, ROWS, update), 1e-3)


def test_batches_and_their_padding_change_nothing(
    model: Any, tokenizer: Any, update: LoraUpdate, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = calibrate(model, tokenizer, ROWS, update, num_directions=4)
    assert len(encode_examples(tokenizer, ROWS).batches()) == 1
    monkeypatch.setattr("probe.calibration.examples.BATCH_TOKENS", 1)
    assert len(encode_examples(tokenizer, ROWS).batches()) == len(ROWS)
    assert_same(together, calibrate(model, tokenizer, ROWS, update, num_directions=4), 1e-3)


def test_the_base_part_serves_every_checkpoint(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    base = calibrate_base(model, tokenizer, ROWS)
    assert_same(
        calibrate(model, tokenizer, ROWS, update, base=base), calibrate(model, tokenizer, ROWS, update), tolerance=0
    )


def test_the_same_seed_gives_the_same_and_another_one_other_tokens(
    model: Any, tokenizer: Any, update: LoraUpdate
) -> None:
    first, again, other = (
        calibrate(model, tokenizer, ROWS, update, num_sampled_tokens=8, seed=seed) for seed in (0, 0, 1)
    )
    assert_same(again, first, tolerance=0)
    energies = [c.modules[LINEARS[0]].energy_in for c in (first, other)]
    assert not torch.equal(*energies)


def test_a_bfloat16_model_gives_nearly_the_same_in_float32(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    wanted = calibrate(model, tokenizer, ROWS, update)
    seen = calibrate(model.bfloat16(), tokenizer, ROWS, update)
    assert seen.loss == pytest.approx(wanted.loss, rel=0.02)
    for name, module in seen.modules.items():
        tensors = (module.f_out, module.f_in, module.gradient, module.P_in, module.energy_in)
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
        assert module.fisher_total == pytest.approx(wanted.modules[name].fisher_total, rel=0.1)


def test_chosen_modules_alone_are_calibrated(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    chosen = [LINEARS[9], LINEARS[0]]
    seen = calibrate(model, tokenizer, ROWS, update, modules=chosen)
    everything = calibrate(model, tokenizer, ROWS, update)
    assert list(seen.modules) == list(seen.base_gradients) == [LINEARS[0], LINEARS[9]]
    for name in chosen:
        torch.testing.assert_close(seen.modules[name].gradient, everything.modules[name].gradient)
        torch.testing.assert_close(seen.modules[name].f_in, everything.modules[name].f_in)


def test_the_model_is_given_back_as_it_was(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    model.train()
    model.model.layers[1].eval()
    model.lm_head.requires_grad_(False)
    before = {name: (p.requires_grad, p.clone()) for name, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    num_threads = torch.get_num_threads()
    calibrate(model, tokenizer, ROWS, update)
    assert torch.get_num_threads() == num_threads
    assert [module.training for module in model.modules()] == modes
    assert num_hooks(model) == 0
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == before[name][0]
        assert torch.equal(parameter, before[name][1])
        assert parameter.grad is None


def test_hooks_are_gone_after_an_exception(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    def interrupt(_share: float) -> None:
        assert num_hooks(model) > 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(model, tokenizer, ROWS, update, base=calibrate_base(model, tokenizer, ROWS), on_progress=interrupt)
    assert num_hooks(model) == 0


def test_progress_rises_to_one(model: Any, tokenizer: Any, update: LoraUpdate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.calibration.examples.BATCH_TOKENS", 1)
    shares: list[float] = []
    calibrate(model, tokenizer, ROWS, update, on_progress=shares.append)
    assert shares == pytest.approx([step / 10 for step in range(1, 11)])


class _Shapes(TorchDispatchMode):
    """Keeps the last two axes of every tensor that torch makes, views of the model's weights apart."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor) and value.untyped_storage().data_ptr() not in self.weights:
                self.seen.add(tuple(value.shape[-2:]))
        return result


def test_no_gradient_matrix_is_ever_made(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    shapes = {(m.out_features, m.in_features) for m in block_linears(model).values()}
    batch, *_ = encode_examples(tokenizer, ROWS).batches()
    # Or an activation would have the shape of a weight by chance.
    assert batch.width not in {width for shape in shapes for width in shape}
    with _Shapes(model) as watch:
        calibrate(model, tokenizer, ROWS, update, num_directions=5)
    assert (batch.width, 48) in watch.seen
    assert not watch.seen & shapes


def broken(update: LoraUpdate) -> LoraUpdate:
    return scaled(update, float("nan"))


def test_misuse_is_refused_by_name(model: Any, tokenizer: Any, update: LoraUpdate) -> None:
    with pytest.raises(CalibrationError, match="no calibration rows"):
        calibrate(model, tokenizer, [], update)
    with pytest.raises(CalibrationError, match=r"row 1 has a loss of nan"):
        calibrate(model, tokenizer, ROWS[:1], broken(update))
    with pytest.raises(CalibrationError, match="'lm_head' is no linear module of a numbered block"):
        calibrate(model, tokenizer, ROWS, update, modules=["lm_head"])
    with pytest.raises(CalibrationError, match="other rows"):
        calibrate(model, tokenizer, ROWS, update, base=calibrate_base(model, tokenizer, ROWS[1:]))
    with pytest.raises(CalibrationError, match="lacks 13 modules"):
        calibrate(model, tokenizer, ROWS, update, base=calibrate_base(model, tokenizer, ROWS, modules=LINEARS[:1]))
    assert num_hooks(model) == 0


def test_a_tokenizer_without_end_token_is_refused(folder: Path, model: Any, update: LoraUpdate) -> None:
    endless = AutoTokenizer.from_pretrained(folder, eos_token=None)
    assert endless.eos_token_id is None
    with pytest.raises(CalibrationError, match="no end token"):
        calibrate(model, endless, ROWS, update)
