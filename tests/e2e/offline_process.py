"""The engine in a process of its own, whose libraries warn of things that are not ours: scores of demo adapters."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from probe.rows import read_rows
from serve.demo_bank import FOLDER as DEMO
from serve.proof.engine import vllm_engine

NAMES = ("math", "safety")
NUM_ROWS = 12


def main(base: Path, out: Path) -> None:
    """Score the first rows of some adapters, with the adapter and without, and write them to a file."""
    engine, scores = vllm_engine(base, 16), {}
    for name in NAMES:
        rows = read_rows(DEMO / name / "evaluation.jsonl")[:NUM_ROWS]
        scores[name] = {"adapter": engine.scores(name, DEMO / name, rows), "base": engine.scores("base", None, rows)}
    out.write_text(json.dumps(scores), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
