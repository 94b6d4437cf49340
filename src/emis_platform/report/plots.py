"""Evidence -> the report's figures, each an SVG string with its legend."""

from collections.abc import Mapping, Sequence
from typing import Any

from emis_platform.report import figures
from emis_platform.report.contrasts import content_and_voice
from emis_platform.report.evidence import Evidence, cells, is_random
from emis_platform.report.figures import Interval, Line
from emis_platform.report.verdicts import Part

LINE_TONES = ("means", "latent-a", "latent-b", "latent-c", "latent-d")


def by_subject(e: Evidence, subjects: Sequence[str], measure: str, title: str) -> str | None:
    """Unsteered subjects with an effect of this measure."""
    found = [x for subject in subjects if (x := e.effect(subject, measure))]
    return (
        figures.forest(title, [Interval(x.subject, figures.tone(x.subject), x.value, x.low, x.high) for x in found])
        if found
        else None
    )


def thresholds(e: Evidence, subjects: Sequence[str]) -> dict[str, Any] | None:
    """Share of coherent answers below each threshold of the default judge: the rate does not hang on the number 30."""
    lines = []
    for subject in subjects:
        points = []
        for t in range(0, 101, 5):
            values = [v for some in cells(e, [subject], f"misaligned<{t}").values() for v in some]
            if values:
                points.append((float(t), sum(values) / len(values), None, None))
        if points:
            lines.append(Line(subject, figures.tone(subject), tuple(points)))
    if not lines:
        return None
    title = "Share of coherent answers below a threshold"
    return {
        "title": title,
        "svg": figures.curves(title, "threshold on the judge's score, 0 to 100", lines, top=1.0, x_top=100.0),
        "legend": lines,
    }


def dose_panels(e: Evidence) -> list[dict[str, Any]]:
    """One panel a model, sign and measure: dose against the rate, from the unsteered model at dose 0."""
    panels = []
    for model, sign in sorted({(s.model, s.sign) for s in e.steered}):
        here = [s for s in e.steered if (s.model, s.sign) == (model, sign)]
        names = sorted({s.direction for s in here}, key=lambda name: (is_random(name), not name.startswith("difference"), name))
        tones = dict(zip((name for name in names if not is_random(name)), LINE_TONES * len(names), strict=False))
        for measure in ("misaligned", "coherent"):
            start = e.effect(model, measure)
            lines = []
            for name in names:
                effects = [(s.dose, e.effect(s.subject, measure)) for s in here if s.direction == name]
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
                panels.append({"title": title, "svg": drawn, "legend": lines})
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
        top, x_top = max(p[1] for line in some for p in line.points), max(p[0] for line in some for p in line.points)
        drawn = figures.curves(title, "step", some, top=top, x_top=x_top, percent=False)
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
