"""Rates of a judge corrected by answers that were read: the judge's word on all answers, a reader's label on some. Pure.

Two corrections for two situations. `prediction_powered`: the read answers are a random part of the judged ones, nothing else is
assumed. `rogan_gladen`: the read answers are others, and the judge is assumed to be as often right on both.
"""

from collections.abc import Sequence

import numpy as np
from scipy import special

from emis_platform.lab import intervals

PSEUDO = 0.5
"""Labels of each kind of disagreement (judge 0 and reader 1, judge 1 and reader 0) that are added before the variance is taken.

Without them a judge that happens to agree with nearly all of 30 labels is trusted too far: coverage was under 90 % for rates of
0.05 and 0.1. Of 0.25, 0.35 and 0.5, 0.5 is the smallest that kept 93 % in every setting tried.
Chosen by simulation, so other settings were simulated afterwards: see `prediction_powered`.
"""
Z = 1.959964


def prediction_powered(
    judged: Sequence[float], labels: Sequence[float | None], clusters: Sequence[str], weight: float | None = None
) -> tuple[float, float, float, float]:
    """Rate of the label among answers like these, its 95 % interval and the weight of the judge: (value, low, high, weight).

    judged: the judge's verdict on every answer, 0/1 or a probability. labels: the reader's, 0/1, None or nan where not read; the
    read answers must be a random part of all. clusters: the question of each answer; the interval is for new questions like them.

    value = mean label of the read + weight * (mean verdict of all - mean verdict of the read): prediction-powered inference
    (Angelopoulos et al. 2023) with the weight of least variance, 0 to 1, found from the same data (PPI++, Angelopoulos et al.
    2024); 0 is the labels alone, 1 the untuned method. As the read answers are among the judged ones, this is the regression
    estimator of double sampling (Cochran 1977). Interval: Wilson's with the variance summed over clusters (see PSEUDO) and
    Student's t with (read questions - 2) degrees of freedom. A reader who saw no 1 at all puts the low end at 0, and the high end
    no lower than the exact bound on the read questions; the same turned round for no 0.

    Simulated coverage: 93 to 98 % for 84 to 672 answers, 30 to 120 of them read, rates 0.05 to 0.5, sensitivity and specificity
    0.8 and 0.93 or 0.6 and 0.8, clustered or not (tests/test_debiased.py holds a part of it). Above 97 % it is cautious: mostly
    30 or 60 read, and rates up to 0.1. Beyond: 94 to 99 % for rates of 0.01 to 0.03, 92 to 98 % with 8 to 24 questions. In 72
    settings on which nothing was chosen (60 to 450 questions, 40 or 90 read, rates 0.07 to 0.4, judges of 0.7 and 0.9 or 0.9 and
    0.97): 94.5 to 98.7 %, too long above all where a very good judge meets 40 labels, at any rate. The value
    is biased by up to 0.01, as the weight comes from the same labels: under a tenth of the interval's width. Raises ValueError
    for no labels, and for labels from fewer than three questions.
    """
    verdict, label, names = np.asarray(judged, float), np.asarray(labels, float), np.asarray(clusters)
    check(verdict, label)
    read = ~np.isnan(label)
    if not read.any():
        raise ValueError("no labels: a judge alone cannot correct itself")
    questions, of = np.unique(names, return_inverse=True)
    seen = len(np.unique(of[read]))
    if seen < 3:
        raise ValueError(f"labels from {seen} question(s): an interval over questions needs three")
    n, k = int(read.sum()), len(questions)
    by_labels, by_judge = influences(verdict, np.where(read, label, 0.0), read, of, k)
    if weight is None:
        weight = float(np.clip(-(by_labels @ by_judge) / (by_judge @ by_judge), 0, 1)) if by_judge.any() else 0.0
    value = float(label[read].mean() + weight * (verdict.mean() - verdict[read].mean()))
    variance = float(((by_labels + weight * by_judge) ** 2).sum())
    low, high = wilson(value, variance, n, float(special.stdtrit(seen - 2, 0.975)))
    if not label[read].any():
        low, high = 0.0, max(high, intervals.exact(0, seen)[1])
    if label[read].all():
        low, high = min(low, intervals.exact(seen, seen)[0]), 1.0
    value = float(np.clip(value, 0, 1))
    return value, min(low, value), max(high, value), weight


def check(verdict: np.ndarray, label: np.ndarray) -> None:
    if not ((verdict >= 0) & (verdict <= 1)).all():
        raise ValueError("every answer needs a verdict from 0 to 1: leave out those that the judge could not read")
    if not np.isin(label[~np.isnan(label)], (0, 1)).all():
        raise ValueError("labels are 0 or 1")


def influences(verdict: np.ndarray, label: np.ndarray, read: np.ndarray, of: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """How far each of k clusters, and each pseudo-label, moves the mean label and the judge's correction: two vectors [k + 2].

    With weight w the estimate's variance is the sum of (first + w * second) squared. label: 0 where not read. of: [answers], index.
    """
    n = read.sum() + 2 * PSEUDO
    label_mean, verdict_mean = (label[read].sum() + PSEUDO) / n, (verdict[read].sum() + PSEUDO) / n
    weights = np.where(read, 1 / n, 0.0)
    first = np.bincount(of, weights * (label - label_mean), k)
    second = np.bincount(of, (verdict - verdict.mean()) / len(verdict) - weights * (verdict - verdict_mean), k)
    pseudo_label, pseudo_verdict = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    scale = PSEUDO**0.5 / n
    return (
        np.concatenate([first, scale * (pseudo_label - label_mean)]),
        np.concatenate([second, -scale * (pseudo_verdict - verdict_mean)]),
    )


def wilson(value: float, variance: float, n: int, t: float) -> tuple[float, float]:
    """Wilson's interval of a rate that was measured with this variance, as if on value * (1 - value) / variance answers."""
    centre = float(np.clip(value, 0.5 / n, 1 - 0.5 / n))
    size = max(1.0, centre * (1 - centre) / variance)
    shrunk = 1 + t * t / size
    middle = (centre + t * t / (2 * size)) / shrunk
    half = t / shrunk * (centre * (1 - centre) / size + t * t / (4 * size**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def rogan_gladen(
    judged: Sequence[float],
    clusters: Sequence[str],
    read_judged: Sequence[float],
    read_labels: Sequence[float],
    read_clusters: Sequence[str],
) -> tuple[float, float, float]:
    """Rate of the label among judged answers, none of them read, and its 95 % interval.

    judged, clusters: verdict (0/1) and question of each answer. read_*: verdict, label (0/1) and question of other answers, from
    which sensitivity (share of 1 among those labelled 1) and specificity are taken: both must hold for the judged answers too.

    value = (share judged 1 + specificity - 1) / (sensitivity + specificity - 1), clipped to [0, 1] (Rogan and Gladen 1978).
    Interval: Lang and Reiczigel (2014), each of the three shares with its effective number of answers (number / design effect of
    its clusters, which counts as at least 1). Simulated coverage: 93 to 98 % with 300 read answers, 93 to 99 % with 60 or 120, for
    84 to 672 answers and rates 0.05 to 0.5; a bootstrap over both samples' clusters had 69 to 98 %. Clipping makes a rate near 0
    too high, by up to 0.05 for a poor judge (0.6 and 0.8). Raises ValueError unless both labels were read, and for a judge no
    better than chance: sensitivity + specificity <= 1.
    """
    verdict, label, names = np.asarray(read_judged, float), np.asarray(read_labels, float), np.asarray(read_clusters)
    check(np.concatenate([verdict, np.asarray(judged, float)]), label)
    if not (label == 0).any() or not (label == 1).any() or np.isnan(label).any():
        raise ValueError("the read answers need a label each, and both labels: for sensitivity and for specificity")
    share, n = effective(judged, clusters)
    sensitivity, n_yes = effective(verdict[label == 1], names[label == 1])
    missed, n_no = effective(verdict[label == 0], names[label == 0])
    specificity = 1 - missed
    if sensitivity + specificity <= 1:
        raise ValueError(f"sensitivity {sensitivity:.2f} + specificity {specificity:.2f} <= 1: the judge is no better than chance")
    value = float(np.clip((share + specificity - 1) / (sensitivity + specificity - 1), 0, 1))
    share = (n * share + Z * Z / 2) / (n + Z * Z)
    sensitivity, specificity = (n_yes * sensitivity + 1) / (n_yes + 2), (n_no * specificity + 1) / (n_no + 2)
    better = sensitivity + specificity - 1
    if better <= 0:
        return value, 0.0, 1.0
    middle = (share + specificity - 1) / better
    of_yes, of_no = sensitivity * (1 - sensitivity) / (n_yes + 2), specificity * (1 - specificity) / (n_no + 2)
    moved = 2 * Z * Z * (middle * of_yes - (1 - middle) * of_no)
    spread = share * (1 - share) / (n + Z * Z) + middle**2 * of_yes + (1 - middle) ** 2 * of_no
    half = Z * spread**0.5 / better
    low, high = np.clip([middle + moved - half, middle + moved + half], 0, 1)
    return value, min(float(low), value), max(float(high), value)


def effective(values: Sequence[float] | np.ndarray, clusters: Sequence[str] | np.ndarray) -> tuple[float, float]:
    """Mean of 0/1 values, and how many independent ones would tell as much; for a mean of 0 or 1, the number of clusters."""
    sums, sizes = intervals.by_cluster(values, clusters)
    mean, k = float(sums.sum() / sizes.sum()), len(sizes)
    return mean, float(k) if mean in (0.0, 1.0) or k == 1 else intervals.independent(sums, sizes)
