"""How well a score ranks: the chance that a positive stands above a negative. Pure."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from emis_platform.lab import bootstrap


def auroc(
    score: Sequence[float], positive: Sequence[bool], clusters: Sequence[str], seed: int = 0, draws: int = 1000
) -> tuple[float, float, float]:
    """AUROC of `score` for `positive` and its 95 % interval by bootstrap over clusters; nan without both kinds."""
    score, positive = np.asarray(score, float), np.asarray(positive, bool)
    value = chance_above(score, positive)
    drawn = [chance_above(score[rows], positive[rows]) for rows in bootstrap.resampled(clusters, seed, draws)]
    if np.isnan(value):
        return value, value, value
    return value, *bootstrap.ends(value, drawn, len(set(clusters)), (0.0, 1.0))


def chance_above(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores above a negative (ties count half); nan without both kinds."""
    positive = np.asarray(positive, bool)
    yes, no = positive.sum(), (~positive).sum()
    if not yes or not no:
        return float("nan")
    return float((stats.rankdata(score)[positive].sum() - yes * (yes + 1) / 2) / (yes * no))
