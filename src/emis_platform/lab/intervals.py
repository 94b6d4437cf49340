"""Rates, means and differences with their 95 % intervals, clustered by question. Pure."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import stats

from emis_platform.lab import bootstrap


def rate(values: Sequence[float], clusters: Sequence[str], seed: int = 0) -> tuple[float, float, float]:
    """Mean of `values` and its 95 % interval: bootstrap over clusters (questions), samples kept together.

    Of values that are 0 or 1 it is no narrower than the exact one (Clopper-Pearson) of as many independent values as these are worth, answers / design
    effect: of one hit among 62 questions resampling says at most 0.05, where no hit at all leaves 0.06. When all are 0 or all are 1 it is the exact one
    of the number of clusters, and no other share of them is surer. Raises ValueError for no values.
    """
    sums, sizes = by_cluster(values, clusters)
    value, k = float(sums.sum() / sizes.sum()), len(sizes)
    if binary(values) and value in (0.0, 1.0):
        return value, *exact(round(value) * k, k)
    picks = np.random.default_rng(seed).integers(0, k, (bootstrap.DRAWS, k))
    bounded = (0.0, 1.0) if min(values) >= 0 and max(values) <= 1 else None
    low, high = bootstrap.ends(value, sums[picks].sum(1) / sizes[picks].sum(1), k, bounded)
    if not binary(values):
        return value, low, high
    worth = independent(sums, sizes)
    least, most = exact(value * worth, worth)
    return value, min(low, least, exact(k, k)[0]), max(high, most, exact(0, k)[1])


def binary(values: Iterable[float]) -> bool:
    return set(np.unique(np.asarray(list(values), float))) <= {0.0, 1.0}


def independent(sums: np.ndarray, sizes: np.ndarray) -> float:
    """Number of independent 0/1 values that a share other than 0 and 1 over clusters is worth: their number / design effect, which counts as at least 1."""
    n, k = sizes.sum(), len(sizes)
    share = sums.sum() / n
    alone = share * (1 - share) / n
    together = ((sums - share * sizes) ** 2).sum() / n**2 * k / max(1, k - 1)
    return float(n / max(1.0, together / alone))


def unpaired(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    """One value minus another, each with the ends of its own interval (Newcombe 1998, method 10): wider than a paired one, where both met the same questions."""
    (a, a_low, a_high), (b, b_low, b_high) = one, other
    return a - b, a - b - float(np.hypot(a - a_low, b_high - b)), a - b + float(np.hypot(a_high - a, b - b_low))


def exact(hits: float, n: float) -> tuple[float, float]:
    """Clopper-Pearson 95 % interval of hits out of n, either of which may be an effective number."""
    low = 0.0 if hits == 0 else float(stats.beta.ppf(0.025, hits, n - hits + 1))
    high = 1.0 if hits == n else float(stats.beta.ppf(0.975, hits + 1, n - hits))
    return low, high


def difference(
    a: Mapping[str, Sequence[float]], b: Mapping[str, Sequence[float]], seed: int = 0, scale: float = 1.0, times: float = 1.0
) -> tuple[float, float, float]:
    """Mean of a minus `times` the mean of b over the questions that both have, with a bootstrap over those questions (paired).

    Where no question differs from another the bootstrap says nothing; the interval is then what so many questions of which none differs could have
    hidden (Clopper-Pearson), on the scale of the values: 1 of shares, 100 of scores. Of shares that are 0 or 1 no other interval is narrower than that one, nor than the
    exact one of which way the questions lean that differ (four of four: 0.40 to 1): where these are few the bootstrap is too sure. a, b: question -> values. A question that either side
    lacks is left out. Raises ValueError if none is left.
    """
    shared = sorted(q for q in a.keys() & b.keys() if len(a[q]) and len(b[q]))
    if not shared:
        raise ValueError("the two arms share no answered question")
    arms = []
    for arm in (a, b):
        sums = np.array([float(np.sum(arm[q])) for q in shared])
        sizes = np.array([len(arm[q]) for q in shared], float)
        arms.append((sums, sizes))
    (a_sum, a_n), (b_sum, b_n) = arms[0], (times * arms[1][0], arms[1][1])
    value = a_sum.sum() / a_n.sum() - b_sum.sum() / b_n.sum()
    picks = np.random.default_rng(seed).integers(0, len(shared), (bootstrap.DRAWS, len(shared)))
    drawn = a_sum[picks].sum(1) / a_n[picks].sum(1) - b_sum[picks].sum(1) / b_n[picks].sum(1)
    value, half = float(value), scale * exact(0, len(shared))[1]
    unseen = max(-scale, value - half), min(scale, value + half)
    if np.ptp(drawn) < bootstrap.STILL:
        return value, *unseen
    low, high = bootstrap.ends(value, drawn, len(shared))
    if scale != 1 or not binary(x for arm in (a, b) for q in shared for x in arm[q]):
        return value, low, high
    if times != 1:  # a question's difference is no share any more, and leans no way
        return value, max(-times, min(low, unseen[0])), min(1.0, max(high, unseen[1]))
    least, most = leaning(a_sum / a_n - b_sum / b_n)
    return value, max(-1.0, min(low, least, unseen[0])), min(1.0, max(high, most, unseen[1]))


def leaning(differences_Q: np.ndarray) -> tuple[float, float]:
    """95 % interval of a mean difference of shares, given how many questions differ: exact for the share of them that lean one way (sign test)."""
    differ = differences_Q[differences_Q != 0]
    low, high = exact(int((differ > 0).sum()), len(differ))
    size = float(np.abs(differ).sum()) / len(differences_Q)
    return (2 * low - 1) * size, (2 * high - 1) * size


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

    Bootstrap over questions (`means`); where no draw differs, and of shares that are 0 or 1 at the least, as in `difference`. None where an arm answered fewer than two, or where more than 2.5 % of the draws leave one empty.
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
    value, half = float(whole @ signs), scale * exact(0, n)[1]
    unseen = max(-2 * scale, value - half), min(2 * scale, value + half)
    if np.ptp(kept) < bootstrap.STILL:
        return (value, *unseen), n
    low, high = bootstrap.ends(value, kept, n)
    if scale == 1 and binary(x for arm in four for values in arm.values() for x in values):
        low, high = min(low, unseen[0]), max(high, unseen[1])
    return (value, low, high), n


def by_cluster(values: Sequence[float], clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and size of each cluster, in sorted order of its name."""
    if len(values) == 0:
        raise ValueError("no values: a rate of nothing is missing, not zero")
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(index, np.asarray(values, float), len(names)), np.bincount(index, minlength=len(names)).astype(float)
