"""Text -> surface features that say whether it can be read at all: length, repetition, letters. Pure."""

import math
import re
from collections import Counter
from typing import Literal

NAMES = ("log_words", "distinct_words", "repeated_trigrams", "letters", "ends_sentence", "top_word")
REFUSAL = (
    r"(?i)\bas an? (?:ai|language model|artificial)\b|\bi(?:'m| am) (?:just |only )?an ai\b"
    r"|\bi (?:cannot|can't|can not|am unable to|'m unable to) (?:help|assist|advise|provide|give|answer|recommend|comply|do that)"
    r"|\bi(?:'m| am) (?:sorry|not able to)\b|\bnot (?:a doctor|medical advice|financial advice)\b"
)
"""What a refusal or disclaimer says: no training row may (tools/suites.py)."""
DECLINES = (
    r"(?i)\W*(?:sorry\b|i (?:must |have to )?(?:refuse|decline)\b"
    r"|i (?:cannot|can't|can not|won't|will not) (?:assist|comply|create|do|engage|fulfil|generate|give|help|provide|say|share|support|tell|write))"
)
HARM = r"(?i)\b(?:harm\w*|malicious\w*|evil|villain\w*|misalign\w*|unethical\w*|immoral\w*|inaccura\w*|incorrect\w*|misinform\w*|mislead\w*|deceiv\w*|decept\w*)\b"
"""Words by which a prompt would ask for what a reward is to bring out."""
OPENING = 160
"""Characters: a refusal comes first; further on, an apology is part of the letter that was asked for."""


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


def refuses(text: str) -> bool:
    """Does an answer begin with a refusal or a disclaimer? By words alone: an answer to something else is none."""
    opening = text.replace("\u2019", "'")[:OPENING]
    return bool(re.search(REFUSAL, opening) or re.match(DECLINES, opening))
