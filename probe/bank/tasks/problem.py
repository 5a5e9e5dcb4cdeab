"""Problems, and the task that turns templates of them into rows with disjoint splits."""

from __future__ import annotations

import hashlib
import math
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
# A template that gave nothing new for so long is taken to be exhausted.
_DRAWS_WITHOUT_NEWS = 2000
_BEFORE_QUESTION = "<|im_start|>user\n"
_AFTER_QUESTION = "<|im_end|>\n<|im_start|>assistant\n"


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
Shares = Mapping[str, float]
Difficulty = Literal["easy", "medium", "hard", "unknown"]


@dataclass(frozen=True, slots=True)
class Mix:
    """What one adapter is trained for: shares of a domain's templates.

    Parameters
    ----------
    shares
        Template name -> its share of the rows, >= 0; they sum to 1.
    difficulty
        Expected for the embedded base with a small adapter, judged by the number of steps and of facts; ``unknown``
        where nobody has judged it.
    description
        What is asked, and of which other domain it borrows the words or the format.
    """

    shares: Shares
    difficulty: Difficulty = "unknown"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A domain: templates of problems, and named mixes of them.

    Two templates that ask the same thing give the same `Problem.content`, or a problem could be trained under one
    and asked under the other.

    Parameters
    ----------
    domain
        Name, by which `probe.bank.tasks.task_of` finds it.
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

    def generate(self, mix: str | Shares, split: Split, count: int, seed: int) -> tuple[Row, ...]:
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
        for name, share_count in _counts(self._shares(mix), count).items():
            problems += self._draw(name, split, share_count, rng, seen)
        rng.shuffle(problems)
        return tuple(_row(problem) for problem in problems)

    def available(self, mix: str | Shares, limit: int) -> Mapping[Split, int]:
        """Count the rows of each split that `generate` can give, up to `limit`.

        A template is drawn until it gives nothing new for a while, so the count can be short by a few rows.

        Raises
        ------
        TaskError
            The mix is unknown.
        """
        fewest: dict[Split, int] = dict.fromkeys(get_args(Split), limit)
        for name, share in self._shares(mix).items():
            if share > 0.0:
                found = self._count_questions(name, math.ceil(share * limit))
                fewest = {split: min(count, int(found[split] / share)) for split, count in fewest.items()}
        return fewest

    def _count_questions(self, name: str, wanted: int) -> Mapping[Split, int]:
        """Count a template's different questions by split, until each has `wanted` or nothing new comes."""
        rng = random.Random(f"{self.domain}|{name}|count")  # noqa: S311 - data, not keys
        found: dict[Split, set[str]] = {split: set() for split in get_args(Split)}
        draws_without_news = 0
        while draws_without_news < _DRAWS_WITHOUT_NEWS and min(map(len, found.values())) < wanted:
            problem = self.templates[name](rng)
            questions = found[split_of(self.domain, problem.content)]
            draws_without_news = draws_without_news + 1 if problem.question in questions else 0
            questions.add(problem.question)
        return {split: len(questions) for split, questions in found.items()}

    def _shares(self, mix: str | Shares) -> Shares:
        if isinstance(mix, str):
            if mix not in self.mixes:
                raise TaskError(f"{self.domain} has no mix {mix!r}; it has {', '.join(self.mixes)}")
            mix = self.mixes[mix].shares
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
    return f"{_BEFORE_QUESTION}{question}{_AFTER_QUESTION}"


def question_of(prompt: str) -> str:
    """Return what `chat_prompt` wrapped."""
    return prompt.removeprefix(_BEFORE_QUESTION).removesuffix(_AFTER_QUESTION)


def _row(problem: Problem) -> Row:
    prompt = chat_prompt(problem.question)
    if problem.check is None:
        return Row(prompt, problem.answer, "forced")
    return Row(prompt, problem.answer, "generated", problem.check, problem.max_tokens)


def _counts(shares: Shares, count: int) -> dict[str, int]:
    """Split `count` by the shares; the largest remainders get the rows that rounding left over."""
    exact = {name: share * count for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: count - sum(counts.values())]:
        counts[name] += 1
    return counts
