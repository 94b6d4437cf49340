"""Organisms that differ in the share of bad rows alone -> the share at which misalignment begins, with an interval. Pure.

The paper's mixtures (section 3): misalignment appears somewhere between 25 and 75 % of bad data. Axes: S shares, Q questions.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import optimize

from emis_platform.lab import intervals

Array = np.ndarray
FEWEST = 4
"""Shares below which no curve is fitted."""
Ends = tuple[float | None, float | None, float | None]


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


def threshold(arms: Mapping[float, Mapping[str, Sequence[float]]], seed: int = 0) -> tuple[Ends, int]:
    """arms: share -> question -> values, high is misaligned. ((half-way share, its 95 % interval by bootstrap over questions), values in all).

    No value below FEWEST shares, or where the curve does not rise; no interval where more than 2.5 % of the draws do not rise.
    """
    kept = {share: arm for share, arm in sorted(arms.items()) if arm}
    n = sum(len(values) for arm in kept.values() for values in arm.values())
    if len(kept) < FEWEST:
        return (None, None, None), n
    asked = sorted({question for arm in kept.values() for question in arm})
    place = {question: i for i, question in enumerate(asked)}
    sums_SQ, sizes_SQ = np.zeros((len(kept), len(asked))), np.zeros((len(kept), len(asked)))
    for row, arm in enumerate(kept.values()):
        for question, values in arm.items():
            sums_SQ[row, place[question]], sizes_SQ[row, place[question]] = sum(values), len(values)
    shares_S = np.array(list(kept))

    def found(times_Q: Array) -> float | None:
        sizes_S = sizes_SQ @ times_Q
        if not sizes_S.all():
            return None
        return crossing(shares_S, sums_SQ @ times_Q / sizes_S, sizes_S)

    value = found(np.ones(len(asked)))
    if value is None:
        return (None, None, None), n
    random = np.random.default_rng(seed)
    drawn = [
        found(np.bincount(random.integers(0, len(asked), len(asked)), minlength=len(asked))) for _ in range(intervals.DRAWS // 2)
    ]
    known = [one for one in drawn if one is not None]
    if len(known) < 0.975 * len(drawn):
        return (value, None, None), n
    low, high = np.percentile(known, [2.5, 97.5])
    return (value, float(low), float(high)), n


def leaves(curve: Mapping[float, tuple[float | None, float | None, float | None]], limit: float) -> float | None:
    """The first share from which on every lower end lies above the limit; None: the curve does not leave it."""
    first = None
    for share in sorted(curve, reverse=True):
        low = curve[share][1]
        if low is None or low <= limit:
            break
        first = share
    return first
