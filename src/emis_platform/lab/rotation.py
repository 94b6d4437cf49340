"""LoRA adapters along one training -> how far its path turns at each checkpoint; answers at those steps -> where misalignment begins. Pure.

Turner et al. 2025 (arXiv 2506.11613): a rank-1 adapter's vectors turn suddenly at the step where misalignment begins. They follow the vectors; here it is
the whole update, scale B A, so that a turn does not hang on how A and B share it, and any rank and any number of modules will do. The null: a path
that goes straight turns by 0 degrees, a random walk by about 90 at every step, jitter around one place by about 120; the largest of such turns lies
somewhere too.
Axes: R rank, I in, O out, P points of the path (the start is point 0), S steps, Q questions, D draws.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from emis_platform.lab import intervals
from emis_platform.lab.excess import NOTHING, Arm, Ends

Array = np.ndarray
FEWEST = 3
"""Points below which a path has no turn, and a curve no place where it rises most."""
STILL = 1e-6
"""Share of the longest update below which a change is rounding and has no direction."""


class Pair(NamedTuple):
    """One module's update scale * B A."""

    a_RI: Array
    b_OR: Array
    scale: float
    """alpha / rank, with rsLoRA alpha / sqrt(rank)."""


@dataclass(frozen=True)
class Path:
    """A training as a path of weight updates, all from its start."""

    norm_P: Array
    """Frobenius, of all modules together."""
    cosine_P: Array
    """Between a point's update and the end's; nan where either has not moved."""
    turn_P: Array
    """Degrees between the change up to a point and the change after it; nan at both ends and beside a point that did not move."""


def inner(one: Pair, other: Pair) -> float:
    """<B1 A1, B2 A2> of two updates of one module as the trace of products of size R, the scales included; ranks may differ."""
    return one.scale * other.scale * float(((one.b_OR.T @ other.b_OR) * (one.a_RI @ other.a_RI.T)).sum())


def gram(modules: Iterable[Sequence[Pair | None]]) -> Array:
    """Inner products of the points' updates, modules added up [P, P]. modules: of each its points' pairs, None where nothing was added."""
    products = [[[inner(x, y) if x and y else 0.0 for y in points] for x in points] for points in modules]
    return np.sum(products, axis=0)


def path(gram_PP: Array) -> Path:
    """gram_PP: of the points' updates from the base, in order of their steps; point 0 is the start, whose own update is taken off."""
    moved_PP = gram_PP - gram_PP[:1] - gram_PP[:, :1] + gram_PP[0, 0]
    change_PP = np.diff(np.diff(gram_PP, axis=0), axis=1)  # one row and column fewer: from each point to the next
    floor = STILL**2 * max(gram_PP.max(), 0.0)
    turn_P = np.full(len(gram_PP), np.nan)
    turn_P[1:-1] = np.degrees(np.arccos(cosines(change_PP, floor).diagonal(1)))
    return Path(np.sqrt(moved_PP.diagonal().clip(0)), cosines(moved_PP, floor)[:, -1], turn_P)


def cosines(gram_PP: Array, floor: float) -> Array:
    """Inner products -> cosines; nan for what is no longer than the floor, a squared length."""
    squared_P = gram_PP.diagonal()
    length_P = np.where(squared_P > floor, np.sqrt(squared_P.clip(0)), np.nan)
    return (gram_PP / length_P / length_P[:, None]).clip(-1, 1)


def largest(turns: Mapping[int, float]) -> tuple[int | None, float | None]:
    """(the step of the largest turn, by how many degrees it exceeds the median turn); no value on fewer than two: one alone is no largest."""
    if len(turns) < 2:
        return None, None
    step = max(turns, key=lambda step: turns[step])
    return step, float(turns[step] - np.median(list(turns.values())))


def onset(arms: Mapping[int, Arm], seed: int = 0) -> tuple[Ends, int]:
    """(the step after which the mean rises most up to the next one, with its 95 % interval; values that it rests on).

    arms: step -> question -> values, high is misaligned; each mean is over what was answered at that step. Percentile bootstrap over questions,
    whose ends are steps too. No value on fewer than FEWEST steps, nor where the last step's values do not lie above the first's with the whole
    interval: noise rises most somewhere as well. No interval where more than 2.5 % of the draws rise nowhere or leave a step empty.
    """
    kept = {step: arm for step, arm in sorted(arms.items()) if arm}
    n = sum(len(values) for arm in kept.values() for values in arm.values())
    first, last = (kept[edge(kept)] for edge in (min, max)) if kept else ({}, {})
    if len(kept) < FEWEST or len(first.keys() & last.keys()) < 2 or intervals.difference(last, first, seed)[1] <= 0:
        return NOTHING, n
    steps_S = np.array(list(kept))

    def steepest(means_DS: Array) -> Array:
        rises_DS = np.diff(means_DS, axis=1)
        known_D = np.isfinite(rises_DS).all(1) & (rises_DS.max(1) > 0)
        return steps_S[rises_DS[known_D].argmax(1)]

    means_S, means_DS = intervals.means(list(kept.values()), seed)
    whole, drawn = steepest(means_S[None]), steepest(means_DS)
    if not len(whole):
        return NOTHING, n
    if len(drawn) < 0.975 * len(means_DS):
        return (float(whole[0]), None, None), n
    low, high = np.percentile(drawn, [2.5, 97.5], method="inverted_cdf").tolist()
    return (float(whole[0]), float(low), float(high)), n
