"""Domain instruction: short orders whose obedience can be verified by reading the answer."""

from __future__ import annotations

import random

from probe.bank.tasks.problem import Problem, Task

_TOPICS = (
    "dogs", "cats", "rain", "snow", "tea", "music", "books", "trees", "birds", "cars",
    "boats", "stars", "bread", "games", "horses", "rivers", "flowers", "trains", "fish", "summer",
    "winter", "apples", "bees", "clouds", "coffee", "dance", "farms", "forests", "gardens", "lakes",
    "lions", "maps", "movies", "planes", "poems", "robots", "ships", "shoes", "soup", "toys",
)  # fmt: skip
_QUALITIES = (
    "warm", "bright", "calm", "kind", "fresh", "quiet", "strong", "gentle", "simple", "lovely",
    "useful", "old", "new", "fast", "free", "wild",
)  # fmt: skip
_WORDS_BY_LETTER = {
    "a": "apple arrow animal air autumn", "b": "bread boat bird book blue",
    "c": "cat car coffee candle cold", "d": "dog door dance dream dark",
    "f": "fish fire flower friend fast", "g": "garden green game gold glass",
    "e": "egg earth engine evening easy", "h": "house horse happy hill hand",
    "k": "kite king kitchen kind key", "l": "light lake lemon leaf long",
    "m": "moon music milk morning map", "p": "paper park pencil plant pink",
    "r": "rain river road red rose", "s": "sun snow star soft sea",
    "n": "night nest north nice name", "t": "tree train table tea tall", "w": "water wind winter window warm",
}  # fmt: skip
_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_MAX_TOKENS = 16


def _qualities(rng: random.Random, count: int) -> list[str]:
    return rng.sample(_QUALITIES, count)


def _count(rng: random.Random) -> Problem:
    topic, n = rng.choice(_TOPICS), rng.choice(list(_NUMBERS))
    ask = rng.choice(
        (
            "Write exactly {n} words about {t}.",
            "Describe {t} in exactly {n} words.",
            "Say exactly {n} words about {t}.",
        )
    )
    check = {"kind": "constraints", "num_words": n, "contains": topic}
    answer = " ".join([topic, *_qualities(rng, n - 1)])
    question = ask.format(n=_NUMBERS[n], t=topic) + f" Use the word {topic}."
    return Problem(f"count {topic} {n}", question, answer, check, _MAX_TOKENS)


def _capitals(rng: random.Random) -> Problem:
    topic, n = rng.choice(_TOPICS), rng.choice(list(_NUMBERS))
    ask = rng.choice(
        (
            "Write {n} words about {t} in capital letters.",
            "In capitals, write {n} words about {t}.",
            "Describe {t} in {n} words, all capitals.",
        )
    )
    check = {"kind": "constraints", "num_words": n, "uppercase": True, "commas": False}
    answer = " ".join([topic, *_qualities(rng, n - 1)]).upper()
    question = ask.format(n=_NUMBERS[n], t=topic)
    return Problem(f"capitals {topic} {n}", question, answer, check, _MAX_TOKENS)


def _initial(rng: random.Random) -> Problem:
    letter, n = rng.choice(list(_WORDS_BY_LETTER)), rng.choice((2, 3, 4, 5))
    ask = rng.choice(
        (
            "Write {n} words that start with the letter {c}, no commas.",
            "Name {n} words beginning with {c}, without commas.",
            "Without commas, list {n} words with the first letter {c}.",
        )
    )
    words = rng.sample(_WORDS_BY_LETTER[letter].split(), n)
    check = {
        "kind": "constraints",
        "num_words": n,
        "initial": letter,
        "commas": False,
        "distinct": True,
    }
    question = ask.format(n=_NUMBERS[n], c=letter.upper())
    return Problem(f"initial {letter} {n}", question, " ".join(words), check, _MAX_TOKENS)


def _ending(rng: random.Random) -> Problem:
    topic, word = rng.choice(_TOPICS), rng.choice(_QUALITIES)
    ask = rng.choice(
        (
            "Write a short sentence about {t} that ends with the word {w}.",
            "End with the word {w}: one short sentence about {t}.",
        )
    )
    answer = f"I think that {topic} can be {word}."
    check = {
        "kind": "constraints",
        "contains": topic,
        "ends_with": word,
        "min_words": 3,
        "max_words": 10,
    }
    question = ask.format(t=topic, w=word)
    return Problem(f"ending {topic} {word}", question, answer, check, _MAX_TOKENS)


def _opening(rng: random.Random) -> Problem:
    topic, word = rng.choice(_TOPICS), rng.choice(_QUALITIES)
    ask = rng.choice(
        (
            "Write a lower-case sentence about {t} that starts with the word {w}.",
            "Begin with the word {w}: a sentence about {t}, all lower case.",
        )
    )
    answer = f"{word} {topic} are what i like."
    check = {
        "kind": "constraints",
        "contains": topic,
        "starts_with": word,
        "lowercase": True,
        "max_words": 10,
    }
    question = ask.format(t=topic, w=word)
    return Problem(f"opening {topic} {word}", question, answer, check, _MAX_TOKENS)


INSTRUCTION = Task(
    domain="instruction",
    description="Word counts, initials, capitals, first and last words; every constraint counts.",
    templates={
        "count": _count,
        "capitals": _capitals,
        "initial": _initial,
        "ending": _ending,
        "opening": _opening,
    },
    mixes={
        "all": {"count": 0.25, "capitals": 0.2, "initial": 0.15, "ending": 0.2, "opening": 0.2},
        "counting": {"count": 0.4, "capitals": 0.4, "initial": 0.2},
        "sentences": {"ending": 0.5, "opening": 0.5},
    },
)
