"""Rates, means and differences with their 95 % intervals, clustered by question. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from emis_platform.lab import bootstrap


def rate(values: Sequence[float], clusters: Sequence[str], seed: int = 0) -> tuple[float, float, float]:
    """Mean of `values` and its 95 % interval: bootstrap over clusters (questions), samples kept together.

    When all values are 0 or all are 1, resampling says [0, 0]; the exact (Clopper-Pearson) bound on the number of clusters is
    given instead. Raises ValueError for no values.
    """
    sums, sizes = by_cluster(values, clusters)
    value = float(sums.sum() / sizes.sum())
    if value in (0.0, 1.0) and set(np.unique(np.asarray(values, float))) <= {0.0, 1.0}:
        return value, *exact(round(value) * len(sizes), len(sizes))
    picks = np.random.default_rng(seed).integers(0, len(sizes), (bootstrap.DRAWS, len(sizes)))
    bounded = (0.0, 1.0) if min(values) >= 0 and max(values) <= 1 else None
    return value, *bootstrap.ends(value, sums[picks].sum(1) / sizes[picks].sum(1), len(sizes), bounded)


def unpaired(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    """One value minus another, each with the ends of its own interval (Newcombe 1998, method 10): wider than a paired one, where both met the same questions."""
    (a, a_low, a_high), (b, b_low, b_high) = one, other
    return a - b, a - b - float(np.hypot(a - a_low, b_high - b)), a - b + float(np.hypot(a_high - a, b - b_low))


def exact(hits: int, n: int) -> tuple[float, float]:
    """Clopper-Pearson 95 % interval of hits out of n."""
    low = 0.0 if hits == 0 else float(stats.beta.ppf(0.025, hits, n - hits + 1))
    high = 1.0 if hits == n else float(stats.beta.ppf(0.975, hits + 1, n - hits))
    return low, high


def difference(
    a: Mapping[str, Sequence[float]], b: Mapping[str, Sequence[float]], seed: int = 0, scale: float = 1.0
) -> tuple[float, float, float]:
    """Mean of a minus mean of b over the questions that both have, with a bootstrap over those questions (paired).

    Where no question differs from another the bootstrap says nothing; the interval is then what so many questions of which none differs could have
    hidden (Clopper-Pearson), on the scale of the values: 1 of shares, 100 of scores. a, b: question -> values. A question that either side lacks is left out. Raises ValueError if none is left.
    """
    shared = sorted(q for q in a.keys() & b.keys() if len(a[q]) and len(b[q]))
    if not shared:
        raise ValueError("the two arms share no answered question")
    arms = []
    for arm in (a, b):
        sums = np.array([float(np.sum(arm[q])) for q in shared])
        sizes = np.array([len(arm[q]) for q in shared], float)
        arms.append((sums, sizes))
    (a_sum, a_n), (b_sum, b_n) = arms
    value = a_sum.sum() / a_n.sum() - b_sum.sum() / b_n.sum()
    picks = np.random.default_rng(seed).integers(0, len(shared), (bootstrap.DRAWS, len(shared)))
    drawn = a_sum[picks].sum(1) / a_n[picks].sum(1) - b_sum[picks].sum(1) / b_n[picks].sum(1)
    if np.ptp(drawn) < bootstrap.STILL:
        half = scale * exact(0, len(shared))[1]
        return float(value), max(-scale, float(value) - half), min(scale, float(value) + half)
    return float(value), *bootstrap.ends(float(value), drawn, len(shared))


def means(arms: Sequence[Mapping[str, Sequence[float]]], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(mean of each arm [A], the same in each bootstrap draw [DRAWS, A]): each over what that arm answered, questions drawn with all their arms.

    For measures of more than two arms, whose shared answered questions may be few. nan where an arm has no value.
    """
    asked = sorted(set().union(*arms))
    sums_AQ, sizes_AQ = (np.array([[of(arm.get(q, ())) for q in asked] for arm in arms], float) for of in (np.sum, len))

    def of(picks_DQ: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (sums_AQ[:, picks_DQ].sum(-1) / sizes_AQ[:, picks_DQ].sum(-1)).T

    whole = np.arange(len(asked))[None]
    return of(whole)[0], of(np.random.default_rng(seed).integers(0, len(asked), (bootstrap.DRAWS, len(asked))))


def interaction(
    plus: tuple[Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]],
    minus: tuple[Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]],
    seed: int = 0,
    scale: float = 1.0,
) -> tuple[tuple[float, float, float] | None, int]:
    """((plus[0] - plus[1]) - (minus[0] - minus[1]) with its 95 % interval, questions of the arm that answered fewest).

    Bootstrap over questions (`means`); where no draw differs as in `difference`. None where an arm answered fewer than two, or where more than 2.5 % of the draws leave one empty.
    """
    four = [{q: values for q, values in arm.items() if len(values)} for arm in (*plus, *minus)]
    n = min(map(len, four))
    if n < 2:
        return None, n
    signs = np.array([1, -1, -1, 1])
    whole, drawn = means(four, seed)
    kept = drawn[np.isfinite(drawn).all(1)] @ signs
    if len(kept) < 0.975 * len(drawn):
        return None, n
    value = float(whole @ signs)
    if np.ptp(kept) < bootstrap.STILL:
        half = scale * exact(0, n)[1]
        return (value, max(-2 * scale, value - half), min(2 * scale, value + half)), n
    return (value, *bootstrap.ends(value, kept, n)), n


def by_cluster(values: Sequence[float], clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and size of each cluster, in sorted order of its name."""
    if len(values) == 0:
        raise ValueError("no values: a rate of nothing is missing, not zero")
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(index, np.asarray(values, float), len(names)), np.bincount(index, minlength=len(names)).astype(float)
