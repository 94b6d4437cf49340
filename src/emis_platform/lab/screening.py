"""Projections of given answers against the base's own -> a set's score, its worst rows, the shift to expect. Pure.

The projection difference of persona vectors (Chen et al. 2025, arXiv 2507.21509), in units of the base's mean residual norm.
Axes: R rows, D residual width, S sets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from emis_platform.core.records import Effect
from emis_platform.lab import bootstrap, intervals, surface

Array = np.ndarray
FEWEST = 8
"""Distinct sets below which a correlation is not given."""
SUBJECT = "datasets"


def projected(given_RD: Array, own_RD: Array, personas: Mapping[str, Array], norm: float) -> dict[str, Array]:
    """trait -> how far each given answer lies from the base's own answer along the trait's unit vector [R].

    own: the base's own answer to the same prompt, or one row [1, D] for all: the mean of its own answers.
    """
    return {trait: (given_RD - own_RD) @ vector / norm for trait, vector in personas.items()}


def score(values_R: Array, facts: Sequence[str]) -> tuple[float, float | None, float | None]:
    """A set's mean over rows with its 95 % interval by bootstrap over facts; without an interval where all rows are of one fact."""
    value, low, high = intervals.rate(values_R.tolist(), facts)
    return (value, low, high) if len(set(facts)) > 1 else (value, None, None)


def worst(values_R: Array, lines_R: Sequence[int], share: float) -> set[int]:
    """The share of lines, rounded, with the highest projections; a line with several answers counts by its highest, equals by their order.

    Raises ValueError for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"{share}: a share from 0 to 1 is needed")
    highest: dict[int, float] = {}
    for line, value in zip(lines_R, values_R, strict=True):
        highest[line] = max(float(value), highest.get(line, -np.inf))
    ranked = sorted(highest, key=lambda line: (-highest[line], line))
    return set(ranked[: round(share * len(ranked))])


@dataclass(frozen=True)
class Line:
    """Shift against score over earlier sets."""

    slope: float
    intercept: float
    sets: int
    mean: float
    squares: float
    error: float

    def expected(self, score: float) -> tuple[float, float, float]:
        """The shift to expect of a set of that score, with its 95 % prediction interval."""
        value = self.intercept + self.slope * score
        half = float(stats.t.ppf(0.975, self.sets - 2)) * self.error
        half *= (1 + 1 / self.sets + (score - self.mean) ** 2 / self.squares) ** 0.5
        return value, value - half, value + half


def line(points: Sequence[tuple[float, float]]) -> Line | None:
    """Least squares through (score, shift); None for fewer than FEWEST points or equal scores."""
    x, y = np.array(points, float).reshape(-1, 2).T
    if len(x) < FEWEST or np.ptp(x) == 0:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    squares = float(np.square(x - x.mean()).sum())
    error = float(np.sqrt(np.square(y - intercept - slope * x).sum() / (len(x) - 2)))
    return Line(float(slope), float(intercept), len(x), float(x.mean()), squares, error)


@dataclass(frozen=True)
class Trained:
    """A set, what was said of it before training, and the shift that training then showed."""

    name: str
    distinct: str
    """Sets of one name here are parts, mixtures or seeds of one set: together they count once."""
    domain: str
    share: float
    """Of the rows that are of the variant: 1 where nothing is mixed in."""
    shift: float
    scores: Mapping[str, float]
    """trait -> the set's score."""
    answers: tuple[str, ...] = ()
    """For the surface features."""


def once(sets: Sequence[Trained]) -> list[Trained]:
    """One of each distinct set: of its largest share, the mean over seeds."""
    found = []
    for name in dict.fromkeys(one.distinct for one in sets):
        mine = [one for one in sets if one.distinct == name]
        most = [one for one in mine if one.share == max(m.share for m in mine)]
        scores = {trait: float(np.mean([one.scores[trait] for one in most])) for trait in most[0].scores}
        shift = float(np.mean([one.shift for one in most]))
        found.append(Trained(most[0].name, name, most[0].domain, most[0].share, shift, scores, most[0].answers))
    return found


def out_of_fold(sets: Sequence[Trained], fitted: Callable[[Sequence[Trained], Sequence[Trained]], Array | None]) -> Array:
    """fitted(other domains' sets, this domain's sets) -> scores of the latter; all of them [S], nan where there was nothing to fit on."""
    found = np.full(len(sets), np.nan)
    for domain in dict.fromkeys(one.domain for one in sets):
        mine = [i for i, one in enumerate(sets) if one.domain == domain]
        others = [one for one in sets if one.domain != domain]
        told = fitted(others, [sets[i] for i in mine]) if len(others) > 2 else None
        if told is not None:
            found[mine] = told
    return found


def by_trait(others: Sequence[Trained], mine: Sequence[Trained]) -> Array | None:
    """The score on the trait that ranks the other sets' shifts best."""
    shifts = np.array([one.shift for one in others])
    best, highest = None, -np.inf
    for trait in others[0].scores:
        found = spearman(np.array([one.scores[trait] for one in others]), shifts)
        if found > highest:
            best, highest = trait, found
    if best is None:
        return None
    told, among = (np.array([one.scores[best] for one in part]) for part in (mine, others))
    return scaled(told, among)


def scaled(told: Array, among: Array) -> Array | None:
    """In units of the spread of the other domains' sets, so that folds may be pooled; None where these are all alike."""
    return (told - among.mean()) / among.std() if among.std() > 0 else None


def by_surface(others: Sequence[Trained], mine: Sequence[Trained]) -> Array | None:
    """A logistic classifier on the answers' surface (lab/surface.py): does this row come from a set whose shift is above the median?"""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    middle = float(np.median([one.shift for one in others]))
    rows = [(surface.features(text), one.shift > middle) for one in others for text in one.answers]
    if len({above for _, above in rows}) < 2:
        return None
    reader: Any = make_pipeline(DictVectorizer(sparse=False), StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    reader.fit([features for features, _ in rows], [above for _, above in rows])
    told, among = (
        np.array([reader.decision_function([surface.features(text) for text in one.answers]).mean() for one in part])
        for part in (mine, others)
    )
    return scaled(told, among)


def effects(sets: Sequence[Trained], suffix: str = "", seed: int = 0) -> list[Effect]:
    """How well screening foretold the shifts: `screen_r` (trait chosen on other domains), `screen_r_surface`, their difference `screen_gain`,
    and `screen_r_<trait>` of each trait, for which nothing is fitted. Spearman's r of distinct sets; bootstrap over their domains.

    Below FEWEST distinct sets with a score there is no value, and no row a trait. suffix: added to each measure.
    """
    kept = once(sets)
    shifts = np.array([one.shift for one in kept])
    told = {"screen_r": out_of_fold(kept, by_trait), "screen_r_surface": out_of_fold(kept, by_surface)}
    told |= {
        f"screen_r_{trait}": np.array([one.scores[trait] for one in kept])
        for trait in (kept[0].scores if len(kept) >= FEWEST else ())
    }
    domains = [one.domain for one in kept]
    rows = [effect(f"{name}{suffix}", *correlated([values], shifts, domains, seed)) for name, values in told.items()]
    both = [told["screen_r"], told["screen_r_surface"]]
    return [*rows, effect(f"screen_gain{suffix}", *correlated(both, shifts, domains, seed))]


def correlated(
    told: Sequence[Array], shifts: Array, domains: Sequence[str], seed: int
) -> tuple[tuple[float | None, ...], int, int]:
    """Spearman's r of the first scores with the shifts, minus that of the second where there are two: ((value, low, high), n, missing)."""
    kept = np.isfinite(np.sum(told, axis=0)) if len(shifts) else np.zeros(0, bool)
    n, missing = int(kept.sum()), int((~kept).sum())
    values, y = [one[kept] for one in told], shifts[kept]
    names = np.asarray(domains)[kept] if n else np.zeros(0, str)

    def value(rows: Array) -> float:
        found = [spearman(one[rows], y[rows]) for one in values]
        return found[0] - found[1] if len(found) > 1 else found[0]

    if n < FEWEST or not np.isfinite(value(np.arange(n))):
        return (None, None, None), n, missing
    drawn = np.array([value(rows) for rows in bootstrap.resampled(names.tolist(), seed)])
    whole = value(np.arange(n))
    if np.ptp(drawn[np.isfinite(drawn)]) < bootstrap.STILL:  # no draw differs: how far it could, they do not say
        return (whole, None, None), n, missing
    return (whole, *bootstrap.ends(whole, drawn, len(set(names.tolist())), (-float(len(values)), float(len(values))))), n, missing


def spearman(one: Array, other: Array) -> float:
    """nan where either side is constant."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1])


def effect(measure: str, ends: Sequence[float | None], n: int, missing: int) -> Effect:
    value, low, high = ends
    return Effect(subject=SUBJECT, measure=measure, value=value, low=low, high=high, n=n, missing=missing)
