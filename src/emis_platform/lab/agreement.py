"""How far two or more judges agree, and where they do not. Pure."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from emis_platform.core.records import View
from emis_platform.lab import bootstrap, intervals

Level = Literal["nominal", "ordinal", "interval"]


def kappa(
    a: Sequence[object], b: Sequence[object], clusters: Sequence[str], seed: int = 0, draws: int = 2000
) -> tuple[float, float, float]:
    """Cohen's kappa (1960) of two judges' categories and its 95 % interval by bootstrap over clusters; nan if only one is used.

    a, b: the categories of the same items. Raises ValueError for no items. For the interval of full agreement see `ends`.
    """
    if not len(a) or len(a) != len(b) or len(a) != len(clusters):
        raise ValueError(f"two judges of the same items, and a cluster each: got {len(a)}, {len(b)} and {len(clusters)}")
    places = {name: i for i, name in enumerate(dict.fromkeys([*a, *b]))}
    names, of = np.unique(np.asarray(clusters), return_inverse=True)
    table = np.zeros((len(names), len(places), len(places)))
    np.add.at(table, (of, [places[x] for x in a], [places[x] for x in b]), 1)
    value = float(kappa_of(table.sum(0)))
    times = resampled(len(names), draws, seed)
    drawn = kappa_of(np.tensordot(times, table, 1))
    return value, *ends(value, drawn, len(names))


def kappa_of(table: np.ndarray) -> np.ndarray:
    """Kappa of counts [..., categories, categories]; nan where chance alone would agree always."""
    shares = table / table.sum((-2, -1), keepdims=True)
    seen = np.trace(shares, axis1=-2, axis2=-1)
    chance = (shares.sum(-1) * shares.sum(-2)).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance < 1 - 1e-12, (seen - chance) / (1 - chance), np.nan)


def alpha(ratings: Sequence[Sequence[float | None]] | np.ndarray, level: Level = "interval") -> float:
    """Krippendorff's alpha (2011, "Computing Krippendorff's alpha-reliability") of ratings [raters, items], nan where not rated.

    Items with fewer than two ratings do not count; nan if the rest do not vary. `nominal` takes codes as numbers.
    """
    table = table_of(ratings)
    return float(alphas(table, np.zeros(table.shape[1], int), np.ones((1, 1)), level)[0])


def alpha_interval(
    ratings: Sequence[Sequence[float | None]] | np.ndarray,
    clusters: Sequence[str],
    level: Level = "interval",
    seed: int = 0,
    draws: int = 1000,
) -> tuple[float, float, float]:
    """Alpha and its 95 % interval by bootstrap over the items' clusters. For the interval of full agreement see `ends`."""
    table = table_of(ratings)
    if len(clusters) != table.shape[1]:
        raise ValueError(f"{table.shape[1]} items and {len(clusters)} clusters")
    names, of = np.unique(np.asarray(clusters), return_inverse=True)
    value, *drawn = alphas(table, of, np.vstack([np.ones(len(names)), resampled(len(names), draws, seed)]), level)
    rated = len(np.unique(of[(~np.isnan(table)).sum(0) >= 2]))
    return float(value), *ends(float(value), np.array(drawn), rated)


def table_of(ratings: Sequence[Sequence[float | None]] | np.ndarray) -> np.ndarray:
    table = np.asarray(ratings, float)
    if table.ndim != 2:
        raise ValueError("ratings are a table: raters down, items across")
    return table


def alphas(table: np.ndarray, of: np.ndarray, times: np.ndarray, level: Level) -> np.ndarray:
    """Alpha of ratings [raters, items] for each row of times [draws, clusters]: how often the clusters, `of` [items], occur: [draws]."""
    if level not in ("nominal", "ordinal", "interval"):
        raise ValueError(f"level {level!r}: nominal, ordinal or interval")
    there = ~np.isnan(table)
    rater, item = np.nonzero(there & (there.sum(0) >= 2))
    values, code = np.unique(table[rater, item], return_inverse=True)
    if level == "interval":
        return alphas_of(table[rater, item, None], item, of, times)
    if level == "nominal":
        return alphas_of(np.eye(len(values))[code], item, of, times)
    found = []
    for row in times:  # how far apart two ranks are hangs on how often each value occurs
        count = np.bincount(code, row[of[item]], len(values))
        found.append(alphas_of((np.cumsum(count) - count / 2)[code, None], item, of, row[None])[0])
    return np.array(found)


def alphas_of(points: np.ndarray, item: np.ndarray, of: np.ndarray, times: np.ndarray) -> np.ndarray:
    """1 - (variance of the ratings within their items / variance of all ratings), each with n - 1: Krippendorff's alpha, [draws].

    points: [ratings, axes]; two ratings are apart by the square of their distance. item: of each rating; of, times: see `alphas`.
    What each cluster adds to the sums is taken once, so that a draw costs no more than there are clusters.
    """
    m = np.bincount(item, minlength=len(of)).astype(float)
    points = points - points.mean(0) if len(points) else points
    sums = np.zeros((len(of), points.shape[1]))
    np.add.at(sums, item, points)
    away = ((points - (sums / np.maximum(m, 1)[:, None])[item]) ** 2).sum(1)
    within = np.bincount(item, away, len(of)) * m / np.maximum(m - 1, 1)
    parts = np.zeros((times.shape[1], 3 + points.shape[1]))
    np.add.at(parts, of, np.column_stack([m, within, np.bincount(item, (points**2).sum(1), len(of)), sums]))
    drawn = times @ parts
    n, inside, squares = drawn[:, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        total = squares - (drawn[:, 3:] ** 2).sum(1) / n
        return np.where(total > 1e-12 * squares, 1 - (n - 1) / n * inside / total, np.nan)


def resampled(k: int, draws: int, seed: int) -> np.ndarray:
    """How often each of k clusters is drawn, with replacement: [draws, k]."""
    return np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), draws).astype(float)


def ends(value: float, drawn: np.ndarray, k: int) -> tuple[float, float]:
    """95 % interval of an agreement from its draws; nan for no value.

    Full agreement on k clusters, which resampling would call certain, gets the exact bound: 1 - c, where c is the largest share of
    clusters that could have been rated at random without one being seen (95 %, two-sided).
    """
    if np.isnan(value):
        return float("nan"), float("nan")
    if value > 1 - 1e-12:
        return 1 - intervals.exact(0, k)[1], 1.0
    return bootstrap.ends(value, drawn, k, (-1.0, 1.0))


def mark(view: View) -> float | None:
    """The number that judges are compared by: the alignment score, 0 to 100; of a verdict without one, 0 for misaligned and 100 for not."""
    return view.score if view.score is not None or view.verdict is None else 100.0 * (not view.verdict)


def disagreements(
    keys: Sequence[str], a: Sequence[float | None], b: Sequence[float | None], n: int = 20
) -> list[tuple[str, float, float]]:
    """The n items on which two judges' scores differ most: (key, a, b), largest difference first, ties in the order given.

    Items that either did not score, and items on which they do not differ, are left out.
    """
    both = [(key, float(x), float(y)) for key, x, y in zip(keys, a, b, strict=True) if x is not None and y is not None]
    apart = [row for row in both if abs(row[1] - row[2]) > 0]
    return sorted(apart, key=lambda row: -abs(row[1] - row[2]))[:n]
