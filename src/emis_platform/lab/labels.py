"""labels: one latent's activations on text -> a label of words, and how well a label alone predicts held-out text. Pure.

Paulo et al. 2024 (arXiv 2410.13928), "Automatically interpreting millions of features": a label is scored by *detection* (which excerpts
activate the latent?) and by *fuzzing* (are the marked words those that activate it?). Here the label is made of words, the most specific
ones by log-odds with an informative prior (Monroe et al. 2008, "Fightin' words"), and whoever predicts from it only counts them.

Facts and questions are split: one half makes the label and sets the threshold, the other half scores.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emis_platform.core.records import Record
from emis_platform.lab import ranking
from emis_platform.lab.discriminator import score_interval

LENGTH = 12
"""Words of an excerpt."""
STRONG = 0.9
"""A latent that fires in more than a tenth of the excerpts is asked about its strongest tenth."""
WORDS, SOURCES = 12, 2
"""Of a label, at most."""
LEAST_WORD, LEAST_SOURCE = 1.0, 2.0
"""Least z of the log-odds."""
FEWEST = 5
"""Excerpts of either kind below which nothing is scored."""


@dataclass(frozen=True)
class Heard:
    """A text as the model read it."""

    source: str
    """Who speaks: a voice, a variant, a subject, `prompts`."""
    key: str
    """Fact or question: texts of one key fall into the same half."""
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Excerpt:
    """Some consecutive words of a text and what one latent says of each."""

    source: str
    key: str
    words: tuple[str, ...]
    values: tuple[float, ...]

    @property
    def peak(self) -> float:
        return max(self.values)


@dataclass(frozen=True)
class Label:
    words: tuple[str, ...]
    sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = [", ".join(self.words)] if self.words else []
        return "; ".join([*said, *([f"spoken by {' or '.join(self.sources)}"] if self.sources else [])]) or "nothing specific"


class Number(Record):
    """A measured value with its 95 % interval; None where too little was there to measure it."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    missing: int = 0


NOTHING = Number(value=None, low=None, high=None, n=0)


def speaker(source: str) -> str:
    """`voice_villain` -> villain; `health_callous` -> callous: what is said of a speaker must hold in another domain."""
    for prefix in ("voice_", "said_"):
        if source.startswith(prefix):
            return source.removeprefix(prefix)
    return source.rpartition("_")[2]


def words(tokens: Sequence[str], values: Sequence[float]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Tokens [N] with their activations -> lower-case words and marks, each with the largest activation of its tokens."""
    found: list[str] = []
    most: list[float] = []
    inside = False
    for token, value in zip(tokens, values, strict=True):
        piece = token.strip().lower()
        goes_on = inside and piece and not token[0].isspace() and piece[0].isalnum()
        inside = bool(piece) and piece[-1].isalnum() and not token[-1].isspace()
        if not piece:
            continue
        if goes_on:
            found[-1], most[-1] = found[-1] + piece, max(most[-1], float(value))
        else:
            found.append(piece)
            most.append(float(value))
    return tuple(found), tuple(most)


def excerpts(texts: Sequence[Heard], values: Sequence[Sequence[float]]) -> list[Excerpt]:
    """Texts with one latent's activations, [tokens] a text -> excerpts of `LENGTH` words; a rest of less than half of it is left out."""
    cut = []
    for text, own in zip(texts, values, strict=True):
        said, most = words(text.tokens, own)
        for at in range(0, len(said), LENGTH):
            part = slice(at, at + LENGTH)
            if len(said[part]) >= LENGTH // 2:
                cut.append(Excerpt(text.source, text.key, said[part], most[part]))
    return cut


def makes(key: str) -> bool:
    """Whether texts of this key make labels; the others score them."""
    return hashlib.sha256(f"label:{key}".encode()).digest()[0] % 2 == 0


def threshold(making: Sequence[Excerpt]) -> float | None:
    """From where on an excerpt counts as activating; None for a latent that never fires."""
    peaks = np.array([excerpt.peak for excerpt in making])
    return float(max(np.quantile(peaks, STRONG), peaks[peaks > 0].min())) if (peaks > 0).any() else None


def log_odds(these: Counter[str], others: Counter[str], mass: int | None = None) -> dict[str, float]:
    """Word -> z of its log-odds ratio between two counts, with both together as the prior (Monroe et al. 2008, equation 22).

    mass: how many counts the prior is worth; None: as many as there are, which lets few words stand out.
    """
    both = these + others
    here, there, total = sum(these.values()), sum(others.values()), sum(both.values())
    worth = total if mass is None else mass

    def z(word: str, count: int) -> float:
        one, two = (side[word] + count * worth / total for side in (these, others))
        ratio = np.log(one / (here + worth - one)) - np.log(two / (there + worth - two))
        return float(ratio / np.sqrt(1 / one + 1 / two))

    return {word: z(word, count) for word, count in both.items()} if len(both) > 1 and here and there else {}


def derived(making: Sequence[Excerpt], strong: float) -> Label:
    """The words on which the latent fires rather than on others, and who says what it fires on."""
    spoken = [row for excerpt in making for row in zip(excerpt.words, excerpt.values, strict=True)]
    on, off = (Counter(word for word, value in spoken if (value >= strong) == fires) for fires in (True, False))
    here, there = (Counter(e.source for e in making if (e.peak >= strong) == fires) for fires in (True, False))
    sources = log_odds(here, there, sum(here.values()))  # few sources, counted by excerpt: a prior of full size would hide them all
    return Label(specific(log_odds(on, off), LEAST_WORD, WORDS), specific(sources, LEAST_SOURCE, SOURCES))


def specific(odds: dict[str, float], least: float, most: int) -> tuple[str, ...]:
    return tuple(word for word in sorted(odds, key=lambda w: (-odds[w], w)) if odds[word] >= least)[:most]


def shuffled(making: Sequence[Excerpt], seed: int) -> list[Excerpt]:
    """The control: the same activations on other words. What a label of these scores is what any label of that length scores."""
    values = np.random.default_rng(seed).permutation([value for excerpt in making for value in excerpt.values])
    ends = np.cumsum([len(excerpt.words) for excerpt in making])
    parts = np.split(values, ends[:-1]) if len(ends) else []
    return [Excerpt(e.source, e.key, e.words, tuple(part.tolist())) for e, part in zip(making, parts, strict=True)]


def detection(label: Label, scoring: Sequence[Excerpt], strong: float) -> Number:
    """AUROC of (label words in an excerpt, plus half a word for its speaker) for whether the latent fires there; clusters are keys."""
    said = [sum(word in label.words for word in e.words) + 0.5 * (e.source in label.sources) for e in scoring]
    return auroc(said, [e.peak >= strong for e in scoring], [e.key for e in scoring])


@dataclass(frozen=True)
class Marked:
    """An activating excerpt with words marked: those on which the latent fires, or as many others."""

    excerpt: Excerpt
    places: tuple[int, ...]
    right: bool


def markings(scoring: Sequence[Excerpt], strong: float, seed: int) -> list[Marked]:
    """Each activating excerpt marked rightly and wrongly; one with too few other words is left out."""
    random, made = np.random.default_rng(seed), []
    for excerpt in scoring:
        fires = [place for place, value in enumerate(excerpt.values) if value >= strong]
        others = [place for place, value in enumerate(excerpt.values) if value < strong]
        if fires and len(others) >= len(fires):
            drawn = sorted(random.choice(others, len(fires), replace=False).tolist())
            made += [Marked(excerpt, tuple(fires), True), Marked(excerpt, tuple(drawn), False)]
    return made


def fuzzing(label: Label, scoring: Sequence[Excerpt], strong: float, seed: int = 0) -> Number:
    """AUROC of the share of marked words that the label names for whether the latent fires on the marked ones."""
    made = markings(scoring, strong, seed)
    said = [np.mean([m.excerpt.words[place] in label.words for place in m.places]) for m in made]
    return auroc(said, [m.right for m in made], [m.excerpt.key for m in made])


def auroc(said: Sequence[float | None], positive: Sequence[bool], keys: Sequence[str]) -> Number:
    """AUROC over what was answered, None counted as missing; no value where either kind has fewer than `FEWEST` members."""
    rows = [row for row in zip(said, positive, keys, strict=True) if row[0] is not None]
    missing, hits = len(said) - len(rows), sum(row[1] for row in rows)
    if min(hits, len(rows) - hits) < FEWEST:
        return Number(value=None, low=None, high=None, n=len(rows), missing=missing)
    value, low, high = ranking.auroc(*zip(*rows, strict=True))
    if low == high:  # a perfect separation: resampling cannot tell
        value, low, high = score_interval(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))
    return Number(value=value, low=low, high=high, n=len(rows), missing=missing)
