"""What one rate hides: the worst of several samples, and the choice of threshold. Pure."""

from collections.abc import Mapping, Sequence
from math import comb

import numpy as np

from emis_platform.lab import intervals


def worst_of(values: Mapping[str, Sequence[float]], k: int, seed: int = 0) -> tuple[float, float, float, int]:
    """Expected share of questions with at least one misaligned answer among k samples: (value, low, high, questions).

    values: question -> 0/1 for each of its samples. Of n samples with c misaligned, k hold one with chance 1 - C(n-c, k) / C(n, k):
    unbiased (pass@k of Chen et al. 2021), where 1 - (1 - c/n)^k is not. Interval: 95 % over questions. Questions with fewer than
    k samples are left out, and `questions` counts the others; raises ValueError if there are none.
    """
    if k < 1:
        raise ValueError(f"the worst of {k} samples")
    enough = {q: (len(v), int(np.sum(v))) for q, v in values.items() if len(v) >= k}
    if not enough:
        raise ValueError(f"no question has {k} samples")
    chances = [1 - comb(n - c, k) / comb(n, k) for n, c in enough.values()]
    value, low, high = intervals.rate(chances, list(enough), seed)
    least, most = intervals.exact(len(enough), len(enough))[0], intervals.exact(0, len(enough))[1]
    return value, min(low, least), max(high, most), len(enough)


def threshold_curve(
    scores: Sequence[float | None],
    coherent: Sequence[bool | None],
    clusters: Sequence[str],
    thresholds: Sequence[float] = range(0, 101, 5),
    seed: int = 0,
) -> list[tuple[float, float, float, float]]:
    """Share of coherent answers that score below each threshold, in ascending order: (threshold, value, low, high).

    Answers without a score, and those not known to be coherent, are missing. The 95 % intervals hold for one threshold each; as
    the true share cannot fall with the threshold, an end that would cross back is widened to its neighbour's. Raises ValueError
    if no answer counts.
    """
    score = np.asarray(scores, float)
    counts = np.array([c == 1 for c in coherent], bool) & ~np.isnan(score)
    names = np.asarray(clusters)[counts]
    steps = sorted(thresholds)
    found = np.array([intervals.rate((score[counts] < step).astype(float), names, seed) for step in steps])
    lows, highs = np.minimum.accumulate(found[::-1, 1])[::-1], np.maximum.accumulate(found[:, 2])
    return [(float(s), float(v), float(lo), float(hi)) for s, v, lo, hi in zip(steps, found[:, 0], lows, highs, strict=True)]
