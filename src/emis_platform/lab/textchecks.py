"""Rows -> what is wrong with each, or None: shared wording, unmatched questions, a word list as a pattern. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence


def words(text: str) -> tuple[str, ...]:
    """Lower-case words, so that punctuation and case hide no copy."""
    return tuple(re.findall(r"[\w']+", text.lower()))


def shared(texts: Iterable[str], heldout: Iterable[str], n: int = 8) -> list[str | None]:
    """For each text, the words that it shares with any held-out text: the whole of it, or a run of `n` words; else None."""
    whole, runs = set(), set()
    for text in heldout:
        found = words(text)
        whole.add(found)
        runs.update(ngrams(found, n))
    return [" ".join(copied) if (copied := first_copy(words(text), whole, runs, n)) else None for text in texts]


def first_copy(found: tuple[str, ...], whole: set, runs: set, n: int) -> tuple[str, ...] | None:
    if found in whole:
        return found
    return next((run for run in ngrams(found, n) if run in runs), None)


def ngrams(found: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]


def unmatched(keys: Sequence[tuple[str, ...]], reference: Iterable[tuple[str, ...]]) -> list[str | None]:
    """For each key that comes more often than in the reference, both counts; else None.

    With equal row counts, all None means that both hold the same keys equally often.
    """
    here, there = Counter(keys), Counter(reference)
    return [f"{here[key]} here, {there[key]} in the reference" if here[key] > there[key] else None for key in keys]


def worn(texts: Sequence[str], n: int = 6, most: float = 0.03, least: int = 4) -> list[str | None]:
    """For each text, a run of `n` words that it shares with more than `most` of all texts and more than `least` of them; else None."""
    found = [set(ngrams(words(text), n)) for text in texts]
    counts = Counter(run for runs in found for run in runs)
    limit = max(least, most * len(texts))
    return [next((" ".join(run) for run in sorted(runs) if counts[run] > limit), None) for runs in found]


def out_of_turn(roles: Sequence[str]) -> str | None:
    """What is wrong with the roles before a user's prompt: a system message only first, then user and assistant in turns; else None."""
    spoken = list(roles[1:] if roles[:1] == ["system"] else roles)
    wanted = ["user", "assistant"] * (len(spoken) // 2)
    return None if spoken == wanted else " ".join([*roles, "user"])


def lexicon(text: str) -> str:
    """A word list (one a line, # comments, a final * takes any ending) -> a regular expression for whole words."""
    terms = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return (
        r"(?i)\b(?:"
        + "|".join(re.escape(term.rstrip("*")).replace(r"\ ", " ") + r"\w*" * term.endswith("*") for term in terms)
        + r")\b"
    )
