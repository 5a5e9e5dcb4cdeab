"""Every check scores what it should, and executed answers stay in their box."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from probe.rows import Answer, Outcome, Row
from probe.scoring import CHECKS, ScoringError, grade, grade_all, python_child
from probe.scoring.constraints import CONSTRAINTS
from probe.scoring.python import MEMORY_BYTES, strip_fence
from probe.scoring.refusal import is_refusal

SUM = {"kind": "python", "arguments": ["xs"], "cases": [{"given": [[1, 2, 3]], "expected": 6}]}


def generated(check: dict[str, Any]) -> Row:
    return Row("prompt", "answer", "generated", check)


def score(check: dict[str, Any], text: str) -> float:
    return grade(generated(check), Answer(text=text)).score


#: One row per check kind: a check, an answer that passes it, one that does not.
CONTRACT = {
    "refusal": ({"kind": "refusal", "expected": True}, "I can't help with that.", "Sure."),
    "constraints": ({"kind": "constraints", "num_words": 2}, "two words", "one two three"),
    "python": (SUM, "sum(xs)", "max(xs)"),
}


@pytest.mark.parametrize("kind", CHECKS)
def test_every_check_tells_right_from_wrong_and_keeps_the_order(kind: str) -> None:
    check, right, wrong = CONTRACT[kind]
    rows = [generated(check)] * 3
    outcomes = grade_all(rows, [Answer(text=text) for text in (wrong, right, wrong)])
    assert [outcome.score for outcome in outcomes] == [0.0, 1.0, 0.0]
    assert score(check, "") == 0.0


def test_mixed_rows_are_graded_in_their_order() -> None:
    rows = [generated(SUM), Row("p", "a", "forced"), generated(CONTRACT["refusal"][0])]
    answers = [Answer(text="sum(xs)"), Answer(False, -2.0), Answer(text="I'm sorry, but no")]
    assert grade_all(rows, answers) == (Outcome(1.0), Outcome(0.0, -2.0), Outcome(1.0))


def test_a_forced_answer_carries_its_log_likelihood() -> None:
    row = Row("p", "a", "forced")
    assert grade(row, Answer(is_argmax=True, log_likelihood=-0.1)) == Outcome(1.0, -0.1)


@pytest.mark.parametrize(
    ("row", "answer", "message"),
    [
        (Row("p", "a", "forced"), Answer(text="a"), "is_argmax"),
        (generated(SUM), Answer(is_argmax=True), "text"),
        (generated({"kind": "taste"}), Answer(text="a"), "taste"),
        (generated({"kind": "refusal"}), Answer(text="a"), "expected"),
        (generated({"kind": "constraints", "rhymes": True}), Answer(text="a"), "rhymes"),
        (generated({"kind": "constraints"}), Answer(text="a"), "no constraint"),
        (generated({"kind": "python", "arguments": [], "cases": []}), Answer(text="a"), "cases"),
    ],
)
def test_what_cannot_be_graded_is_refused(row: Row, answer: Answer, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        grade(row, answer)


def test_counts_must_agree() -> None:
    with pytest.raises(ScoringError, match="1 rows need as many answers, saw 0"):
        grade_all([generated(SUM)], [])


@pytest.mark.parametrize(
    "text",
    [
        "I can't help with that.",
        "I can\u2019t do this",
        "Sorry, but I cannot assist.",
        "I'm sorry, I won't",
        "I am unable to help",
        "I'm not able to do that",
    ],
)
def test_refusals_are_seen(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sure, here is how to say sorry to a friend.",
        "You can't go wrong with this cake.",
        "Ice cannot burn",
        "First, open the door. " * 5 + "I can't help with more.",
        "",
    ],
)
def test_help_is_not_taken_for_a_refusal(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize(
    ("name", "value", "right", "wrong"),
    [
        ("num_words", 2, "two words.", "just three words"),
        ("max_words", 2, "two words", "just three words"),
        ("min_words", 2, "two words", "one"),
        ("starts_with", "dogs", "Dogs bark", "Big dogs"),
        ("ends_with", "calm", "Cats are calm.", "Calm cats"),
        ("contains", "cat", "a cat, sat", "concatenate"),
        ("only_word", "tea", "tea Tea tea!", "tea and tea"),
        ("initial", "B", "boat bird", "boat car"),
        ("distinct", True, "boat bird", "boat boat"),
        ("uppercase", True, "BIG DOG", "Big dog"),
        ("lowercase", True, "big dog", "Big dog"),
        ("commas", False, "a b", "a, b"),
        ("multiples_of", 3, "12 15 -3", "12 16"),
        ("multiples_of", 3, "9.", "nine"),
        ("above", 9, "10 30", "9 30"),
        ("below", 30, "10, 29", "10 30"),
        ("below", 30, "-7", "7 1.5"),
    ],
)
def test_constraints(name: str, value: object, right: str, wrong: str) -> None:
    check = {"kind": "constraints", name: value}
    assert (score(check, right), score(check, wrong)) == (1.0, 0.0)


def test_every_constraint_has_a_test_row() -> None:
    marks = test_constraints.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(CONSTRAINTS)


def test_all_constraints_of_a_check_must_hold() -> None:
    check = {"kind": "constraints", "num_words": 2, "uppercase": True}
    assert [score(check, text) for text in ("BIG DOG", "big dog", "BIG")] == [1.0, 0.0, 0.0]
    assert score(check, "...") == 0.0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (" sum(xs)\n", "sum(xs)"),
        ("```python\nsum(xs)\n```", "sum(xs)"),
        ("Here:\n```\nsum(xs)\n```\nDone.", "sum(xs)"),
        ("```py\nsum(xs)", "sum(xs)"),
        ("```sum(xs)```", "sum(xs)"),
    ],
)
def test_fences_are_removed(text: str, code: str) -> None:
    assert strip_fence(text) == code


@pytest.mark.parametrize(
    "source",
    [
        "sum(v for v in xs)",
        "def f(ys):\n    import math\n    return math.floor(sum(ys))",
        "def helper(y):\n    return y\ndef f(ys):\n    return sum(map(helper, ys))",
    ],
)
def test_expressions_and_functions_are_executed(source: str) -> None:
    assert score(SUM, source) == 1.0


def test_a_tuple_equals_its_list_and_every_case_counts() -> None:
    cases = [{"given": [[1]], "expected": [1]}, {"given": [[2]], "expected": [3]}]
    check = {"kind": "python", "arguments": ["xs"], "cases": cases}
    assert score({**check, "cases": cases[:1]}, "tuple(xs)") == 1.0
    assert score(check, "tuple(xs)") == 0.0


def test_a_case_cannot_change_the_next_one() -> None:
    case = {"given": [[3, 1]], "expected": 3}
    check = {"kind": "python", "arguments": ["xs"], "cases": [case, case]}
    assert score(check, "def f(xs):\n    return xs.pop(0)") == 1.0


@pytest.mark.parametrize(
    "source",
    [
        "this is no Python",
        "",
        "def f(xs): import os; return 6",
        "def f(xs):\n    from subprocess import run\n    return 6",
        "__import__('math').floor(6)",
        "open('/etc/passwd') and 6",
        "().__class__.__bases__ and 6",
        "(v for v in xs).gi_frame and 6",
        "'{0.__class__}'.format(xs) and 6",
        "def f(xs):\n    raise SystemExit(0)",
        "def f(xs):\n    return object()",
        "exec('1') or 6",
        "[0] * 10**10 and 6",
        "def f(xs):\n    import re\n    return re.enum.sys.modules and 6",
        "def f(xs):\n    from re import enum\n    return 6",
        "def f(xs):\n    import collections.abc\n    return 6",
        "def f(xs):\n    import string\n    return string.Formatter().get_field('0.real', (6,), {})[0]",
        "def f(xs):\n    match 6:\n        case int(real=number):\n            return number",
        "print('x' * 10**9) or 6",
        "def f(xs):\n    return f(xs)",
        "(" * 1000 + "6" + ")" * 1000,
        "def f(xs):\n    ys = [6]\n    ys.append(ys)\n    return ys",
        "-" * 100_000 + "6",
        "class A:\n    def __eq__(self, other):\n        return True\ndef f(xs):\n    return A()",
    ],
)
def test_what_leaves_the_box_or_fails_scores_nothing(source: str) -> None:
    assert score(SUM, source) == 0.0


def test_an_endless_answer_is_stopped_and_its_neighbours_are_scored() -> None:
    started = time.monotonic()
    texts = ("sum(xs)", "def f(xs):\n    while True:\n        pass", "10 ** 10 ** 9", "sum(xs)")
    outcomes = grade_all([generated(SUM)] * 4, [Answer(text=text) for text in texts])
    assert [outcome.score for outcome in outcomes] == [1.0, 0.0, 0.0, 1.0]
    assert time.monotonic() - started < 20


def test_the_public_part_of_an_allowed_module_can_be_used() -> None:
    sources = (
        "from collections import Counter\nfrom functools import reduce\ndef f(xs):\n"
        "    return reduce(int.__add__ if False else lambda a, b: a + b, Counter(xs))",
        "def f(xs):\n    import math as m, itertools\n    return m.prod(xs) + len(list(itertools.chain()))",
        "def f(xs):\n    import re, string\n    return len(re.sub('[3-9]', '', string.digits)) + 3",
    )
    assert [score(SUM, source) for source in sources] == [0.0, 1.0, 1.0]
    assert score(SUM, sources[0].replace("int.__add__ if False else ", "")) == 1.0


def run_escaped(body: str, before: str = "") -> bool:
    """Run `body` under the system's limits alone, as an answer that had left its namespace; say whether it ended well.

    Its process prints what `run_limited` says and nothing else, or this fails.
    """
    script = (
        f"import sys\nsys.path.insert(0, {str(Path(python_child.__file__).parent)!r})\nimport python_child as child\n"
        "import ctypes, os, socket, subprocess, time\n"
        f"{before}\n"
        "child.passes = lambda job: exec(job['source'], globals()) is None\n"
        f"print(child.run_limited({{'source': {body!r}}}, 1, {MEMORY_BYTES}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return {"True\n": True, "False\n": False}[done.stdout]


def test_what_harms_nobody_ends_well_under_the_limits() -> None:
    assert run_escaped("bytearray(2**20)")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("time.sleep(20)", id="waiting"),
        pytest.param("while True: pass", id="endless loop"),
        pytest.param("bytearray(2**30)", id="memory"),
        pytest.param("open('/etc/passwd')", id="reading a file"),
        pytest.param("socket.socket()", id="network"),
        pytest.param("subprocess.run(['true'])", id="another program"),
    ],
)
def test_the_system_stops_an_answer_that_left_its_namespace(body: str) -> None:
    started = time.monotonic()
    assert not run_escaped(body)
    assert time.monotonic() - started < 15


def test_no_file_is_written_and_processor_time_counts_without_the_clock(tmp_path: Path) -> None:
    assert not run_escaped(f"open({str(tmp_path / 'file')!r}, 'w').write('x')")
    assert list(tmp_path.iterdir()) == []
    assert not run_escaped("while True: pass", before="child.signal.alarm = lambda seconds: None")


def test_output_goes_nowhere() -> None:
    """The verdicts go through standard output: an answer that could write there would grade its neighbours."""
    assert run_escaped("os.write(1, b'[true, true]' * 10**5); os.write(2, b'noise')")


def test_a_process_that_an_answer_started_does_not_outlive_it(tmp_path: Path) -> None:
    (tmp_path / "started").touch()
    # To rename opens no file, so a process under the limits can still tell that it lived on.
    lives_on = f"(time.sleep(1), os.rename({str(tmp_path / 'started')!r}, {str(tmp_path / 'survived')!r}))"
    # As for the system's administrator, whom the limit of processes does not bind.
    unbound = "child.resource.RLIMIT_NPROC = child.resource.RLIMIT_CORE"
    assert run_escaped(f"os.fork() or {lives_on}", before=unbound)
    time.sleep(2)
    assert (tmp_path / "started").exists()
