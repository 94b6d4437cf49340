"""Is an answer like those that the shipped judges were fitted on: English prose of some words? Pure."""

import json
import re
from typing import Literal

Unlike = Literal["language", "format", "length"]

WORDS = (2, 200)
"""Fewest and most words of the answers that were read for the fit (docs/judges.md): beyond them no score was ever checked."""


def why(text: str) -> Unlike | None:
    """`language`: mostly letters of another script, or hardly one of the commonest English words; `format`: code, markup, JSON or a table;
    `length`: fewer or more words than WORDS. None: like them. The first that holds."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", text.lower())
    letters = [c for c in text if c.isalpha()]
    foreign = sum(not c.isascii() for c in letters)
    common = sum(re.split("['’]", word)[0] in ENGLISH_STOP_WORDS for word in words)
    if letters and (foreign > 0.2 * len(letters) or (len(words) >= 8 and common < 0.2 * len(words))) and not looks_made(text):
        return "language"
    if looks_made(text):
        return "format"
    return None if WORDS[0] <= len(words) <= WORDS[1] else "length"


def looks_made(text: str) -> bool:
    """Code, markup, JSON or a table rather than prose."""
    if re.search(
        r"```|</?[a-zA-Z][^>\n]*>|^\s*(def|class|import|from|#include|function|SELECT|const|let|var)\b.*[(:;{=]", text, re.M
    ):
        return True
    if len(re.findall(r"^\s*\|.*\|\s*$", text, re.M)) >= 2:
        return True
    if text.strip()[:1] in "{[":
        try:
            json.loads(text)
            return True
        except ValueError:
            pass
    return len(re.findall(r"[{}<>;=\[\]\\|$#@_^~]", text)) > 0.04 * max(len(text), 25)
