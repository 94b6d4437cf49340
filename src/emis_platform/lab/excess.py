"""How much of one model's excess over the base is left in another: re-alignment and defences in one number. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from emis_platform.lab import intervals

Arm = Mapping[str, Sequence[float]]
"""Question (or row) -> values; high is what is to go, or to be learned."""
Ends = tuple[float | None, float | None, float | None]
NOTHING: Ends = (None, None, None)


def left(arm: Arm, reference: Arm, base: Arm, seed: int = 0) -> tuple[Ends, int]:
    """((arm - base) / (reference - base) with its 95 % interval, questions that all three answered): 1 as much as the reference, 0 none.

    Percentile bootstrap over questions, each taking its three arms along. No value where the reference does not lie above the base with its
    whole interval (a ratio to noise says nothing), no interval where more than 2.5 % of the draws have no excess to divide by.
    """
    shared = sorted(q for q in arm.keys() & reference.keys() & base.keys() if len(arm[q]) and len(reference[q]) and len(base[q]))
    if len(shared) < 2 or intervals.difference(reference, base, seed)[1] <= 0:
        return NOTHING, len(shared)
    sums, sizes = (np.array([[of(one[q]) for q in shared] for one in (arm, reference, base)], float) for of in (np.sum, len))

    def ratio(picks: np.ndarray) -> np.ndarray:
        one, other, floor = sums[:, picks].sum(-1) / sizes[:, picks].sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(other > floor, (one - floor) / (other - floor), np.nan)

    value = float(ratio(np.arange(len(shared))[None])[0])
    drawn = ratio(np.random.default_rng(seed).integers(0, len(shared), (intervals.DRAWS, len(shared))))
    kept = drawn[np.isfinite(drawn)]
    if not np.isfinite(value):
        return NOTHING, len(shared)
    if len(kept) < 0.975 * len(drawn):
        return (value, None, None), len(shared)
    low, high = np.percentile(kept, [2.5, 97.5])
    return (value, float(low), float(high)), len(shared)


def removed(found: Ends) -> Ends:
    """What is left -> what is gone."""
    value, low, high = found
    return None if value is None else 1 - value, None if high is None else 1 - high, None if low is None else 1 - low
