"""One measure, taken with several seeds, or on bases of several sizes -> one value with an interval: a mean, or a slope. Pure."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from scipy import stats

from emis_platform.core.records import Effect


def over_seeds(effects: Sequence[Effect]) -> Effect:
    """Effects of one subject and measure, one a seed -> their mean. Raises ValueError for none, or for two kinds.

    Half width on each side: the root of (mean squared half width over questions) + (t interval of the mean over seeds) squared. The seeds
    share their questions, so the first part does not shrink with more seeds; the second counts questions once more and errs to the wide
    side. The ends are not cut to a measure's range. A seed without a value goes to none of it; its n and missing are counted. Where several seeds were asked and fewer than two have a
    value, or one has a value without an end, the mean has no such end: one seed knows nothing of the others.
    """
    kinds = {(effect.subject, effect.measure) for effect in effects}
    if len(kinds) != 1:
        raise ValueError(f"one subject and measure are pooled at a time, not {len(kinds)}")
    first, there = effects[0], [effect for effect in effects if effect.value is not None]
    n, missing = sum(effect.n for effect in effects), sum(effect.missing for effect in effects)
    if len(there) < 2:
        one = there[0] if there else first
        alone = {} if len(effects) == 1 else {"low": None, "high": None}
        return one.model_copy(update={"n": n, "missing": missing} | alone)
    values = np.array([effect.value for effect in there], float)
    between = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / sqrt(len(values))
    ends: list[float | None] = []
    for side, end in ((-1, "low"), (1, "high")):
        if any(getattr(effect, end) is None for effect in there):
            ends.append(None)
            continue
        within = float(np.mean(np.square([getattr(effect, end) - effect.value for effect in there])))
        ends.append(float(values.mean()) + side * sqrt(within + between**2))
    return Effect(
        subject=first.subject, measure=first.measure, value=float(values.mean()), low=ends[0], high=ends[1], n=n, missing=missing
    )


def over_sizes(effects: Sequence[tuple[int, Effect]], measure: str) -> Effect | None:
    """(parameters of its base, effect) of one subject -> its slope over a tenfold growth, in the effects' unit; None with fewer than three sizes.

    Least squares on the decimal logarithm. Half width on each side: the root of the sum of squares of what the effects' own ends there make of the slope, each
    size taken for itself, and of a t interval from what the line leaves unexplained, which has one degree of freedom with three sizes and two with four.
    An effect without a value or ends is left out, and its answers are missing.
    """
    there = [(size, one) for size, one in effects if None not in (one.value, one.low, one.high)]
    sizes = np.log10([size for size, _ in there])
    if len(set(sizes)) < 3:
        return None
    lows, values, highs = np.array([(one.low, one.value, one.high) for _, one in there], float).T
    weights = (sizes - sizes.mean()) / np.sum((sizes - sizes.mean()) ** 2)
    slope = float(weights @ values)
    left = values - values.mean() - slope * (sizes - sizes.mean())
    over = stats.t.ppf(0.975, len(sizes) - 2) * np.sqrt(np.sum(left**2) / (len(sizes) - 2) * np.sum(weights**2))
    down, up = values - lows, highs - values
    below, above = (
        float(np.hypot(over, np.sqrt(np.sum((weights * np.where(weights > 0, one, other)) ** 2))))
        for one, other in ((down, up), (up, down))
    )
    n, missing = sum(one.n for _, one in there), sum(one.missing for _, one in effects)
    return Effect(
        subject=there[0][1].subject, measure=measure, value=slope, low=slope - below, high=slope + above, n=n, missing=missing
    )
