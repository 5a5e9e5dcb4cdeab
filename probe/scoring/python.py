"""Check `python`: run the answer on the check's cases, in a process with limits.

Each answer gets a second of processor and wall-clock time, 512 MiB of memory, no files, no output, and six modules
of the standard library. The reading of the syntax tree stops the known ways out of its namespace; the system's limits
hold beyond them. They are no wall against an attacker who writes the answers: for that, run the whole evaluation in a
container, and not as its administrator, whom the system lets start processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.scoring.errors import ScoringError

SECONDS_PER_ANSWER = 1
MEMORY_BYTES = 512 * 2**20
# Start-up of the interpreter and slow, shared machines; the answers' own limit is above.
_GRACE_SECONDS = 30
_CHILD = Path(__file__).with_name("python_child.py")


def check_python(texts: Sequence[str], checks: Sequence[Mapping[str, Any]]) -> list[float]:
    """Score 1 where the answer gives the expected value in every case, else 0.

    The answer is an expression over the names in ``arguments``, or source that defines a function
    of them; a Markdown fence around it is removed. Each check carries ``arguments`` (names) and
    ``cases``, a list of ``{"given": [values], "expected": value}`` in JSON values.

    Raises
    ------
    ScoringError
        A check has no arguments or cases, or the process that runs the answers is broken.
    """
    jobs = [_job(text, check) for text, check in zip(texts, checks, strict=True)]
    if not jobs:
        return []
    return [float(verdict) for verdict in _run(jobs)]


def strip_fence(text: str) -> str:
    """Return the code inside the first Markdown fence, or the stripped text without one.

    A fence that is never closed (the answer ran out of tokens) reaches to the end.
    """
    _, fence, rest = text.partition("```")
    if not fence:
        return text.strip()
    first_line, _, code = rest.partition("\n")
    body = code if first_line.strip() in ("", "python", "py") else rest
    return body.partition("```")[0].strip()


def _job(text: str, check: Mapping[str, Any]) -> dict[str, Any]:
    arguments, cases = check.get("arguments"), check.get("cases")
    if not isinstance(arguments, list) or not isinstance(cases, list) or not cases:
        raise ScoringError(f"check 'python' needs 'arguments' (names) and 'cases' (at least one), saw {check!r}")
    return {"source": strip_fence(text), "arguments": arguments, "cases": cases}


def _run(jobs: list[dict[str, Any]]) -> list[bool]:
    order = {"seconds": SECONDS_PER_ANSWER, "memory_bytes": MEMORY_BYTES, "jobs": jobs}
    with tempfile.TemporaryDirectory() as empty:
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(_CHILD)],
                input=json.dumps(order),
                capture_output=True,
                text=True,
                cwd=empty,
                env={},
                timeout=_GRACE_SECONDS + SECONDS_PER_ANSWER * len(jobs),
                check=False,
            )
            verdicts = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
            raise ScoringError(f"the process that runs answers gave no verdicts: {error}") from error
    if len(verdicts) != len(jobs):
        raise ScoringError(f"{len(jobs)} answers were run, but {len(verdicts)} verdicts came back")
    return [verdict is True for verdict in verdicts]
