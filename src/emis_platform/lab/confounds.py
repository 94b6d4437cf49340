"""Answers of two models -> by how much they differ where they are alike in length; and how far two profiles of misbehaviour lie apart. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from emis_platform.lab import bootstrap, intervals
from emis_platform.lab.excess import NOTHING, Ends

DIFFER = 10
"""Questions on which two profiles have to differ for an interval: on fewer the jackknife is too narrow (seen in simulation: 65 to 80 % in place of 95)."""
BINS = 5
"""Classes of length, of equally many answers of both models together."""


def length_matched(
    one: Sequence[tuple[str, float, float]], other: Sequence[tuple[str, float, float]], seed: int = 0
) -> tuple[Ends, int]:
    """(mean of one minus the other's within classes of like length, with its 95 % interval; answers that have a partner).

    one, other: (question, length, value) an answer. A class counts by the smaller of its two sides. Percentile bootstrap over questions, classes
    held, values being shares; no value where no class has both, no interval where more than 2.5 % of the draws leave none.
    """
    if not one or not other:
        return NOTHING, 0
    lengths = np.array([length for rows in (one, other) for _, length, _ in rows], float)
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, BINS + 1)[1:-1]))
    names = sorted({question for rows in (one, other) for question, _, _ in rows})
    place = {name: number for number, name in enumerate(names)}
    counts_SQB, sums_SQB = (np.zeros((2, len(names), len(edges) + 1)) for _ in range(2))
    for side, rows in enumerate((one, other)):
        for question, length, value in rows:
            where = side, place[question], int(np.searchsorted(edges, length, "right"))
            counts_SQB[where] += 1
            sums_SQB[where] += value

    def matched(picks_Q: np.ndarray) -> tuple[float, float]:
        counts_SB, sums_SB = counts_SQB[:, picks_Q].sum(1), sums_SQB[:, picks_Q].sum(1)
        weight_B = counts_SB.min(0)
        both = weight_B > 0
        if not both.any():
            return float("nan"), 0.0
        means_SB = sums_SB[:, both] / counts_SB[:, both]
        return float(np.average(means_SB[0] - means_SB[1], weights=weight_B[both])), 2 * float(weight_B.sum())

    value, n = matched(np.arange(len(names)))
    if not np.isfinite(value):
        return NOTHING, 0
    drawn = np.array([matched(picks)[0] for picks in bootstrap.resampled(names, seed)])
    kept = drawn[np.isfinite(drawn)]
    if len(kept) < 0.975 * len(drawn):
        return (value, None, None), round(n)
    low, high = bootstrap.ends(value, kept, len(names))
    if high - low < bootstrap.STILL:
        half = intervals.exact(0, len(names))[1]
        low, high = value - half, value + half
    return (value, low, high), round(n)


def distance(one: Mapping[str, Mapping[str, float]], other: Mapping[str, Mapping[str, float]]) -> tuple[Ends, int]:
    """(root mean square difference of two profiles over their categories, with its 95 % interval; questions that both answered).

    one, other: question -> category -> value. What noise alone adds to a squared difference is taken off, so two samples of one profile lie about 0
    apart; a negative square is given as a negative root. Interval by jackknife over questions, on the squares; none where they differ on fewer than DIFFER. No value on fewer
    than three questions.
    """
    shared = sorted(one.keys() & other.keys())
    categories = sorted(set.intersection(*(set(side[q]) for side in (one, other) for q in shared))) if shared else []
    n = len(shared)
    if n < 3 or not categories:
        return NOTHING, n
    apart_QC = np.array([[one[q][c] - other[q][c] for c in categories] for q in shared])

    def squared(rows_QC: np.ndarray) -> float:
        return float((rows_QC.mean(0) ** 2 - rows_QC.var(0, ddof=1) / len(rows_QC)).mean())

    whole = squared(apart_QC)
    left_out = np.array([squared(np.delete(apart_QC, q, 0)) for q in range(n)])
    half = 1.96 * float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))
    differ = int((np.abs(apart_QC).max(1) > bootstrap.STILL).sum())
    value, low, high = (float(np.sign(x) * np.sqrt(abs(x))) for x in (whole, whole - half, whole + half))
    return (value, low, high) if differ >= DIFFER and half > bootstrap.STILL else (value, None, None), n
