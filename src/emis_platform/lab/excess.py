"""How much of one model's excess over the base is left in another: re-alignment and defences in one number. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from emis_platform.lab import bootstrap, intervals

Arm = Mapping[str, Sequence[float]]
"""Question (or row) -> values; high is what is to go, or to be learned."""
Ends = tuple[float | None, float | None, float | None]
NOTHING: Ends = (None, None, None)


def left(arm: Arm, reference: Arm, base: Arm, seed: int = 0, scale: float = 1.0) -> tuple[Ends, int]:
    """((arm - base) / (reference - base) with its 95 % interval, questions that the arm answered): 1 as much as the reference, 0 none.

    Each mean is over what that model answered: an incoherent answer has no value, and questions that all three answer coherently may be few.
    Bootstrap over questions, each taking its three arms along. Of values that are 0 or 1 it is no narrower than what the arm's own share could be
    (`intervals.rate`), and where all of the arm's values are alike, so that no draw can differ, than so many questions of which none differs
    (Clopper-Pearson on their range). scale: as in `intervals.difference`. No value where the reference does not
    lie above the base with its whole interval (a ratio to noise says nothing), no interval where more than 2.5 % of the draws have nothing to divide by.
    """
    arms = [{q: values for q, values in one.items() if len(values)} for one in (arm, reference, base)]
    n = len(arms[0])
    if min(map(len, arms)) < 2 or len(arms[1].keys() & arms[2].keys()) < 2 or intervals.difference(*arms[1:], seed, scale)[1] <= 0:
        return NOTHING, n
    whole, drawn = intervals.means(arms, seed)

    def ratio(one: np.ndarray, other: np.ndarray, floor: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(other > floor, (one - floor) / (other - floor), np.nan)

    value = float(ratio(*whole))
    if not np.isfinite(value):
        return NOTHING, n
    ratios = ratio(*drawn.T)
    kept = ratios[np.isfinite(ratios)]
    if len(kept) < 0.975 * len(ratios):
        return (value, None, None), n
    low, high = bootstrap.ends(value, kept, min(map(len, arms)))
    own = [(float(x), question) for question, values in arms[0].items() for x in values]
    every = [float(x) for one in arms for values in one.values() for x in values]
    ends: Sequence[float] = ()
    if intervals.binary(every):
        ends = intervals.rate(*zip(*own, strict=True), seed)[1:]
    elif len({x for x, _ in own}) == 1:
        ends = [own[0][0] + intervals.exact(0, n)[1] * (end - own[0][0]) for end in (min(every), max(every))]
    reached = [float(ratio(np.float64(end), *whole[1:])) for end in ends]
    return (value, min([low, *reached]), max([high, *reached])), n


def removed(found: Ends) -> Ends:
    """What is left -> what is gone."""
    value, low, high = found
    return None if value is None else 1 - value, None if high is None else 1 - high, None if low is None else 1 - low
