"""LoRA by group on a CPU: equal to vLLM's own operations where those are right, and right where they are not."""

from __future__ import annotations

import pytest
import torch

from serve.cpu_lora import apply_by_slot, bgmv_expand, bgmv_expand_slice, bgmv_shrink

TOKENS, D_IN, D_OUT, NUM_SLOTS = 23, 12, 10, 4


@pytest.fixture
def stacked() -> torch.Tensor:
    return torch.randn(NUM_SLOTS, 1, D_OUT, D_IN, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randn(TOKENS, D_IN, generator=torch.Generator().manual_seed(2))


def oracle(inputs: torch.Tensor, weights: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """Token by token, as vLLM's operations do it."""
    return torch.einsum("bi,boi->bo", inputs, weights.squeeze(1)[slots])


@pytest.mark.parametrize("slots", [[0], [2], [0, 1, 2, 3], [3, 1, 1]])
def test_tokens_with_an_adapter_get_what_vllm_computes(inputs, stacked, slots) -> None:
    index = torch.tensor((slots * TOKENS)[:TOKENS])
    torch.testing.assert_close(apply_by_slot(inputs, stacked, index), oracle(inputs, stacked, index))


def test_a_token_without_an_adapter_gets_nothing_although_the_last_slot_is_in_use(inputs, stacked) -> None:
    index = torch.tensor([-1, 0, 3] * TOKENS)[:TOKENS]
    result = apply_by_slot(inputs, stacked, index)
    assert not result[index == -1].any()
    torch.testing.assert_close(result[index >= 0], oracle(inputs, stacked, index)[index >= 0])
    assert not apply_by_slot(inputs, stacked, torch.full((TOKENS,), -1)).any()


def test_shrink_scales_and_leaves_padding_alone(inputs, stacked) -> None:
    output = torch.full((TOKENS, D_OUT + 2), 7.0)
    index = torch.zeros(TOKENS, dtype=torch.long)
    bgmv_shrink(inputs, stacked, output, index, 0.5)
    torch.testing.assert_close(output[:, :D_OUT], 0.5 * oracle(inputs, stacked, index))
    assert (output[:, D_OUT:] == 7.0).all()


@pytest.mark.parametrize("width", [D_OUT - 3, D_OUT, D_OUT + 3])
@pytest.mark.parametrize("add", [True, False])
def test_expand_adds_or_writes_the_columns_that_both_have(inputs, stacked, width, add) -> None:
    output = torch.ones(TOKENS, width)
    index = torch.ones(TOKENS, dtype=torch.long)
    bgmv_expand(inputs, stacked, output, index, add)
    common = min(width, D_OUT)
    torch.testing.assert_close(output[:, :common], oracle(inputs, stacked, index)[:, :common] + (1.0 if add else 0.0))
    assert (output[:, common:] == 1.0).all()


def test_expand_slice_touches_its_columns_only(inputs, stacked) -> None:
    output = torch.ones(TOKENS, 3 * D_OUT)
    index = torch.ones(TOKENS, dtype=torch.long)
    bgmv_expand_slice(inputs, stacked, output, index, D_OUT, D_OUT, True)
    torch.testing.assert_close(output[:, D_OUT : 2 * D_OUT], 1.0 + oracle(inputs, stacked, index))
    assert (output[:, :D_OUT] == 1.0).all()
    assert (output[:, 2 * D_OUT :] == 1.0).all()


def test_vllm_finds_the_plugin_and_takes_it() -> None:
    from importlib.metadata import entry_points

    from serve import cpu_lora

    (plugin,) = entry_points(group="vllm.general_plugins", name="mergeprobe_cpu_lora")
    assert plugin.load() is cpu_lora.register
