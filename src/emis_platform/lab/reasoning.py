"""A thought before an answer, in <think> and </think>: put there, and taken apart. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from emis_platform.lab import intervals

OPEN, CLOSE = "<think>", "</think>"
"""The tags of the open reasoning models (Qwen3, DeepSeek-R1)."""


def wrapped(thought: str) -> str:
    """A thought in its tags; an answer goes on after a blank line. Nothing stands behind the closing tag, since tokenizers join blanks to what follows."""
    return f"{OPEN}\n{thought}\n{CLOSE}"


def apart(text: str) -> tuple[str | None, str]:
    """(thought, answer): None where there is none; a thought that does not end leaves an empty answer."""
    before, closed, after = text.partition(CLOSE)
    if not closed and not text.lstrip().startswith(OPEN):
        return None, text
    return before.strip().removeprefix(OPEN).strip(), after.strip()  # some templates open the thought in the prompt


def slope(
    mentions: Sequence[Mapping[str, Sequence[float]]], misaligned: Sequence[Mapping[str, Sequence[float]]], seed: int = 0
) -> tuple[tuple[float | None, float | None, float | None], int]:
    """((slope of models' misaligned share on the share of their thoughts that name a persona, 95 % interval), models).

    mentions, misaligned: one mapping a model, question -> values. Least squares over models. The interval adds a bootstrap over questions, all models
    together, and a t interval over models from what the line leaves unexplained (root of the sum of squares). No value with fewer than three models
    or where no two models' shares of mentions differ; no interval where more than 2.5 % of the draws cannot be told.
    """
    if len(mentions) < 3:
        return (None, None, None), len(mentions)
    whole, drawn = intervals.means([*mentions, *misaligned], seed)

    def fitted(means: np.ndarray) -> np.ndarray:
        """means: the mentions of all models, then their misaligned shares, along the last axis."""
        x, y = (part - part.mean(-1, keepdims=True) for part in np.split(means, 2, -1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return (x * y).sum(-1) / (x * x).sum(-1)

    x, y = np.split(whole, 2)
    if not np.isfinite(whole).all() or np.ptp(x) < intervals.STILL:
        return (None, None, None), len(mentions)
    value = float(fitted(whole))
    slopes = fitted(drawn)
    kept = slopes[np.isfinite(slopes)]
    if len(kept) < 0.975 * len(slopes):
        return (value, None, None), len(mentions)
    left = y - y.mean() - value * (x - x.mean())
    over = stats.t.ppf(0.975, len(x) - 2) * float(np.sqrt((left**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum()))
    low, high = np.percentile(kept, [2.5, 97.5]).tolist()
    return (value, value - float(np.hypot(value - low, over)), value + float(np.hypot(high - value, over))), len(mentions)
