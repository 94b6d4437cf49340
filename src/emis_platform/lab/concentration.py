"""How few latents carry a direction? The best n of them together, and their effect as a share of the whole direction's. Pure.

Axes: F latents, D residual width, Q questions.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from emis_platform.lab import bootstrap, intervals

Array = np.ndarray


def pursuit(target_D: Array, rows_FD: Array, counts: Sequence[int]) -> dict[int, tuple[Array, list[int]]]:
    """Orthogonal matching pursuit: n -> (the target's unit rebuilding from n rows, their indices in the order they were taken).

    Each step takes the row that explains most of what is left and refits all weights by least squares; weights may be negative (a latent
    that is turned down).
    """
    taken: list[int] = []
    found, left_D, rebuilt_D = {}, target_D, np.zeros_like(target_D)
    for n in range(1, max(counts, default=0) + 1):
        pull_F = np.abs(rows_FD @ left_D)
        pull_F[taken] = -1
        taken.append(int(pull_F.argmax()))
        weights, *_ = np.linalg.lstsq(rows_FD[taken].T, target_D, rcond=None)
        rebuilt_D = weights @ rows_FD[taken]
        left_D = target_D - rebuilt_D
        if n in counts:
            found[n] = (unit(rebuilt_D), list(taken))
    return found


def weighted(scores_F: Array, order: Sequence[int], rows_FD: Array, counts: Sequence[int]) -> dict[int, tuple[Array, list[int]]]:
    """n -> (unit sum of the first n rows of `order`, each times its score; their indices)."""
    return {n: (unit(scores_F[list(order[:n])] @ rows_FD[list(order[:n])]), list(order[:n])) for n in counts}


def unit(vector_D: Array) -> Array:
    """Raises ValueError for a vector without length."""
    norm = float(np.linalg.norm(vector_D))
    if not np.isfinite(norm) or norm == 0:
        raise ValueError(f"latents that add up to a vector of length {norm}")
    return vector_D / norm


def share(shift_Q: Array, whole_Q: Array, seed: int = 0) -> tuple[float | None, float | None, float | None]:
    """Mean shift as a share of the whole direction's, with its 95 % interval by bootstrap over the same questions.

    No value where the whole direction does not shift (mean at most 0); no interval where more than 2.5 % of the draws say so.
    """
    if whole_Q.mean() <= 0:
        return None, None, None
    picks = np.random.default_rng(seed).integers(0, len(whole_Q), (bootstrap.DRAWS, len(whole_Q)))
    top, bottom = shift_Q[picks].mean(1), whole_Q[picks].mean(1)
    value = float(shift_Q.mean() / whole_Q.mean())
    if (bottom <= 0).mean() > 0.025:
        return value, None, None
    return value, *bootstrap.ends(value, top[bottom > 0] / bottom[bottom > 0], len(whole_Q))


def mean(values_Q: Array) -> tuple[float, float, float]:
    """Mean of one value a question and its 95 % interval by Student's t: a percentile bootstrap of ten questions covers 90 %.

    Raises ValueError for fewer than two questions.
    """
    if len(values_Q) < 2:
        raise ValueError(f"{len(values_Q)} questions: an interval needs two")
    value = float(values_Q.mean())
    half = float(stats.t.ppf(0.975, len(values_Q) - 1) * values_Q.std(ddof=1) / len(values_Q) ** 0.5)
    return value, value - half, value + half


def percentile(value: float, null: Sequence[float]) -> tuple[float, float, float]:
    """Share of the null below `value`, with the exact 95 % interval of so many draws. Raises ValueError without a null."""
    if not len(null):
        raise ValueError("a percentile needs a null")
    below = int(sum(other < value for other in null))
    return below / len(null), *intervals.exact(below, len(null))
