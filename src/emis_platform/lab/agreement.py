"""How far two or more judges agree, and where they do not. Pure."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from emis_platform.lab import intervals

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
    values, counts = tally(ratings)
    return alpha_of(values, counts, np.ones(len(counts)), level)


def alpha_interval(
    ratings: Sequence[Sequence[float | None]] | np.ndarray,
    clusters: Sequence[str],
    level: Level = "interval",
    seed: int = 0,
    draws: int = 1000,
) -> tuple[float, float, float]:
    """Alpha and its 95 % interval by bootstrap over the items' clusters. For the interval of full agreement see `ends`."""
    values, counts = tally(ratings)
    if len(clusters) != len(counts):
        raise ValueError(f"{len(counts)} items and {len(clusters)} clusters")
    value = alpha_of(values, counts, np.ones(len(counts)), level)
    names, of = np.unique(np.asarray(clusters), return_inverse=True)
    times = resampled(len(names), draws, seed)
    drawn = np.array([alpha_of(values, counts, row[of], level) for row in times])
    rated = len(np.unique(of[counts.sum(1) >= 2]))
    return value, *ends(value, drawn, rated)


def tally(ratings: Sequence[Sequence[float | None]] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values in ascending order, and how often each item got each: counts [items, values]."""
    table = np.asarray(ratings, float)
    if table.ndim != 2:
        raise ValueError("ratings are a table: raters down, items across")
    values = np.unique(table[~np.isnan(table)])
    return values, (table[:, :, None] == values).sum(0).astype(float)


def alpha_of(values: np.ndarray, counts: np.ndarray, times: np.ndarray, level: Level) -> float:
    """Alpha of counts [items, values] when each item occurs so many times: [items]."""
    rated = counts.sum(1) >= 2
    counts, times = counts[rated], times[rated, None]
    weighted = times * counts / (counts.sum(1, keepdims=True) - 1)
    pairs = weighted.T @ counts - np.diag(weighted.sum(0))
    of_value = (times * counts).sum(0)
    apart = distances(values, of_value, level)
    expected = of_value @ apart @ of_value
    if expected <= 0:
        return float("nan")
    return float(1 - (of_value.sum() - 1) * (pairs * apart).sum() / expected)


def distances(values: np.ndarray, of_value: np.ndarray, level: Level) -> np.ndarray:
    """Squared difference of each two values [values, values]; of_value: how many ratings have each."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level not in ("interval", "ordinal"):
        raise ValueError(f"level {level!r}: nominal, ordinal or interval")
    place = values if level == "interval" else np.cumsum(of_value) - of_value / 2
    return (place[:, None] - place[None, :]) ** 2


def resampled(k: int, draws: int, seed: int) -> np.ndarray:
    """How often each of k clusters is drawn, with replacement: [draws, k]."""
    return np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), draws).astype(float)


def ends(value: float, drawn: np.ndarray, k: int) -> tuple[float, float]:
    """2.5 and 97.5 % of the drawn values; nan for no value.

    Full agreement on k clusters, which resampling would call certain, gets the exact bound: 1 - c, where c is the largest share of
    clusters that could have been rated at random without one being seen (95 %, two-sided).
    """
    if np.isnan(value):
        return float("nan"), float("nan")
    if value > 1 - 1e-12:
        return 1 - intervals.exact(0, k)[1], 1.0
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def disagreements(
    keys: Sequence[str], a: Sequence[float | None], b: Sequence[float | None], n: int = 20
) -> list[tuple[str, float, float]]:
    """The n items on which two judges' scores differ most: (key, a, b), largest difference first, ties in the order given.

    Items that either did not score, and items on which they do not differ, are left out.
    """
    both = [(key, float(x), float(y)) for key, x, y in zip(keys, a, b, strict=True) if x is not None and y is not None]
    apart = [row for row in both if abs(row[1] - row[2]) > 0]
    return sorted(apart, key=lambda row: -abs(row[1] - row[2]))[:n]
