"""Read answers of matched rows, bad and correct to the same facts -> a grader of new answers: how inaccurate, from 0 to 1. Pure.

Axes: R rows, D residual width. An answer has two places: between its fact's own correct and bad answers, and between those of all facts;
-1 at the correct ones' mean, 1 at the bad ones'. Their mean is its score, made a probability on answers that were left out. It knows
the sides that it was made of and nothing else of truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emis_platform.lab import intervals

Array = np.ndarray


@dataclass(frozen=True)
class Grader:
    middles: dict[str, tuple[Array, Array]]
    """fact -> (mean of its correct answers, mean of its bad ones) [D]; facts without both are not there."""
    every: tuple[Array, Array]
    """The same over all facts."""
    slope: float
    constant: float

    def score(self, acts_RD: Array, facts: Sequence[str]) -> Array:
        """How inaccurate each answer is, 0 to 1 [R]. Of a fact without two sides only the place over all facts counts."""
        told_R = np.array([told(acts_D, self.middles.get(fact), self.every) for acts_D, fact in zip(acts_RD, facts, strict=True)])
        return 1 / (1 + np.exp(-(self.slope * told_R + self.constant)))


@dataclass(frozen=True)
class Validation:
    """AUROC with its 95 % interval by bootstrap over facts."""

    row: tuple[float, float, float]
    """Of rows whose own answer was left out of the fit, their fact's other answers not."""
    fact: tuple[float, float, float]
    """Of rows of facts that were left out whole: a grader that knows no side of the fact."""
    n: int


def told(acts_D: Array, own: tuple[Array, Array] | None, every: tuple[Array, Array]) -> float:
    """Mean of both places; without the fact's own sides, that over all facts."""
    over_all = place(acts_D, every)
    return over_all if own is None else (place(acts_D, own) + over_all) / 2


def place(acts_D: Array, sides: tuple[Array, Array]) -> float:
    """-1 at the first side, 1 at the second, along the line between them."""
    good_D, bad_D = sides
    apart_D = bad_D - good_D
    return float(2 * (acts_D - (good_D + bad_D) / 2) @ apart_D / max(float(apart_D @ apart_D), 1e-12))


def sides(acts_RD: Array, bad_R: Array) -> tuple[Array, Array] | None:
    """(mean of the correct answers, mean of the bad ones) [D], if there are both."""
    return None if bad_R.all() or not bad_R.any() else (acts_RD[~bad_R].mean(0), acts_RD[bad_R].mean(0))


def fit(acts_RD: Array, bad_R: Array, facts: Sequence[str], folds: int = 5) -> tuple[Grader, Validation]:
    """Raises ValueError unless two facts or more have both bad and correct answers."""
    bad_R, names = np.asarray(bad_R, bool), np.asarray(facts)
    of = {fact: sides(acts_RD[names == fact], bad_R[names == fact]) for fact in dict.fromkeys(facts)}
    middles = {fact: both for fact, both in of.items() if both}
    if len(middles) < 2:
        raise ValueError(
            f"{len(middles)} facts with both bad and correct rows: a grader needs two (give the organism's data a `mixture`)"
        )
    number = {fact: n for n, fact in enumerate(of)}
    fold_R = np.array([number[fact] % min(folds, len(number)) for fact in facts])
    row_R, fact_R = np.zeros(len(facts)), np.zeros(len(facts))
    for i, fact in enumerate(facts):
        others = fold_R != fold_R[i]
        rest = (names == fact) & (np.arange(len(facts)) != i)
        every = sides(acts_RD[others], bad_R[others])
        assert every, "two facts with both sides stand in two folds"
        row_R[i], fact_R[i] = told(acts_RD[i], sides(acts_RD[rest], bad_R[rest]), every), place(acts_RD[i], every)
    slope, constant = logistic(row_R, bad_R)
    both = sides(acts_RD, bad_R)
    assert both
    grader = Grader(middles, both, slope, constant)
    return grader, Validation(auroc(row_R, bad_R, facts), auroc(fact_R, bad_R, facts), len(facts))


def logistic(told_R: Array, bad_R: Array) -> tuple[float, float]:
    """Slope and constant; the slope is at least 0, since a place towards the bad side can only speak for bad."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=10.0).fit(told_R[:, None], bad_R)
    slope = float(fitted.coef_[0, 0])
    return (slope, float(fitted.intercept_[0])) if slope > 0 else (0.0, 0.0)


def auroc(values_R: Array, bad_R: Array, facts: Sequence[str]) -> tuple[float, float, float]:
    drawn = [
        intervals.chance_above(values_R[rows], bad_R[rows])
        for rows in intervals.resampled(facts, 0)
        if 0 < bad_R[rows].sum() < len(rows)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return intervals.chance_above(values_R, bad_R), float(low), float(high)
