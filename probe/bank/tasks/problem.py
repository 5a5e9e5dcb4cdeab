"""Problems, and the task that turns templates of them into rows with disjoint splits."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from probe.records import MergeProbeError
from probe.rows import Row

Split = Literal["train", "calibration", "evaluation"]

# Percent of the problems that training and calibration own; evaluation owns the rest.
_TRAIN_PERCENT = 60
_CALIBRATION_PERCENT = 15
# Draws a template may need, on average, for one new problem of the wanted split.
_DRAWS_PER_ROW = 400


class TaskError(MergeProbeError):
    """A task cannot generate the rows that were asked for."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One drawn problem.

    Parameters
    ----------
    content
        What is being asked, without names, objects or phrasing that make it look new. It alone
        decides the split, so no problem of evaluation occurs in training under another phrasing.
    question, answer
        What the user says, and the reference answer.
    check
        None scores the answer by forcing; otherwise the answer is generated and checked.
    max_tokens
        Longest generated answer in tokens.
    """

    content: str
    question: str
    answer: str
    check: Mapping[str, Any] | None = None
    max_tokens: int = 16


#: Draws one problem; every choice comes from the generator that is passed in.
Template = Callable[[random.Random], Problem]
#: Template name -> its share of the rows; shares sum to 1.
Mix = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Task:
    """A domain: templates of problems, and named mixes of them.

    Parameters
    ----------
    domain
        Name, and key of `probe.bank.tasks.TASKS`.
    description
        One sentence for people: what is asked and how it is scored.
    templates
        Template name -> template.
    mixes
        Mix name -> mix. The mix is what makes two adapters of one domain differ in data.
    """

    domain: str
    description: str
    templates: Mapping[str, Template]
    mixes: Mapping[str, Mix]

    def generate(self, mix: str | Mix, split: Split, count: int, seed: int) -> tuple[Row, ...]:
        """Draw `count` rows of `split`, no question twice, in random order.

        The same arguments give the same rows. Rows of different splits share no problem content,
        whatever their mixes and seeds.

        Parameters
        ----------
        mix
            Name of one of `mixes`, or template shares of one's own.
        split
            Which part of the problems to draw from.
        count
            Number of rows; each template gets its share of it, rounded.
        seed
            Any whole number.

        Raises
        ------
        TaskError
            The mix or split is unknown, or a template has too few problems for its share.
        """
        if split not in get_args(Split):
            raise TaskError(f"unknown split {split!r}; expected one of {', '.join(get_args(Split))}")
        # A text seed is hashed by the generator itself: stable across processes and platforms.
        rng = random.Random(f"{self.domain}|{split}|{seed}")  # noqa: S311 - data, not keys
        seen: set[str] = set()
        problems: list[Problem] = []
        for name, share_count in _shares(self._mix(mix), count).items():
            problems += self._draw(name, split, share_count, rng, seen)
        rng.shuffle(problems)
        return tuple(_row(problem) for problem in problems)

    def _mix(self, mix: str | Mix) -> Mix:
        if isinstance(mix, str):
            if mix not in self.mixes:
                raise TaskError(f"{self.domain} has no mix {mix!r}; it has {', '.join(self.mixes)}")
            mix = self.mixes[mix]
        unknown = sorted(set(mix) - set(self.templates))
        total = sum(mix.values())
        if unknown or abs(total - 1.0) > 1e-6 or min(mix.values(), default=0.0) < 0.0:
            raise TaskError(
                f"{self.domain}: a mix needs shares >= 0 that sum to 1 over "
                f"{', '.join(self.templates)}; saw {dict(mix)}"
            )
        return mix

    def _draw(self, name: str, split: Split, count: int, rng: random.Random, seen: set[str]) -> list[Problem]:
        """Draw `count` problems of one template whose questions are not in `seen` yet."""
        template = self.templates[name]
        drawn: list[Problem] = []
        for _ in range(_DRAWS_PER_ROW * count):
            if len(drawn) == count:
                break
            problem = template(rng)
            if split_of(self.domain, problem.content) == split and problem.question not in seen:
                seen.add(problem.question)
                drawn.append(problem)
        if len(drawn) < count:
            raise TaskError(
                f"{self.domain}: template '{name}' has only about {len(drawn)} {split} problems "
                f"and {count} were asked for; ask for fewer rows or lower its share"
            )
        return drawn


def split_of(domain: str, content: str) -> Split:
    """Return the split that owns `content`: a stable hash, so it never depends on what was drawn."""
    digest = hashlib.blake2b(f"{domain}|{content}".encode(), digest_size=8).digest()
    percent = int.from_bytes(digest, "big") % 100
    if percent < _TRAIN_PERCENT:
        return "train"
    if percent < _TRAIN_PERCENT + _CALIBRATION_PERCENT:
        return "calibration"
    return "evaluation"


def chat_prompt(question: str) -> str:
    """Wrap `question` in the base model's chat markup, without its default system text.

    That text would cost 20 tokens a row and says nothing here.
    """
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def _row(problem: Problem) -> Row:
    prompt = chat_prompt(problem.question)
    if problem.check is None:
        return Row(prompt, problem.answer, "forced")
    return Row(prompt, problem.answer, "generated", problem.check, problem.max_tokens)


def _shares(mix: Mix, count: int) -> dict[str, int]:
    """Split `count` by the shares; the largest remainders get the rows that rounding left over."""
    exact = {name: share * count for name, share in mix.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: count - sum(counts.values())]:
        counts[name] += 1
    return counts
