"""Rates, means and differences with their 95 % intervals, clustered by question. Pure."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import stats

DRAWS = 4000
"""Bootstrap draws: the ends of a 95 % interval then move by about 1 % of its width between seeds."""
STILL = 1e-9
"""Spread of draws that are alike but for rounding."""


def rate(values: Sequence[float], clusters: Sequence[str], seed: int = 0) -> tuple[float, float, float]:
    """Mean of `values` and its 95 % interval: percentile bootstrap over clusters (questions), samples kept together.

    When all values are 0 or all are 1, resampling says [0, 0]; the exact (Clopper-Pearson) bound on the number of clusters is
    given instead. Raises ValueError for no values.
    """
    sums, sizes = by_cluster(values, clusters)
    value = float(sums.sum() / sizes.sum())
    if value in (0.0, 1.0) and set(np.unique(np.asarray(values, float))) <= {0.0, 1.0}:
        return value, *exact(round(value) * len(sizes), len(sizes))
    picks = np.random.default_rng(seed).integers(0, len(sizes), (DRAWS, len(sizes)))
    low, high = np.percentile(sums[picks].sum(1) / sizes[picks].sum(1), [2.5, 97.5])
    return value, float(low), float(high)


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
    picks = np.random.default_rng(seed).integers(0, len(shared), (DRAWS, len(shared)))
    drawn = a_sum[picks].sum(1) / a_n[picks].sum(1) - b_sum[picks].sum(1) / b_n[picks].sum(1)
    if np.ptp(drawn) < STILL:
        half = scale * exact(0, len(shared))[1]
        return float(value), max(-scale, float(value) - half), min(scale, float(value) + half)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(value), float(low), float(high)


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
    return of(whole)[0], of(np.random.default_rng(seed).integers(0, len(asked), (DRAWS, len(asked))))


def interaction(
    plus: tuple[Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]],
    minus: tuple[Mapping[str, Sequence[float]], Mapping[str, Sequence[float]]],
    seed: int = 0,
    scale: float = 1.0,
) -> tuple[tuple[float, float, float] | None, int]:
    """((plus[0] - plus[1]) - (minus[0] - minus[1]) with its 95 % interval, questions of the arm that answered fewest).

    Percentile bootstrap over questions (`means`); where no draw differs as in `difference`. None where an arm answered fewer than two, or where more than 2.5 % of the draws leave one empty.
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
    if np.ptp(kept) < STILL:
        half = scale * exact(0, n)[1]
        return (value, max(-2 * scale, value - half), min(2 * scale, value + half)), n
    low, high = np.percentile(kept, [2.5, 97.5])
    return (value, float(low), float(high)), n


def resampled(groups: Sequence[str], seed: int, draws: int = 2000) -> Iterator[np.ndarray]:
    """Rows of bootstrap samples of whole groups."""
    names = np.asarray(groups)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    random = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.concatenate([members[i] for i in random.integers(0, len(members), len(members))])


def by_cluster(values: Sequence[float], clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and size of each cluster, in sorted order of its name."""
    if len(values) == 0:
        raise ValueError("no values: a rate of nothing is missing, not zero")
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(index, np.asarray(values, float), len(names)), np.bincount(index, minlength=len(names)).astype(float)


def auroc(
    score: Sequence[float], positive: Sequence[bool], clusters: Sequence[str], seed: int = 0, draws: int = 1000
) -> tuple[float, float, float]:
    """AUROC of `score` for `positive` and its 95 % interval by bootstrap over clusters; nan without both kinds."""
    score, positive, clusters = np.asarray(score, float), np.asarray(positive, bool), np.asarray(clusters)
    members = [np.flatnonzero(clusters == name) for name in np.unique(clusters)]
    random = np.random.default_rng(seed)
    drawn = [np.concatenate([members[i] for i in random.integers(0, len(members), len(members))]) for _ in range(draws)]
    low, high = np.nanpercentile([chance_above(score[rows], positive[rows]) for rows in drawn], [2.5, 97.5])
    return chance_above(score, positive), float(low), float(high)


def chance_above(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores above a negative (ties count half); nan without both kinds."""
    positive = np.asarray(positive, bool)
    yes, no = positive.sum(), (~positive).sum()
    if not yes or not no:
        return float("nan")
    return float((stats.rankdata(score)[positive].sum() - yes * (yes + 1) / 2) / (yes * no))
