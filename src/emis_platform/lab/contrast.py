"""Two arms compared on the questions that both answered: the difference, and what could have been seen. Pure.

Whether they are alike within a margin: report/verdicts.within on the difference's interval.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from emis_platform.lab import intervals

Arm = Mapping[str, Sequence[float]]
"""Question -> values of its samples."""
SEEN = float(stats.norm.ppf(0.975))


class Contrast(NamedTuple):
    """Mean of a minus mean of b, in the unit of the values."""

    value: float
    low: float
    high: float
    """95 %, paired bootstrap over questions (intervals.difference)."""
    questions: int
    """Questions that both arms answered: what the difference rests on."""
    error: float
    """Standard error over questions."""
    detectable: float
    """The smallest true difference that would be seen with 80 % power."""


def paired(a: Arm, b: Arm, seed: int = 0) -> Contrast:
    """The arms' difference with the power reached. Raises ValueError if they share no answered question."""
    return Contrast(*intervals.difference(a, b, seed), len(shared(a, b)), error(a, b), detectable(a, b))


def shared(a: Arm, b: Arm) -> list[str]:
    return sorted(q for q in a.keys() & b.keys() if len(a[q]) and len(b[q]))


def error(a: Arm, b: Arm) -> float:
    """Standard error of the paired difference, from the questions' own differences.

    When no question differs in its difference, and of values that are 0 or 1 at the least, what so many questions could have hidden (as
    intervals.difference has it), / 1.96.
    """
    questions = shared(a, b)
    if not questions:
        raise ValueError("the two arms share no answered question")
    k = len(questions)
    moved = np.zeros(k)
    for arm, sign in ((a, 1), (b, -1)):
        sums = np.array([float(np.sum(arm[q])) for q in questions])
        sizes = np.array([len(arm[q]) for q in questions], float)
        moved += sign * (sums - sizes * sums.sum() / sizes.sum()) / sizes.sum()
    hidden = intervals.exact(0, k)[1] / SEEN
    if np.abs(moved).max() < 1e-12:
        return hidden
    found = float(np.sqrt(k / (k - 1) * (moved**2).sum()))
    return max(found, hidden) if intervals.binary(x for arm in (a, b) for q in questions for x in arm[q]) else found


def power(a: Arm, b: Arm, shift: float) -> float:
    """Chance that a true difference of `shift` would have been seen (95 % interval without 0) with these questions and this spread.

    Normal approximation around the standard error found. It is about a difference named beforehand: at the difference that was
    found it would only restate the interval.
    """
    away = abs(shift) / error(a, b)
    return float(stats.norm.cdf(away - SEEN) + stats.norm.cdf(-away - SEEN))


def detectable(a: Arm, b: Arm, chance: float = 0.8) -> float:
    """The smallest true difference whose `power` is at least `chance`, 0.5 to 1."""
    return (SEEN + float(stats.norm.ppf(chance))) * error(a, b)
