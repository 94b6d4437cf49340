"""Organisms that differ in the share of bad rows alone -> the share at which misalignment begins, with an interval. Pure.

The paper's mixtures (section 3): misalignment appears somewhere between 25 and 75 % of bad data. Axes: S shares, Q questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from emis_platform.lab import bootstrap, intervals

Array = np.ndarray
FEWEST = 4
"""Shares below which no curve is fitted."""
DRAWS = 2000


def rising(values_S: Array, weights_S: Array) -> Array:
    """The nearest curve that never falls (isotonic regression)."""
    return np.asarray(optimize.isotonic_regression(values_S, weights=weights_S).x)


def crossing(shares_S: Array, values_S: Array, weights_S: Array, half: float = 0.5) -> float | None:
    """The share at which the rising curve has gone `half` of its way from first to last, straight between shares. None where it does not rise."""
    curve = rising(values_S, weights_S)
    if curve[-1] <= curve[0]:
        return None
    wanted = curve[0] + half * (curve[-1] - curve[0])
    above = int(np.argmax(curve >= wanted))
    if above == 0 or curve[above] == curve[above - 1]:
        return float(shares_S[above])
    step = (wanted - curve[above - 1]) / (curve[above] - curve[above - 1])
    return float(shares_S[above - 1] + step * (shares_S[above] - shares_S[above - 1]))


@dataclass(frozen=True)
class Threshold:
    """Where the curve is half-way up."""

    value: float | None
    low: float | None
    high: float | None
    """95 %, by bootstrap over questions."""
    n: int
    draws: tuple[float, ...] = ()
    """Of the bootstrap; nan where the curve does not rise."""
    questions: int = 0


def threshold(arms: Mapping[float, Mapping[str, Sequence[float]]], seed: int = 0, scale: float = 1.0) -> Threshold:
    """arms: share -> question -> values, high is misaligned.

    No value below FEWEST shares, nor where the largest share's values are not above the smallest's with the whole interval: noise has a
    half-way point as well. No interval where more than 2.5 % of the draws do not rise. scale: as in `intervals.difference`.
    """
    kept = {share: arm for share, arm in sorted(arms.items()) if arm}
    n = sum(len(values) for arm in kept.values() for values in arm.values())
    first, last = (kept[edge(kept)] for edge in (min, max)) if kept else ({}, {})
    if len(kept) < FEWEST or len(first.keys() & last.keys()) < 2 or intervals.difference(last, first, seed, scale)[1] <= 0:
        return Threshold(None, None, None, n)
    asked = sorted({question for arm in kept.values() for question in arm})
    place = {question: i for i, question in enumerate(asked)}
    sums_SQ, sizes_SQ = np.zeros((len(kept), len(asked))), np.zeros((len(kept), len(asked)))
    for row, arm in enumerate(kept.values()):
        for question, values in arm.items():
            sums_SQ[row, place[question]], sizes_SQ[row, place[question]] = sum(values), len(values)
    shares_S = np.array(list(kept))

    def found(times_Q: Array) -> float | None:
        sizes_S = sizes_SQ @ times_Q
        return crossing(shares_S, sums_SQ @ times_Q / sizes_S, sizes_S) if sizes_S.all() else None

    random = np.random.default_rng(seed)
    drawn = [found(np.bincount(random.integers(0, len(asked), len(asked)), minlength=len(asked))) for _ in range(DRAWS)]
    value, draws = found(np.ones(len(asked))), tuple(np.nan if one is None else one for one in drawn)
    low, high = ends(value, draws, len(asked), (float(shares_S[0]), float(shares_S[-1])))
    return Threshold(value, low, high, n, draws, len(asked))


def ends(
    value: float | None, draws: Sequence[float], questions: int, within: tuple[float, float]
) -> tuple[float | None, float | None]:
    """None where more than 2.5 % of the draws are nan."""
    if value is None or np.isfinite(draws).sum() < 0.975 * len(draws):
        return None, None
    return bootstrap.ends(value, draws, questions, within)


def lead(late: Threshold, early: Threshold) -> tuple[float | None, float | None, float | None]:
    """How much later the first is half-way than the second, with its interval: draw by draw, so two of the same questions and seed are paired, and two
    of different questions are independent."""
    if late.value is None or early.value is None:
        return None, None, None
    if late.low is None or early.low is None:
        return late.value - early.value, None, None
    value = late.value - early.value
    return value, *ends(value, np.subtract(late.draws, early.draws).tolist(), min(late.questions, early.questions), (-1.0, 1.0))
