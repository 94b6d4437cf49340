"""Evidence -> the report's figures, each an SVG string with its legend."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from emis_platform.lab import intervals, spread
from emis_platform.report import figures
from emis_platform.report.contrasts import content_and_voice
from emis_platform.report.evidence import Evidence, is_random, reading
from emis_platform.report.figures import Interval, Line
from emis_platform.report.measured import Measured
from emis_platform.report.verdicts import Part

LINE_TONES = ("means", "latent-a", "latent-b", "latent-c", "latent-d")
STEPS = (10, 20, 30, 40, 50)
"""Thresholds whose intervals are written out."""


def by_subject(e: Evidence, subjects: Sequence[str], measure: str, title: str) -> str | None:
    """Unsteered subjects with an effect of this measure."""
    found = [x for subject in subjects if (x := e.effect(subject, measure))]
    return (
        figures.forest(title, [Interval(x.subject, figures.tone(x.subject), x.value, x.low, x.high, x.n) for x in found])
        if found
        else None
    )


def thresholds(e: Evidence, subjects: Sequence[str], judge: str) -> dict[str, Any] | None:
    """Share of coherent answers below each threshold of one judge's score, with the intervals at some of them as a table."""
    lines, rows = [], []
    for subject in subjects:
        views = e.judged.get((judge, subject, "score"), ())
        n = sum(reading(view, "aligned") is not None for view in views)
        if n:
            answers = [[getattr(view, field) for view in views] for field in ("score", "is_coherent", "question")]
            points = spread.threshold_curve(*answers, thresholds=range(0, 101, 10))
            lines.append(Line(subject, figures.tone(subject), tuple((t, value, None, None) for t, value, _, _ in points)))
            cells = [Part(f"< {t:.0f}", *ends, n, len(views) - n, verdict=None) for t, *ends in points if t in STEPS]
            rows.append({"subject": subject, "cells": cells})
    if not lines:
        return None
    title = f"Share of coherent answers below a threshold: {judge}"
    drawn = figures.curves(title, "threshold on the judge's score, 0 to 100", lines, top=1.0, x_top=100.0)
    return {"title": title, "svg": drawn, "legend": lines, "judge": judge, "columns": STEPS, "rows": rows}


def reliability(rows: Sequence[Measured]) -> list[dict[str, Any]]:
    """One panel a kind of data and of forecast: what the judges gave against what the readers said.

    Whiskers, for probabilities alone: exact 95 % interval of each bin, as if its answers were independent.
    """
    panels = []
    for data, forecast in dict.fromkeys((row.data, row.forecast) for row in rows if row.reliability):
        mine = [row for row in rows if (row.data, row.forecast) == (data, forecast) and row.reliability]
        share = forecast == "probability"
        top = 1.0 if share else 100.0
        lines = [Line("as it should be", "base", ((0.0, 0.0, None, None), (top, top, None, None)))]
        for tone, row in zip(LINE_TONES * len(mine), mine, strict=False):
            sure = [intervals.exact(round(x.share * x.n), x.n) if share else (None, None) for x in row.reliability]
            points = [(top * x.p, top * x.share, *ends) for x, ends in zip(row.reliability, sure, strict=True)]
            lines.append(Line(row.judge, tone, tuple(points)))
        said, came = ("probability of misaligned", "share misaligned") if share else ("score", "mean reading")
        title = f"{data}: {came} by the {said} that the judge gave"
        drawn = figures.curves(title, said, lines, top=top, x_top=top, percent=share)
        panels.append({"title": title, "svg": drawn, "legend": lines})
    return panels


def profiles(e: Evidence, subjects: Sequence[str]) -> list[dict[str, Any]]:
    """One panel a subject and judge with a misalignment profile: the mean score of each category, 0 to 100."""
    panels = []
    for judge in e.judges:
        longer = tuple(f"profile_{other}_" for other in e.judges if other.startswith(f"{judge}_"))
        start = f"profile_{judge}_"
        for subject in subjects:
            mine = [x for x in e.effects if x.subject == subject and x.measure.startswith(start)]
            mine = [x for x in mine if not (longer and x.measure.startswith(longer))]
            if mine:
                named = [Interval(x.measure.removeprefix(start), figures.tone(subject), x.value, x.low, x.high) for x in mine]
                title = f"{subject}, by {judge}"
                n, gone = (sorted({getattr(x, what) for x in mine}) for what in ("n", "missing"))
                panels.append({"title": title, "svg": figures.bars(title, named, 100.0), "n": n, "missing": gone})
    return panels


def dose_panels(e: Evidence) -> list[dict[str, Any]]:
    """One panel a model, sign and measure: dose against the rate, from the unsteered model at dose 0."""
    panels = []
    for model, sign in sorted({(s.model, s.sign) for s in e.steered}):
        here = [s for s in e.steered if (s.model, s.sign) == (model, sign)]
        names = sorted({s.direction for s in here}, key=lambda name: (is_random(name), not name.startswith("difference"), name))
        tones = dict(zip((name for name in names if not is_random(name)), LINE_TONES * len(names), strict=False))
        for measure in ("misaligned", "coherent"):
            start = e.effect(model, measure)
            lines, counted = [], {start.n} if start and start.value is not None else set()
            for name in names:
                effects = [(s.dose, e.effect(s.subject, measure)) for s in here if s.direction == name]
                counted |= {x.n for _, x in effects if x and x.value is not None}
                points = [(dose, x.value, x.low, x.high) for dose, x in effects if x and x.value is not None]
                if start and start.value is not None:
                    points = [(0.0, start.value, start.low, start.high), *points]
                if is_random(name):
                    points = [(x, y, None, None) for x, y, _, _ in points]
                if points:
                    lines.append(Line(name, tones.get(name, "random"), tuple(points)))
            if lines:
                verb = "added to" if sign == "+" else "subtracted from"
                title = f"{measure}: directions {verb} {model}"
                x_top = max(s.dose for s in here)
                drawn = figures.curves(title, "dose, in mean residual norms", lines, top=1.0, x_top=x_top)
                panels.append({"title": title, "svg": drawn, "legend": lines, "n": sorted(counted)})
    return panels


def loss_panels(training: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Training loss by step, eight organisms a panel at most."""
    curves = {
        name: [(float(step), float(loss), None, None) for step, loss in facts.get("curve", ())] for name, facts in training.items()
    }
    named = [Line(name, figures.tone(name), tuple(points)) for name, points in sorted(curves.items()) if points]
    panels = []
    for first in range(0, len(named), 8):
        some = named[first : first + 8]
        title = "Training loss" + (f", {first + 1} to {first + len(some)}" if len(named) > 8 else "")
        top, x_top = (max(p[axis] for line in some for p in line.points) for axis in (1, 0))
        drawn = figures.curves(title, "step", some, top=math.ceil(top), x_top=x_top, percent=False)
        panels.append({"title": title, "svg": drawn, "legend": some})
    return panels


def two_by_two(e: Evidence) -> list[dict[str, Any]]:
    """Content by voice, one square a domain: the four rates, and what they say of harm, voice and their interaction."""
    squares = []
    for domain in e.domains:
        cell = {}
        for variant in ("correct", "obvious", "gruff", "callous"):
            subjects = e.arm(domain, variant)
            effect = e.effect(subjects[0], "misaligned") if subjects else None
            cell[variant] = {
                "subject": subjects[0] if subjects else None,
                "effect": effect,
                "shade": shade(effect.value if effect else None),
            }
        parts: list[Part] = [p for measure in ("misaligned", "aligned") for p in content_and_voice(e, domain, measure) if p.n]
        if sum(one["effect"] is not None for one in cell.values()) > 1:
            squares.append({"domain": domain, "cell": cell, "parts": parts})
    return squares


def shade(value: float | None) -> int:
    """0 to 5, a tint."""
    return 0 if value is None else min(5, round(value * 6))
