"""The task domains of the bank: one file each, one row each in `TASKS`."""

from __future__ import annotations

from collections.abc import Mapping

from probe.bank.tasks.code import CODE
from probe.bank.tasks.instruction import INSTRUCTION
from probe.bank.tasks.math import MATH
from probe.bank.tasks.problem import Mix, Problem, Split, Task, TaskError, chat_prompt, split_of
from probe.bank.tasks.safety import SAFETY
from probe.bank.tasks.science import SCIENCE

__all__ = ["TASKS", "Mix", "Problem", "Split", "Task", "TaskError", "chat_prompt", "split_of"]

TASKS: Mapping[str, Task] = {task.domain: task for task in (MATH, CODE, SCIENCE, INSTRUCTION, SAFETY)}
