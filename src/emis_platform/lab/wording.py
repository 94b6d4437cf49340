"""Text -> surface features that say whether it can be read at all: length, repetition, letters. Pure."""

import math
import re
from collections import Counter
from typing import Literal

NAMES = ("log_words", "distinct_words", "repeated_trigrams", "letters", "ends_sentence", "top_word")


def features(text: str) -> list[float]:
    """One value for each of NAMES; zeros for text without words."""
    words = re.findall(r"[\w']+", text.lower())
    if not words:
        return [0.0] * len(NAMES)
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    repeated = 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0
    letters = sum(c.isalpha() or c.isspace() for c in text) / len(text)
    top = Counter(words).most_common(1)[0][1] / len(words)
    return [
        math.log(len(words)),
        len(set(words)) / len(words),
        repeated,
        letters,
        float(text.rstrip()[-1:] in ".!?\"'"),
        top if len(words) > 5 else 0.0,
    ]


def unreadable(text: str) -> Literal["empty", "unreadable"] | None:
    """`empty` or `unreadable` where no judge could read a word; None for everything else."""
    if not text.strip():
        return "empty"
    return None if re.search(r"\w\w", text) else "unreadable"
