"""Forecasts of 0 to 1 against what came: the reliability curve, its mean distance from the diagonal, the Brier score. Pure."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

BINS = 10


def curve(forecast: Sequence[float], outcome: Sequence[float], bins: int = BINS) -> list[dict[str, float]]:
    """Points {p: mean forecast, share: mean outcome, n}, in ascending order of p, from bins of equal count.

    outcome: 0/1, or a share. Equal forecasts stay in one bin, so that the order of the answers changes nothing; bins are then of
    unequal count, or fewer.
    """
    said, came = checked(forecast, outcome)
    place = ((stats.rankdata(said) - 0.5) * bins / max(1, len(said))).astype(int)
    return [
        {"p": float(said[place == b].mean()), "share": float(came[place == b].mean()), "n": int((place == b).sum())}
        for b in np.unique(place)
    ]


def error(forecast: Sequence[float], outcome: Sequence[float], bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al. 2015) over bins of equal count; nan for no forecasts."""
    points = curve(forecast, outcome, bins)
    n = sum(point["n"] for point in points)
    return sum(point["n"] * abs(point["p"] - point["share"]) for point in points) / n if n else float("nan")


def brier(forecast: Sequence[float], outcome: Sequence[float]) -> float:
    """Mean squared difference (Brier 1950); nan for no forecasts."""
    said, came = checked(forecast, outcome)
    return float(((said - came) ** 2).mean()) if len(said) else float("nan")


def checked(forecast: Sequence[float], outcome: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    said, came = np.asarray(forecast, float), np.asarray(outcome, float)
    if len(said) != len(came) or not ((said >= 0) & (said <= 1) & (came >= 0) & (came <= 1)).all():
        raise ValueError("a forecast and an outcome of 0 to 1 for each answer are needed")
    return said, came
