"""The benchmark's own arithmetic: ratios with their intervals, the order of blocks, and vLLM's command line."""

from __future__ import annotations

import pytest

from tests.bench.against_vllm import OURS, THEIRS, order
from tests.bench.load import prompts
from tests.bench.ratios import paired_ratio
from tests.bench.vllm_cli import serve_arguments


def test_a_slowdown_of_the_whole_machine_cancels_in_a_pair():
    machine = [1.0, 1.3, 0.9, 2.0, 1.1, 1.6]
    ratio = paired_ratio([1.04 * slow for slow in machine], machine, seed=0)
    assert ratio.median == pytest.approx(1.04)
    assert (ratio.low, ratio.high) == (pytest.approx(1.04), pytest.approx(1.04))


def test_the_interval_holds_the_median_and_widens_with_the_spread():
    narrow = paired_ratio([1.00, 1.01, 1.02, 1.03, 1.04, 1.05], [1.0] * 6, seed=0)
    wide = paired_ratio([0.80, 0.90, 1.00, 1.05, 1.15, 1.25], [1.0] * 6, seed=0)
    assert narrow.median == pytest.approx(1.025)
    assert narrow.low < narrow.median < narrow.high
    assert wide.high - wide.low > narrow.high - narrow.low


def test_the_same_seed_gives_the_same_interval():
    values = [1.0, 1.2, 0.9, 1.1, 1.05, 0.97]
    assert paired_ratio(values, [1.0] * 6, seed=3) == paired_ratio(values, [1.0] * 6, seed=3)


@pytest.mark.parametrize(
    ("numerators", "denominators"), [([], []), ([1.0], [2.0]), ([1.0], [1.0, 2.0]), ([1.0, 0.0], [1.0, 1.0])]
)
def test_what_cannot_be_paired_is_refused(numerators, denominators):
    with pytest.raises(ValueError, match="expected"):
        paired_ratio(numerators, denominators, seed=0)


def test_blocks_alternate_abba():
    assert order(4) == [OURS, THEIRS, THEIRS, OURS, OURS, THEIRS, THEIRS, OURS]


def test_prompts_differ_and_are_equally_long():
    asked = prompts(32, "seed")
    assert len(set(asked)) == 32
    assert len({len(prompt) for prompt in asked}) == 1
    assert asked == prompts(32, "seed") != prompts(32, "another seed")


@pytest.mark.parametrize(
    ("engine_kwargs", "words"),
    [
        ({"enable_lora": True}, ["--enable-lora"]),
        ({"enable_prefix_caching": False}, ["--no-enable-prefix-caching"]),
        ({"disable_log_stats": True}, ["--disable-log-stats"]),
        ({"disable_log_stats": False}, []),
        ({"max_model_len": 2048, "dtype": "float32"}, ["--max-model-len", "2048", "--dtype", "float32"]),
        ({"lora_target_modules": ["q_proj", "v_proj"]}, ["--lora-target-modules", "q_proj", "v_proj"]),
        ({"hf_overrides": {"rope_theta": 1e4}}, ["--hf-overrides", '{"rope_theta": 10000.0}']),
        ({"quantization": None}, []),
    ],
)
def test_engine_arguments_become_a_command_line(engine_kwargs, words):
    assert serve_arguments(engine_kwargs) == words
