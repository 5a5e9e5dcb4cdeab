"""The task domains of the bank: those built in, one file and one row each, and those of other packages."""

from __future__ import annotations

from collections.abc import Mapping

from probe.bank.tasks.code import CODE
from probe.bank.tasks.installed import declared_tasks, load_task
from probe.bank.tasks.instruction import INSTRUCTION
from probe.bank.tasks.jsonl import TaskFileError, fields_of, read_task
from probe.bank.tasks.math import MATH
from probe.bank.tasks.problem import (
    Mix,
    Problem,
    Shares,
    Split,
    Task,
    TaskError,
    chat_prompt,
    question_of,
    split_of,
)
from probe.bank.tasks.safety import SAFETY
from probe.bank.tasks.science import SCIENCE

__all__ = [
    "TASKS",
    "Mix",
    "Problem",
    "Shares",
    "Split",
    "Task",
    "TaskError",
    "TaskFileError",
    "chat_prompt",
    "fields_of",
    "question_of",
    "read_task",
    "split_of",
    "task_of",
    "tasks",
]

#: The domains that are built in; `tasks` and `task_of` know those of other packages too.
TASKS: Mapping[str, Task] = {task.domain: task for task in (MATH, CODE, SCIENCE, INSTRUCTION, SAFETY)}


def tasks() -> Mapping[str, Task]:
    """Return all domains: those built in, then those of other packages by name.

    Raises
    ------
    TaskError
        A package's task does not load, or takes a name that another has.
    """
    declared = declared_tasks(TASKS)
    return {**TASKS, **{domain: load_task(point) for domain, point in declared.items()}}


def task_of(domain: str) -> Task:
    """Return the task of `domain`, and load no other.

    Raises
    ------
    TaskError
        There is no such domain, or it does not load, or two have its name.
    """
    declared = declared_tasks(TASKS)
    if domain in TASKS:
        return TASKS[domain]
    if domain not in declared:
        raise TaskError(f"there is no domain {domain!r}; there are {', '.join((*TASKS, *declared))}")
    return load_task(declared[domain])
