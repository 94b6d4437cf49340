"""Curves of persona projections during training -> the step at which one leaves the band of benign trainings. Pure.

A look is one row of a curve: `step`, `share` (of the training's steps), `loss`, `grad_norm`, `drift` and the value of each trait.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import stats

from emis_platform.core.records import Record

LOGGED = ("loss", "grad_norm")
"""What the trainer logs of a step."""
Look = Mapping[str, float | None]
Curve = Sequence[Look]
RIVALS = ("drift", *LOGGED)
"""What a look holds beside the traits. Step count is the third rival: it rings at the same step in a benign training."""
PLACES = ("step", "share")
FEWEST = 3
"""Benign curves below which a spread is not estimated."""


class Rule(Record):
    """When to ring: a signal lies above the benign band at `looks` looks in a row."""

    rate: float | None = Field(0.01, gt=0, lt=0.5)
    """Chance that a new benign training lies above the band at one look, by one trait: mean + t * sd * sqrt(1 + 1/n) of n benign curves, a
    normal prediction bound. None: their maximum, which the next of n + 1 alike exceeds with chance 1/(n + 1)."""
    looks: int = Field(2, gt=0)
    by: Literal["share", "step"] = "share"
    """What makes two looks of different trainings comparable."""


class Alarm(Record):
    """The first look that completes a run above the band."""

    step: int
    share: float
    trait: str
    value: float
    limit: float


def traits(curve: Curve) -> list[str]:
    """All that a curve follows, but for its places and rivals."""
    return [name for name in (curve[0] if curve else ()) if name not in (*PLACES, *RIVALS)]


def band(reference: Sequence[Curve], places: Sequence[float], name: str, rule: Rule) -> np.ndarray:
    """Upper end of the benign band at each place; nan where fewer than FEWEST benign curves reach.

    A curve is read between its looks in a straight line, from 0 at place 0 for a trait and the drift, and never beyond its last look.
    """
    values = np.stack([at(curve, places, name, rule.by) for curve in reference]) if reference else np.empty((0, len(places)))
    limit = np.full(len(places), np.nan)
    for place, column in enumerate(values.T):
        there = column[np.isfinite(column)]
        if len(there) >= FEWEST:
            limit[place] = there.max() if rule.rate is None else above(there, rule.rate)
    return limit


def above(values: np.ndarray, rate: float) -> float:
    n = len(values)
    return float(values.mean() + stats.t.ppf(1 - rate, n - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / n))


def at(curve: Curve, places: Sequence[float], name: str, by: str) -> np.ndarray:
    known = [(float(look[by] or 0), float(look[name])) for look in curve if look.get(name) is not None]  # type: ignore[arg-type]
    if known and name not in LOGGED:
        known.insert(0, (0.0, 0.0))
    if not known:
        return np.full(len(places), np.nan)
    x, y = np.array(known).T
    return np.interp(places, x, y, left=np.nan, right=np.nan)


def rings(curve: Curve, reference: Sequence[Curve], rule: Rule, names: Sequence[str] | None = None) -> Alarm | None:
    """The alarm of a curve, whole or as far as it goes; None without a ring, and always without a reference.

    names: the signals that may ring; None: all traits. A look without a band or value ends a run.
    """
    if not curve or not reference:
        return None
    places = [float(look[rule.by] or 0) for look in curve]
    asked = traits(curve) if names is None else names
    found = []
    for name in asked:
        limits, run = band(reference, places, name, rule), 0
        for look, limit in zip(curve, limits, strict=True):
            value = look.get(name)
            run = run + 1 if value is not None and value > limit else 0
            if run == rule.looks:
                step, share = int(look["step"] or 0), float(look["share"] or 0)
                found.append(Alarm(step=step, share=share, trait=name, value=value, limit=round(float(limit), 6)))
                break
    return min(found, key=lambda alarm: alarm.step, default=None)


def covered(curve: Curve, reference: Sequence[Curve], rule: Rule, names: Sequence[str] | None = None) -> bool:
    """Could the curve ring: has it, by any of the signals, a value and a band at `looks` looks in a row?"""
    places = [float(look[rule.by] or 0) for look in curve]
    for name in traits(curve) if names is None else names:
        limits, run = band(reference, places, name, rule), 0
        for look, limit in zip(curve, limits, strict=True):
            run = run + 1 if look.get(name) is not None and np.isfinite(limit) else 0
            if run == rule.looks:
                return True
    return False
