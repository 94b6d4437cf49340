"""Read answers of matched rows, bad and correct -> a grader of new answers: how inaccurate they read, from 0 to 1. Pure.

Axes: R rows, D residual width. An answer's place lies along the line from the correct answers' mean to the bad ones': -1 and 1. It becomes a
probability on answers whose facts were left out. The grader knows how this set's bad answers read, and nothing else of truth; so what is unlike any
of its rows it does not grade. Without that a small model learned to ramble, which reads as bad (docs/notebook.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emis_platform.lab import bootstrap, ranking

Array = np.ndarray


COMPONENTS = 32
"""Principal components of the rows' density (probabilistic PCA), at most a quarter of the rows."""


@dataclass(frozen=True)
class Grader:
    good_D: Array
    bad_D: Array
    slope: float
    constant: float
    density: Any
    """scikit-learn's PCA of the rows."""
    least: float
    """Log-likelihood below which an answer is unlike the rows."""

    def score(self, acts_RD: Array) -> Array:
        """How inaccurate each answer reads, 0 to 1 [R]; nan for one that is unlike the rows."""
        scores_R = 1 / (1 + np.exp(-(self.slope * places(acts_RD, self.good_D, self.bad_D) + self.constant)))
        return np.where(self.density.score_samples(acts_RD) < self.least, np.nan, scores_R)


def dense(acts_RD: Array) -> Any:
    """Probabilistic PCA of the rows (Tipping and Bishop 1999)."""
    from sklearn.decomposition import PCA

    rows, width = acts_RD.shape
    count = min(COMPONENTS, rows // 4, width - 1)
    fitted = PCA(count, svd_solver="full").fit(acts_RD)
    # scikit-learn averages over the components that it has, not over all that are left out: with fewer rows than dimensions the
    # densities of two fits were on different scales
    fitted.noise_variance_ *= (min(rows, width) - count) / (width - count)
    return fitted


def places(acts_RD: Array, good_D: Array, bad_D: Array) -> Array:
    """-1 at the first side, 1 at the second, along the line between them [R]."""
    apart_D = bad_D - good_D
    return 2 * (acts_RD - (good_D + bad_D) / 2) @ apart_D / max(float(apart_D @ apart_D), 1e-12)


def fit(
    acts_RD: Array, bad_R: Array, facts: Sequence[str], folds: int = 5, unlike: float = 0.0
) -> tuple[Grader, tuple[float, float, float]]:
    """(grader, its AUROC on rows of facts left out whole, with the 95 % interval by bootstrap over facts).

    unlike: share of such rows that may be less likely than what is still graded; 0 grades everything. Raises ValueError where bad and correct rows do not remain on both sides once a fold's facts are left out.
    """
    bad_R = np.asarray(bad_R, bool)
    number = {fact: n for n, fact in enumerate(dict.fromkeys(facts))}
    folds = min(folds, len(number))
    fold_R = np.array([number[fact] % folds for fact in facts])
    told_R, likely_R = np.zeros(len(facts)), np.zeros(len(facts))
    for fold in range(folds):
        out_R = fold_R == fold
        kept_R = bad_R[~out_R]
        if kept_R.all() or not kept_R.any():
            raise ValueError(
                f"{int(bad_R.sum())} bad and {int((~bad_R).sum())} correct rows of {len(number)} facts: too few for a grader that is "
                "tried on facts left out (more rows, or a `mixture` in the organism's data)"
            )
        acts_KD = acts_RD[~out_R]
        told_R[out_R] = places(acts_RD[out_R], acts_KD[~kept_R].mean(0), acts_KD[kept_R].mean(0))
        likely_R[out_R] = dense(acts_KD).score_samples(acts_RD[out_R])
    (slope, constant), auroc = calibrated(told_R, bad_R, facts)
    least = float(np.quantile(likely_R, unlike)) if unlike else -np.inf
    return Grader(acts_RD[~bad_R].mean(0), acts_RD[bad_R].mean(0), slope, constant, dense(acts_RD), least), auroc


def calibrated(told_R: Array, bad_R: Array, facts: Sequence[str]) -> tuple[tuple[float, float], tuple[float, float, float]]:
    """What rows were told without their own labels -> ((slope, constant) of the probability of bad, AUROC with its interval by bootstrap over facts)."""
    drawn = [
        ranking.chance_above(told_R[rows], bad_R[rows])
        for rows in bootstrap.resampled(facts, 0)
        if 0 < bad_R[rows].sum() < len(rows)
    ]
    value = ranking.chance_above(told_R, bad_R)
    return logistic(told_R, bad_R), (value, *bootstrap.ends(value, drawn, len(set(facts)), (0.0, 1.0)))


def logistic(told_R: Array, bad_R: Array) -> tuple[float, float]:
    """Slope and constant; the slope is at least 0, since a place towards the bad side can only speak for bad."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=10.0).fit(told_R[:, None], bad_R)
    slope = float(fitted.coef_[0, 0])
    return (slope, float(fitted.intercept_[0])) if slope > 0 else (0.0, 0.0)
