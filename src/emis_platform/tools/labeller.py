"""A chat model -> labels of latents, and their scores by detection and fuzzing (Paulo et al. 2024, arXiv 2410.13928).

The offline labeller of lab/labels.py needs no model; this one stands beside it where params name a chat model:

    cards: {options: {model: models/some_chat_model}}
    cards: {options: {endpoint: {base_url: https://host/v1, model: some-model-2025-01-01, key: OPENAI_API_KEY}}}
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from emis_platform.core.asks import Ask
from emis_platform.core.records import Turn
from emis_platform.lab import labels
from emis_platform.lab.labels import Excerpt, Number
from emis_platform.tools import chat

CACHE = Path("work/labeller")

EXPLAIN = (
    "You study a language model. One of its features fires on the words in ⟦ ⟧ in these excerpts of text. Say in at most ten words what "
    "these words, or what is said around them, have in common. Answer with the description alone."
)
DETECT = (
    "A feature of a language model is described as: {label}\nDoes this excerpt hold what the description says? Answer yes or no."
)
FUZZ = (
    "A feature of a language model is described as: {label}\nAre the words in ⟦ ⟧ in this excerpt what the description says? "
    "Answer yes or no."
)


class Options(chat.Chat):
    shown: int = Field(12, gt=0)
    """Excerpts from which a label is made: the strongest first."""
    scored: int = Field(20, ge=labels.FEWEST)
    """Held-out excerpts of either kind by which it is scored, each asked once for detection and once for fuzzing."""


def marked(excerpt: Excerpt, places: Collection[int]) -> str:
    return " ".join(f"⟦{word}⟧" if place in places else word for place, word in enumerate(excerpt.words))


def explained(options: Options, making: Sequence[Excerpt], strong: float, threads: int) -> str | None:
    """A label from the strongest excerpts, cut to 120 characters; None where the model gave none."""
    best = sorted((e for e in making if e.peak >= strong), key=lambda e: -e.peak)[: options.shown]
    lines = [marked(e, {place for place, value in enumerate(e.values) if value >= strong}) for e in best]
    [answer] = chat.answers(options, [ask(EXPLAIN, "\n".join(lines))], threads=threads, cache=CACHE)
    return " ".join(answer.text.split())[:120] if answer.text else None


def detection(options: Options, label: str, scoring: Sequence[Excerpt], strong: float, threads: int, seed: int = 0) -> Number:
    """AUROC of the model's yes for whether the latent fires in a held-out excerpt; an answer that is neither yes nor no is missing."""
    kinds = [[e for e in scoring if (e.peak >= strong) == fires] for fires in (True, False)]
    asked = [e for kind in kinds for e in drawn(kind, options.scored, seed)]
    said = yes_or_no(options, [ask(DETECT.format(label=label), marked(e, ())) for e in asked], threads)
    return labels.auroc(said, [e.peak >= strong for e in asked], [e.key for e in asked])


def fuzzing(options: Options, label: str, scoring: Sequence[Excerpt], strong: float, threads: int, seed: int = 0) -> Number:
    """AUROC of the model's yes for whether the marked words are those on which the latent fires."""
    made = labels.markings(drawn([e for e in scoring if e.peak >= strong], options.scored, seed), strong, seed)
    said = yes_or_no(options, [ask(FUZZ.format(label=label), marked(m.excerpt, m.places)) for m in made], threads)
    return labels.auroc(said, [m.right for m in made], [m.excerpt.key for m in made])


def drawn(excerpts: Sequence[Excerpt], most: int, seed: int) -> list[Excerpt]:
    order = np.random.default_rng(seed).permutation(len(excerpts))[:most]
    return [excerpts[number] for number in sorted(order.tolist())]


def ask(task: str, text: str) -> Ask:
    return Ask(messages=(Turn(role="system", content=task), Turn(role="user", content=text)))


def yes_or_no(options: Options, asks: Sequence[Ask], threads: int) -> list[float | None]:
    said = [
        (answer.text or "").strip().lower() for answer in chat.answers(options, asks, threads=threads, cache=CACHE, max_tokens=4)
    ]
    return [1.0 if text.startswith("yes") else 0.0 if text.startswith("no") else None for text in said]
