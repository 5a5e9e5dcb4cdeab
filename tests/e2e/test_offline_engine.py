"""The engine in this process, on the demo's adapters: it answers as transformers and PEFT do."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.embedded import export_embedded_base
from probe.reference import Reference
from probe.rows import read_rows
from probe.scoring import grade_all
from serve.demo_bank import FOLDER as DEMO
from serve.proof.engine import Engine, vllm_engine

NUM_ROWS = 12

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of vLLM and torch, which run in this process


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_embedded_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def engine(base: Path) -> Engine:
    return vllm_engine(base, 16)


@pytest.mark.parametrize("name", ["math", "safety"])
def test_the_engine_scores_a_module_as_the_reference_does(engine: Engine, base: Path, name: str) -> None:
    """Of forced and of generated rows; float32 sums in another order may turn a row or two."""
    reference, rows = Reference(base), read_rows(DEMO / name / "evaluation.jsonl")[:NUM_ROWS]
    for folder in (DEMO / name, None):
        expected = [outcome.score for outcome in grade_all(rows, reference.answers(rows, folder))]
        scores = engine.scores(name if folder else "base", folder, rows)
        assert sum(abs(one - other) for one, other in zip(scores, expected, strict=True)) <= 1
    assert sum(engine.scores(name, DEMO / name, rows)) > sum(engine.scores("base", None, rows)), "it has learnt"
