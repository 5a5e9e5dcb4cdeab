"""Run answers one by one, each in a forked process with limits; started by `probe.scoring.python`.

Reads ``{"seconds", "memory_bytes", "jobs"}`` from standard input and writes one boolean a job.
Stands alone (standard library only), because it runs with ``python -I`` outside the package.
"""

from __future__ import annotations

import ast
import builtins
import collections
import contextlib
import functools
import itertools
import json
import math
import os
import re
import resource
import signal
import string
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

ALLOWED_MODULES = {module.__name__: module for module in (collections, functools, itertools, math, re, string)}
# They read attributes by a name in a text, which no syntax tree shows.
FORBIDDEN_MEMBERS = frozenset({"Formatter", "Template"})
ALLOWED_BUILTINS = """
    abs all any bool chr dict divmod enumerate filter float frozenset int isinstance len list map
    max min ord pow range reversed round set sorted str sum tuple zip True False None
    Exception IndexError KeyError TypeError ValueError ZeroDivisionError
""".split()  # noqa: SIM905 - a list of names reads better as words
# Attributes that reach frames, code objects or globals without an underscore in front.
FORBIDDEN_ATTRIBUTES = ("format", "format_map", "gi_", "cr_", "ag_", "f_", "tb_", "co_", "func_")


def import_allowed(name: str, *_arguments: Any, **_options: Any) -> SimpleNamespace:
    """Return the public members of module `name` if it is on the list, without the modules that it imports itself."""
    if name not in ALLOWED_MODULES:
        raise ImportError(f"module {name} is not allowed here")
    return SimpleNamespace(
        **{
            member: value
            for member, value in vars(ALLOWED_MODULES[name]).items()
            if not (member.startswith("_") or member in FORBIDDEN_MEMBERS or isinstance(value, ModuleType))
        }
    )


def is_harmless(tree: ast.AST) -> bool:
    """Say whether `tree` uses no name or attribute that leads out of its namespace."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith(("_", *FORBIDDEN_ATTRIBUTES)):
            return False
        if isinstance(node, ast.Name) and node.id.startswith("__"):
            return False
        # A class pattern reads attributes, too.
        if isinstance(node, ast.MatchClass) and node.kwd_attrs:
            return False
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name.startswith("__"):
            return False
    return True


def passes(job: dict[str, Any]) -> bool:
    """Say whether the job's source gives the expected value in every case."""
    tree = ast.parse(job["source"])
    if not is_harmless(tree):
        return False
    names = {name: getattr(builtins, name) for name in ALLOWED_BUILTINS}
    scope: dict[str, Any] = {"__builtins__": {**names, "__import__": import_allowed}}
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if functions:
        exec(compile(tree, "answer", "exec"), scope)  # noqa: S102 - this is what the child is for
    return all(_value(job, case, scope, functions) == case["expected"] for case in job["cases"])


def _value(job: dict[str, Any], case: dict[str, Any], scope: dict[str, Any], functions: list[str]) -> Any:
    given = json.loads(json.dumps(case["given"]))  # an answer may change its arguments in place
    if functions:
        value = scope[functions[-1]](*given)
    else:
        arguments = dict(zip(job["arguments"], given, strict=True))
        value = eval(job["source"], {**scope, **arguments})  # noqa: S307 - see above
    # Through JSON a tuple equals its list, and an object with its own __eq__ equals nothing.
    return json.loads(json.dumps(value))


def _limit(seconds: int, memory_bytes: int) -> None:
    """Bind this process, with what it starts, to limits that only an administrator could lift again."""
    # A group of its own, so that whatever it starts can be ended with it.
    os.setsid()
    _silence()
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # No new file, socket or process. The system lets its administrator start processes all the same.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    # The default action of the alarm ends the process: no answer can catch it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)


def _silence() -> None:
    """Point the standard streams at nothing: the verdicts of the others go through them."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def run_limited(job: dict[str, Any], seconds: int, memory_bytes: int) -> bool:
    """Run one job in a fork; the exit status is the verdict, so a killed job has failed."""
    child = os.fork()
    if child == 0:
        verdict = 1
        try:
            _limit(seconds, memory_bytes)
            verdict = 0 if passes(job) else 1
        except BaseException:  # whatever the answer raises, it has failed
            verdict = 1
        finally:
            os._exit(verdict)
    # Not reaped yet, so that its number still names its group and nothing else.
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    _end_group(child)
    return os.waitpid(child, 0)[1] == 0


def _end_group(leader: int) -> None:
    # There is no group if the job ended before it had made one.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def main() -> None:
    """Read the order, run its jobs in turn and print the verdicts."""
    order = json.load(sys.stdin)
    seconds, memory_bytes = order["seconds"], order["memory_bytes"]
    json.dump([run_limited(job, seconds, memory_bytes) for job in order["jobs"]], sys.stdout)


if __name__ == "__main__":
    main()
