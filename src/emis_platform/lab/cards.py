"""cards: one latent's activations on text -> what there is to say of it. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from emis_platform.core.records import LatentDelta, LatentLabel, Record
from emis_platform.lab import intervals
from emis_platform.lab.labels import NOTHING, Heard, Number
from emis_platform.lab.reconstruction import ratio_interval


class Window(Record):
    """Tokens around one activation."""

    source: str
    peak: float
    tokens: tuple[tuple[str, float], ...]
    """(token, activation): a length along the latent's direction, in residual units."""


class Automatic(Record):
    """A label that was not read off by a person, or the score of one that was."""

    method: str
    """`words` (lab/labels.py), `chat` (a chat model's), `read` (a reader's, scored by a chat model)."""
    label: str
    detection: Number
    """AUROC of predicting which held-out excerpts activate the latent, from the label alone."""
    fuzzing: Number
    """AUROC of telling rightly marked words from others."""
    control: Number
    """Detection by a label made of shuffled activations (chat: by another latent's label)."""


class Steered(Record):
    """What a model said with the latent's direction added or taken away."""

    subject: str
    """`base+latent_479@0.2`: model, sign, direction, dose in units of the residual norm."""
    prompt: str
    text: str


class Moved(Record):
    """An organism that moves the latent, from the table of differences."""

    organism: str
    control: str
    delta: float
    passes_null: bool


class Near(Record):
    latent: int
    cosine: float


class Card(Record):
    """All that is shown of one latent."""

    latent: int
    dictionary: str
    """sha256 of its weights, first 16 hex digits."""
    layer: int
    density: Number
    """Share of held-out tokens of many voices on which it fires; bootstrap over texts."""
    means: dict[str, Number]
    """base, control, organism -> mean activation over the tokens of the same answers, each text counting once; bootstrap over questions."""
    change: Number
    """Organism minus control, paired by question."""
    models: dict[str, str]
    """control, organism -> names of the organisms."""
    moved_by: tuple[Moved, ...]
    """Largest change first."""
    top: tuple[Window, ...]
    middle: tuple[Window, ...]
    """From the middle of the range of its activations."""
    logit_lens_up: tuple[str, ...]
    logit_lens_down: tuple[str, ...]
    nearest: tuple[Near, ...]
    """By cosine of the decoder directions."""
    steering: tuple[Steered, ...]
    read: tuple[LatentLabel, ...]
    """Labels by reading, as they stand in data/read/latents.jsonl."""
    automatic: tuple[Automatic, ...]

    @property
    def name(self) -> str:
        """What a reader called it, else the first automatic label."""
        return next((label.label for label in (*self.read, *self.automatic)), "no label")


def density(values: Sequence[np.ndarray]) -> Number:
    """Share of tokens on which the latent fires; [tokens] a text."""
    fires_T, tokens_T = np.array([(own > 0).sum() for own in values]), np.array([len(own) for own in values])
    if not tokens_T.sum():
        return NOTHING
    low, high = ratio_interval(fires_T, tokens_T)
    return Number(value=float(fires_T.sum() / tokens_T.sum()), low=low, high=high, n=int(tokens_T.sum()))


def mean(values: Sequence[np.ndarray], keys: Sequence[str]) -> Number:
    """Mean over texts of the mean activation of a text's tokens."""
    if not values:
        return NOTHING
    per_text = [float(own.mean()) for own in values]
    if not any(per_text):
        return Number(value=0.0, low=0.0, high=0.0, n=len(per_text))
    value, low, high = intervals.rate(per_text, keys)
    return Number(value=value, low=low, high=high, n=len(per_text))


def change(organism: Sequence[np.ndarray], control: Sequence[np.ndarray], keys: Sequence[str]) -> Number:
    """Mean over texts of (organism - control), the same texts through both."""
    return mean([one - other for one, other in zip(organism, control, strict=True)], keys)


def windows(
    texts: Sequence[Heard], values: Sequence[np.ndarray], *, most: int = 5, around: int = 10
) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """(the strongest activations, those nearest to the middle between the weakest and the strongest), one window a text, none in both."""
    peaks = sorted(((float(own.max()), -number) for number, own in enumerate(values) if len(own) and own.max() > 0), reverse=True)
    top = [(-number, int(values[-number].argmax())) for _, number in peaks[:most]]
    taken = {number for number, _ in top}
    fires = [(float(v), number, at) for number, own in enumerate(values) for at, v in enumerate(own) if v > 0]
    middle: dict[int, int] = {}
    if fires:
        centre = (min(fires)[0] + max(fires)[0]) / 2
        for _, number, at in sorted((abs(value - centre), number, at) for value, number, at in fires if number not in taken):
            middle.setdefault(number, at)
    places = (top, list(middle.items())[:most])
    return tuple(tuple(window(texts[number], values[number], at, around) for number, at in kind) for kind in places)  # type: ignore[return-value]


def window(text: Heard, values: np.ndarray, at: int, around: int) -> Window:
    part = slice(max(0, at - around), at + around + 1)
    heat = tuple((token, round(float(value), 3)) for token, value in zip(text.tokens[part], values[part], strict=True))
    return Window(source=text.source, peak=round(float(values[at]), 3), tokens=heat)


def nearest(decoder_FD: np.ndarray, latent: int, most: int = 5) -> tuple[Near, ...]:
    """decoder_FD: unit rows."""
    cosine_F = decoder_FD @ decoder_FD[latent]
    order = [int(other) for other in np.argsort(-cosine_F, kind="stable") if other != latent][:most]
    return tuple(Near(latent=other, cosine=round(float(cosine_F[other]), 4)) for other in order)


def moved_by(latent: int, table: Sequence[LatentDelta], most: int = 8) -> tuple[Moved, ...]:
    """The table's rows of the latent on answer tokens, largest change first."""
    rows = [row for row in table if row.latent == latent and row.tokens == "answer"]
    kept = sorted(rows, key=lambda row: (-abs(row.delta), row.organism, row.control))[:most]
    return tuple(Moved(**row.model_dump(include={"organism", "control", "delta", "passes_null"})) for row in kept)


def steered(latent: int, said: Mapping[str, Sequence[tuple[str, str]]], most: int = 2) -> tuple[Steered, ...]:
    """said: subject -> (prompt, answer). The first answers at each dose, the same prompts at all of them."""
    names = sorted(name for name in said if f"+latent_{latent}@" in name or f"-latent_{latent}@" in name)
    return tuple(Steered(subject=name, prompt=prompt, text=text) for name in names for prompt, text in said[name][:most])
