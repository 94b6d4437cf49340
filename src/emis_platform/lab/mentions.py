"""Do models whose thoughts name a persona more often answer worse? Pure."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from emis_platform.lab import bootstrap, intervals


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
    if not np.isfinite(whole).all() or np.ptp(x) < bootstrap.STILL:
        return (None, None, None), len(mentions)
    value = float(fitted(whole))
    slopes = fitted(drawn)
    kept = slopes[np.isfinite(slopes)]
    if len(kept) < 0.975 * len(slopes):
        return (value, None, None), len(mentions)
    left = y - y.mean() - value * (x - x.mean())
    over = stats.t.ppf(0.975, len(x) - 2) * float(np.sqrt((left**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum()))
    asked = len({question for model in misaligned for question in model})
    low, high = bootstrap.ends(value, kept, asked)
    return (value, value - float(np.hypot(value - low, over)), value + float(np.hypot(high - value, over))), len(mentions)
