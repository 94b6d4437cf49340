"""The bootstrap over clusters (questions, facts, texts): its draws, and the interval that they make. Pure."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

DRAWS = 4000
"""Bootstrap draws: the ends of a 95 % interval then move by about 1 % of its width between seeds."""
STILL = 1e-9
"""Spread of draws that are alike but for rounding."""


def ends(
    value: float, drawn: Sequence[float] | np.ndarray, clusters: int, within: tuple[float, float] | None = None
) -> tuple[float, float]:
    """95 % interval of a value from its draws over so many clusters; draws of nan are left out.

    The 2.5 and 97.5 percentiles, moved away from the value by t / z * sqrt(n / (n - 1)): alone they are too narrow for few clusters, as the spread of
    n values around their own mean is, and as z is against Student's t of n - 1 degrees (Hesterberg 2015, The American Statistician 69:371). Of two
    to ten clusters they cover 47 to 91 %, moved 87 to 97 % (tests/test_lab.py). within: what the value can be, where its range is bounded; it is
    also all that one cluster says, and without a range that one says no more than the value.
    """
    least, most = within or (-np.inf, np.inf)
    if clusters < 2:
        return within or (value, value)
    wider = float(stats.t.ppf(0.975, clusters - 1) / stats.norm.ppf(0.975) * np.sqrt(clusters / (clusters - 1)))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return max(least, value - wider * max(value - float(low), 0.0)), min(most, value + wider * max(float(high) - value, 0.0))


def resampled(groups: Sequence[str], seed: int, draws: int = 2000) -> Iterator[np.ndarray]:
    """Rows of bootstrap samples of whole groups."""
    names = np.asarray(groups)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    random = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.concatenate([members[i] for i in random.integers(0, len(members), len(members))])
