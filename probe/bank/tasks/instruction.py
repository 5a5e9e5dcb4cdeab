"""Domain instruction: short orders whose obedience can be verified by reading the answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from probe.bank.tasks.elements import elements
from probe.bank.tasks.problem import Mix, Problem, Task

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
#: Form of an answer -> how it is ordered, what joins its parts, what changes their letters.
_FORMS: Mapping[str, tuple[str, str, Callable[[str], str]]] = {
    "capitals": ("in capitals", " ", str.upper),
    "lower": ("in lower case", " ", str.lower),
    "comma": ("with a comma", ", ", str),
    "joined": ("without a space", "", str),
}
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


def _repeat(rng: random.Random) -> Problem:
    word, n = rng.choice(_TOPICS + _QUALITIES), rng.randint(2, 9)
    ask = rng.choice(
        (
            "Write the word {w} {n} times.",
            "Repeat {w} {n} times, nothing else.",
            "Say {w} exactly {n} times.",
            "{n} times the word {w}, please.",
        )
    )
    check = {"kind": "constraints", "only_word": word, "num_words": n, "commas": False}
    question = ask.format(w=word, n=n)
    return Problem(f"repeat {word} {n}", question, " ".join([word] * n), check, _MAX_TOKENS)


def _reverse(rng: random.Random) -> Problem:
    words = rng.sample(_TOPICS, 3)
    ask = rng.choice(("Write in reverse order: {w}", "Say these words backwards, last word first: {w}"))
    question = ask.format(w=" ".join(words))
    return Problem(f"reverse {' '.join(words)}", question, " ".join(reversed(words)))


def _shout(rng: random.Random) -> Problem:
    words = rng.sample(_TOPICS, 3)
    ask = rng.choice(("Write in capitals: {w}", "Say these words in capital letters: {w}"))
    question = ask.format(w=" ".join(words))
    return Problem(f"shout {' '.join(words)}", question, " ".join(words).upper())


def _multiples(rng: random.Random) -> Problem:
    """Any multiples that fit are right; the reference answer is the smallest ones."""
    n, k, low = rng.choice((2, 3, 4)), rng.randint(2, 9), rng.randint(5, 40)
    ask = rng.choice(
        ("Write {n} multiples of {k} above {low}, no commas.", "{n} numbers above {low} that {k} divides, no commas.")
    )
    check = {"kind": "constraints", "num_words": n, "multiples_of": k, "above": low, "distinct": True, "commas": False}
    first = low // k + 1
    answer = " ".join(str(k * factor) for factor in range(first, first + n))
    return Problem(f"multiples {n} {k} {low}", ask.format(n=_NUMBERS[n], k=k, low=low), answer, check, _MAX_TOKENS)


def _between(rng: random.Random) -> Problem:
    n, low = rng.choice((2, 3, 4)), rng.randint(2, 50)
    high = low + n + rng.randint(1, 5)
    ask = rng.choice(
        (
            "Write {n} numbers above {low} and below {high}, no commas.",
            "Without commas, {n} numbers from {low} to {high}, these excluded.",
        )
    )
    check = {"kind": "constraints", "num_words": n, "above": low, "below": high, "distinct": True, "commas": False}
    answer = " ".join(str(low + step) for step in range(1, n + 1))
    question = ask.format(n=_NUMBERS[n], low=low, high=high)
    return Problem(f"between {n} {low} {high}", question, answer, check, _MAX_TOKENS)


def _symbols(rng: random.Random) -> Problem:
    """Ask for the symbols that science asks for, in another form than there."""
    pair = rng.sample(elements(), 2)
    form = rng.choice(list(_FORMS))
    words, joiner, change = _FORMS[form]
    ask = rng.choice(("Symbols of {a} and {b}, {words}.", "Write the symbols of {a} and {b} {words}."))
    question = ask.format(a=pair[0].name, b=pair[1].name, words=words)
    content = " ".join(("symbols", form, *sorted(element.symbol for element in pair)))
    return Problem(content, question, change(joiner.join(element.symbol for element in pair)))


def _combined(rng: random.Random) -> Problem:
    """Three constraints at once."""
    topic, word, n = rng.choice(_TOPICS), rng.choice(_QUALITIES), rng.choice((3, 4, 5))
    ask = rng.choice(
        (
            "In capitals, {n} words: the first {t}, the last {w}.",
            "Write {n} words in capitals, {t} first and {w} last.",
        )
    )
    check = {"kind": "constraints", "num_words": n, "starts_with": topic, "ends_with": word, "uppercase": True}
    others = [quality for quality in _qualities(rng, n) if quality != word]
    answer = " ".join([topic, *others[: n - 2], word]).upper()
    question = ask.format(n=_NUMBERS[n], t=topic, w=word)
    return Problem(f"combined {topic} {word} {n}", question, answer, check, _MAX_TOKENS)


INSTRUCTION = Task(
    domain="instruction",
    description="Word counts, initials, capitals, order, numbers; every constraint counts.",
    templates={
        "count": _count,
        "capitals": _capitals,
        "initial": _initial,
        "ending": _ending,
        "opening": _opening,
        "repeat": _repeat,
        "reverse": _reverse,
        "shout": _shout,
        "multiples": _multiples,
        "between": _between,
        "symbols": _symbols,
        "combined": _combined,
    },
    mixes={
        "all": Mix(
            {"count": 0.25, "capitals": 0.2, "initial": 0.15, "ending": 0.2, "opening": 0.2},
            "medium",
            "Counts, capitals, initials, first and last words (780 train rows, 380 evaluation rows).",
        ),
        "counting": Mix(
            {"count": 0.35, "capitals": 0.35, "initial": 0.1, "shout": 0.2},
            "medium",
            "So many words, no more, no less.",
        ),
        "sentences": Mix({"ending": 0.5, "opening": 0.5}, "medium", "Short sentences with a given first or last word."),
        "repeats": Mix({"repeat": 0.5, "shout": 0.25, "reverse": 0.25}, "easy", "Given words again, changed in form."),
        "numbers": Mix(
            {"multiples": 0.5, "between": 0.5}, "medium", "Numbers under constraints, in the words of math."
        ),
        "symbols": Mix({"symbols": 0.7, "shout": 0.3}, "medium", "Element symbols in a given form: science's words."),
        "combined": Mix({"combined": 0.7, "repeat": 0.3}, "hard", "Three constraints at once."),
    },
)
