"""The engine without a server, on the demo's adapters: it answers as transformers and PEFT do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from probe.embedded import export_embedded_base
from probe.reference import Reference
from probe.rows import read_rows
from probe.scoring import grade_all
from serve.demo_bank import FOLDER as DEMO
from tests.e2e.conftest import clean_environment
from tests.e2e.offline_process import NAMES, NUM_ROWS

SECONDS = 900
Scores = Mapping[str, Mapping[str, Sequence[float]]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_embedded_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def scores(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Scores:
    out = tmp_path_factory.mktemp("scores") / "scores.json"
    command = [sys.executable, "-m", "tests.e2e.offline_process", str(base), str(out)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=clean_environment(), timeout=SECONDS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    found: Scores = json.loads(out.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_scores_a_module_as_the_reference_does(scores: Scores, base: Path, name: str) -> None:
    """Of forced and of generated rows; float32 sums in another order may turn a row."""
    reference, rows = Reference(base), read_rows(DEMO / name / "evaluation.jsonl")[:NUM_ROWS]
    for module, folder in (("adapter", DEMO / name), ("base", None)):
        expected = [outcome.score for outcome in grade_all(rows, reference.answers(rows, folder))]
        assert sum(abs(one - other) for one, other in zip(scores[name][module], expected, strict=True)) <= 1
    assert sum(scores[name]["adapter"]) > sum(scores[name]["base"]), "it has learnt"
