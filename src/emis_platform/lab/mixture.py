"""mixture: texts of many sources -> parts that share no fact or question, each with its sources taking turns. Pure."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest


@dataclass(frozen=True)
class Text:
    """One conversation."""

    source: str
    """A variant of a domain, a voice, `prompts` or `questions`."""
    key: str
    """Texts of one key (a fact, a question) fall into the same part."""
    prompt: str
    answer: str | None
    """Its tokens are read; None: the prompt's own tokens are."""
    system: str | None = None


def part(key: str) -> str:
    """train, calibrate or test (a tenth each), by the key's hash: the same in every run and at every scale."""
    number = int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10
    return {0: "calibrate", 1: "test"}.get(number, "train")


def in_turn(texts: Sequence[Text], wanted: str, seed: int) -> list[Text]:
    """The texts of one part; sources take turns, so that a small budget hears every voice. Raises ValueError if there is none."""
    sources: dict[str, list[Text]] = {}
    for text in texts:
        if part(text.key) == wanted:
            sources.setdefault(text.source, []).append(text)
    if not sources:
        raise ValueError(f"none of {len(texts)} texts falls into the part `{wanted}`: more facts or questions are needed")
    for name, rows in sources.items():
        random.Random(f"{seed}:{name}").shuffle(rows)
    return [text for turn in zip_longest(*(sources[name] for name in sorted(sources))) for text in turn if text is not None]


def prompts(texts: Sequence[Text]) -> list[Text]:
    """Each distinct prompt by itself, once, in the part of its text."""
    alone: dict[str, Text] = {}
    for text in texts:
        if text.answer is not None:
            alone.setdefault(text.prompt, Text("prompts", text.key, text.prompt, None))
    return list(alone.values())
