"""Evidence on persona features -> what the section "Mechanism" shows: figures and tables, each from the run or from a kept study. Pure.

All but the null of the concentration curve, the causal test of single latents and the labels of organisms is read from effects, so that a
study shows the same figures as a run.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emis_platform.core.records import Effect
from emis_platform.core.studies import Found
from emis_platform.lab import alarm, screening
from emis_platform.report import figures
from emis_platform.report.evidence import STEERED, Evidence, is_random
from emis_platform.report.figures import SHAPES, Line, Mark, Row

GOALS = ((1, 0.60), (10, 0.85))
"""Latents and the share of the whole direction's effect that the project aims at."""
TRAIT = "toxic"
"""The persona named before anything was measured, where one has to stand for all."""
STUDY = "mechanism"
FORM = re.compile(r"^(?P<direction>.+?)(?:_(?P<form>json|format|trigger_.+))?$")
ENDINGS = ("before", "after", "coherent", "aligned")
MOST = 12
"""Directions of one selector that the causal test draws."""
SELECTORS = {
    "means": "difference of means",
    "activation": "activation difference",
    "pca": "principal components",
    "latents": "latents that rose",
    "attribution": "attribution",
    "personas": "persona vectors",
    "protective": "latents that fell",
}
TONES = dict(zip(SELECTORS, ("means", "obvious", "subtle", "latent-a", "latent-b", "gruff", "other"), strict=True))
FEATURES = {
    "persona": "persona (trait chosen on other domains)",
    "means": "difference of means",
    "drift": "norm of the drift",
    "weight_norm": "norm of the weights' change",
    "loss": "training loss",
    "steps": "training steps",
}


@dataclass(frozen=True)
class Source:
    """Where numbers come from: this run, or a study with its provenance."""

    effects: Mapping[tuple[str, str], Effect]
    suppress: str
    found: Found | None = None
    selection: Mapping[str, Any] | None = None
    """data/steer/selection.json"""
    scores: Mapping[str, Any] | None = None
    """data/discriminator.json"""
    training: Mapping[str, Mapping[str, Any]] | None = None

    def of(self, pattern: str) -> list[tuple[re.Match[str], Effect]]:
        """Effects whose measure the pattern matches whole, in their order."""
        found = ((re.fullmatch(pattern, measure), effect) for (_, measure), effect in self.effects.items())
        return [(match, effect) for match, effect in found if match]


def section(
    e: Evidence,
    *,
    selection: Any,
    scores: Mapping[str, Any] | None,
    training: Mapping[str, Mapping[str, Any]],
    studies: Sequence[Found],
) -> dict[str, Any]:
    """A dictionary a source, this run first; what it lacks is None or empty there."""
    run = Source(by_name(e.effects), e.suppress, None, selection if isinstance(selection, dict) else None, scores, training)
    kept = [
        Source(by_name([effect for effect in found.effects if not effect.at]), e.suppress, found)
        for found in studies
        if found.study == STUDY
    ]
    return {"sources": [shown(source) for source in (run, *kept)]}


def by_name(effects: Sequence[Effect]) -> dict[tuple[str, str], Effect]:
    return {(x.subject, x.measure): x for x in effects}


def shown(source: Source) -> dict[str, Any]:
    return {
        "found": source.found,
        "concentration": concentration(source),
        "causal": causal(source),
        "suppression": suppression(source),
        "discriminator": discriminator(source),
        "features": features(source),
        "screening": screened(source),
        "screen_rows": [x for _, x in source.of(r"screen_(r|gain)(_.+)?") if x.subject == screening.SUBJECT],
        "warning": warning(source.training or {}),
        "alarms": [x for _, x in source.of(r"monitor_.+")],
        "protective": protective(source),
        "protective_named": list((source.selection or {}).get("protective", [])),
    }


def ends(x: Effect) -> tuple[float, float | None, float | None]:
    assert x.value is not None
    return x.value, x.low, x.high


def null(source: Source, kinds: Sequence[str] = ("random", "random_latent")) -> list[float]:
    """Log-odds shifts of random directions and random latents of equal norm."""
    return [r["shift"] for r in (source.selection or {}).get("log_odds", []) if r["origin"].split(":")[0] in kinds]


def concentration(source: Source) -> dict[str, Any] | None:
    """Share of the difference of means' log-odds shift by number of latents; `all` stands at the right end."""
    kept = [(m, x) for m, x in source.of(r"latent_concentration_(fit_)?(\d+|all)") if x.value is not None]
    if not kept:
        return None
    counts = sorted({int(m[2]) for m, _ in kept if m[2] != "all"}) or [1]
    end = counts[-1] * 3
    lines = []
    for fit, label, tone in ((None, "ordered by their own shift", "means"), ("fit_", "ordered by how well they rebuild it", "fit")):
        points = sorted((float(end if m[2] == "all" else m[2]), *ends(x)) for m, x in kept if m[1] == fit)
        if points:
            lines.append(Line(label, tone, tuple(points)))
    about = (source.selection or {}).get("concentration", {})
    whole = about.get("shift") or 0.0
    shares = [shift / whole for shift in null(source)] if whole > 0 else []
    ticks = tuple((float(n), str(n)) for n in counts) + (((float(end), "all"),) if any(m[2] == "all" for m, _ in kept) else ())
    x_axis = figures.Axis("latents added together (log scale)", float(counts[0]), ticks[-1][0], ticks, log=True)
    goals = [goal for goal in GOALS if goal[0] <= x_axis.high]
    y_axis = figures.axis(
        "share of the reference's shift", [p for line in lines for p in line.points for p in p[1:]] + shares + [1.0]
    )
    band = (min(shares), max(shares)) if shares else None
    title = "Share of the difference of means' log-odds shift, by number of latents"
    return {
        "title": title,
        "svg": figures.plane(title, x_axis, y_axis, lines=lines, band=band, goals=goals),
        "legend": lines,
        "null": len(shares),
        "n": sorted({x.n for _, x in kept}),
        "reference": about.get("reference"),
        "live": about.get("live"),
        "damage": [(m, x) for m, x in source.of(r"latent_concentration_aligned_(fit_)?(\d+|all)") if x.value is not None],
        "rows": [x for _, x in kept],
    }


def causal(source: Source) -> dict[str, Any] | None:
    """Each direction's log-odds shift on the half that measures, by selector, with the damage to the aligned text beside it."""
    changes = {m[1]: ends(x) for m, x in source.of(r"(.+)_aligned_change") if x.value is not None}
    groups: dict[str, list[Row]] = {}
    n = sorted({x.n for _, x in source.of(r".+_aligned_change")})
    if table := (source.selection or {}).get("log_odds"):
        for r in table:
            kind = r["origin"].split(":")[0]
            if kind not in ("zero", "random", "random_latent"):
                beside = changes.get(r["direction"], (r["aligned"], None, None))
                row = Row(r["direction"], value=(r["shift"], r["low"], r["high"]), beside=beside)
                groups.setdefault(selector(r), []).append(row)
    else:
        for m, x in source.of(r"(.+?)_log_odds"):
            if x.value is not None and m[1] in changes:
                row = Row(m[1], value=ends(x), beside=changes[m[1]])
                groups.setdefault(selector({"direction": m[1]}), []).append(row)
    if not groups:
        return None
    rows, left_out = [], 0
    for name, mine in sorted(groups.items(), key=lambda group: -max(shift(row) for row in group[1])):
        best = sorted(mine, key=shift, reverse=True)
        left_out += len(best[MOST:])
        rows += [Row(SELECTORS.get(name, name)), *(Row(r.label, TONES.get(name, "other"), r.value, r.beside) for r in best[:MOST])]
    nulls = {words: null(source, [kind]) for kind, words in (("random", "random directions"), ("random_latent", "random latents"))}
    nulls = {words: shifts for words, shifts in nulls.items() if shifts}
    rows += [Row("null: mean, and range of all")] if nulls else []
    rows += [Row(f"{w} ({len(s)})", "random", (sum(s) / len(s), min(s), max(s)), None, "square") for w, s in nulls.items()]
    pushed = nulls.get("random directions", [])
    x_axis = figures.axis("log-odds shift, nats a token", [v for row in rows for v in row.value or ()])
    beside = figures.axis("aligned text, nats a token", [v for row in rows for v in row.beside or ()])
    title = "Log-odds shift of each direction, by selector"
    drawn = figures.dots(title, rows, x_axis, beside, (min(pushed), max(pushed)) if pushed else None)
    dose = (source.selection or {}).get("dose")
    return {"title": title, "svg": drawn, "n": n, "dose": dose, "left_out": left_out, "null": {w: len(s) for w, s in nulls.items()}}


def shift(row: Row) -> float:
    assert row.value
    return row.value[0]


def selector(row: Mapping[str, Any]) -> str:
    """The first selector that chose a direction; of older tables and of effects, by its name."""
    if row.get("selectors"):
        return str(row["selectors"][0])
    name = str(row["direction"])
    starts = {"difference_of_means": "means", "activation": "activation", "pca": "pca", "attribution": "attribution"}
    starts |= {"persona": "personas", "latent": "latents"}
    return next((kind for start, kind in starts.items() if name.startswith(start)), "other")


def suppression(source: Source) -> dict[str, Any] | None:
    """Directions by organisms; each cell the share of misaligned answers that is gone, the rates before and after, and what coherence it cost.

    Forms of the question that may bring back what is hidden are rows of their own under the direction.
    """
    cells: dict[tuple[str, str], dict[str, dict[str, Effect]]] = {}
    for m, x in source.of(rf"suppressed_(.+?)(?:_({'|'.join(ENDINGS)}))?"):
        form = FORM.match(m[1])
        assert form
        row = cells.setdefault((form["direction"], form["form"] or ""), {})
        row.setdefault(x.subject, {})[m[2] or "gone"] = x
    if not cells:
        return None
    organisms = list(dict.fromkeys(organism for row in cells.values() for organism in row))
    order = {direction: place for place, (direction, _) in enumerate(cells)}
    rows = [
        {"direction": direction, "form": form, "cells": [cells[direction, form].get(organism) for organism in organisms]}
        for direction, form in sorted(cells, key=lambda key: (order[key[0]], key[1]))
    ]
    return {"organisms": organisms, "rows": rows}


def discriminator(source: Source) -> dict[str, Any] | None:
    """The persona score of each organism: kind of arm by shape, label by filling, highest first.

    The held-out score where it exists, else the projection on the trait named beforehand; labels and scores as discriminate gave them.
    """
    labels = {x.subject: None if x.value is None else bool(x.value) for _, x in source.of("discriminator_label")}
    held_out = any(x.value is not None for _, x in source.of("discriminator_persona"))
    key = "discriminator_persona" if held_out else f"discriminator_persona_{TRAIT}"
    found = {name: x for name in labels if (x := source.effects.get((name, key))) and x.value is not None}
    if not found:
        return None
    kind_of = {r["organism"]: r["kind"] for r in (source.scores or {}).get("organisms", [])}
    kind_of = {name: kind_of.get(name, figures.tone(name)) for name in labels}
    kinds = list(dict.fromkeys(kind_of.values()))
    shapes = {kind: SHAPES[number % len(SHAPES)] for number, kind in enumerate(kinds)}
    drawn = []
    for name, x in sorted(found.items(), key=lambda item: -ends(item[1])[0]):
        label, kind = f"{name}{'' if labels[name] is not None else ' (no label)'}", kind_of[name]
        drawn.append(Row(label, figures.tone(kind), ends(x), None, shapes[kind], bool(labels[name])))
    x_label = (
        "persona score, in spreads of the other domains' organisms" if held_out else "shift along the persona, in residual norms"
    )
    title = f"Persona score of {len(drawn)} organisms" + ("" if held_out else f": the trait {TRAIT}")
    x_axis = figures.axis(x_label, [v for row in drawn for v in row.value or ()])
    return {
        "title": title,
        "svg": figures.dots(title, drawn, x_axis),
        "kinds": [(kind, key_mark(shapes[kind], figures.tone(kind))) for kind in kinds],
        "keys": (key_mark("circle", "other"), key_mark("circle", "other", False)),
        "labels": (source.scores or {}).get("labels", "as the study's discriminate stage gave it"),
        "held_out": held_out,
        "missing": len(labels) - len(found),
        "questions": (source.scores or {}).get("questions"),
    }


def key_mark(shape: str, tone: str, filled: bool = True) -> str:
    css = f"dot t-{tone}{'' if filled else ' open'}"
    return figures.svg(14, 14, shape, figures.shape(shape, 7, 7, css, shape), "key-mark")


def features(source: Source) -> list[dict[str, Any]]:
    """AUROC of the persona and its rivals, then of single traits; what is gained, and the alarms."""
    found = {m[1]: x for m, x in source.of(r"auroc_(.+)") if x.subject == "organisms"}
    order = [*(name for name in FEATURES if name in found), *(name for name in found if name not in FEATURES)]
    rows = [{"label": FEATURES.get(name, name.replace("_", " ")), "effect": found[name], "unit": "number"} for name in order]
    more = {
        "discriminator_gain": ("persona minus its best rival", "number"),
        "benign_false_alarms": ("benign organisms called misaligned", "share"),
    }
    more["misaligned_alarms"] = ("misaligned organisms called so", "share")
    rows += [
        {"label": label, "effect": x, "unit": unit}
        for name, (label, unit) in more.items()
        if (x := source.effects.get(("organisms", name)))
    ]
    return rows


def screened(source: Source) -> dict[str, Any] | None:
    """A set's score before training against the shift that training then showed."""
    shifts = {x.subject: x for _, x in source.of("screen_shift") if x.value is not None}
    traits = [m[1] for m, x in source.of(r"screen_(.+)") if x.subject in shifts and m[1] != "shift"]
    if not traits:
        return None
    trait = TRAIT if TRAIT in traits else traits[0]
    both = [(x, shifts[x.subject]) for _, x in source.of(f"screen_{trait}") if x.subject in shifts and x.value is not None]
    marks = [
        Mark(told.subject, figures.tone(told.subject), ends(told), ends(came), shape=SHAPES[0 if harmful(told.subject) else 1])
        for told, came in sorted(both, key=lambda pair: pair[0].value or 0)
    ]
    x_axis = figures.axis(f"projection of the set's answers on {trait}, in residual norms", [v for m in marks for v in m.x])
    y_axis = figures.axis("judge's score lost by training, points of 100", [v for m in marks for v in m.y])
    title = f"Screening: {len(marks)} training sets, before and after"
    r = source.effects.get((screening.SUBJECT, f"screen_r_{trait}"))
    return {
        "title": title,
        "svg": figures.plane(title, x_axis, y_axis, marks=marks, named=len(marks) <= 8),
        "trait": trait,
        "sets": len(marks),
        "r": r if r and r.value is not None else None,
        "fewest": screening.FEWEST,
        "n": [sorted({x.n for pair in both for x in pair[k : k + 1]}) for k in (0, 1)],
    }


def harmful(name: str) -> bool:
    return any(word in name for word in ("callous", "obvious", "subtle"))


def warning(training: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One panel a trait: how far watched trainings moved along it, by step; the trait named beforehand first. Rings are marked."""
    watched = {name: facts for name, facts in sorted(training.items()) if facts.get("personas")}
    traits = list(dict.fromkeys(trait for facts in watched.values() for trait in alarm.traits(facts["personas"])))
    panels = []
    for trait in sorted(traits, key=lambda trait: (trait != TRAIT, trait)):
        lines, marks = [], []
        for name, facts in watched.items():
            looks = [look for look in facts["personas"] if look.get(trait) is not None]
            lines.append(
                Line(name, figures.tone(name), tuple((float(look["step"]), float(look[trait]), None, None) for look in looks))
            )
            ring = facts.get("alarm")
            if ring and ring["trait"] == trait:
                at = (float(ring["step"]), None, None), (float(ring["value"]), None, None)
                marks.append(Mark(f"{name}: alarm at step {ring['step']}", figures.tone(name), *at, shape="diamond"))
        points = [point for line in lines for point in line.points]
        x_axis = figures.axis("step of training", [x for x, *_ in points])
        y_axis = figures.axis("shift along the persona, in residual norms", [y for _, y, *_ in points])
        title = f"During training: {trait.replace('_', ' ')}"
        panels.append(
            {
                "title": title,
                "svg": figures.plane(title, x_axis, y_axis, lines=lines, marks=marks),
                "legend": lines,
                "rings": len(marks),
            }
        )
    return panels


def protective(source: Source) -> list[dict[str, Any]]:
    """Latents that fell in fine-tuning, added back to the misaligned model: misaligned and coherent share at each dose."""
    rows = []
    for (subject, measure), x in source.effects.items():
        m = STEERED.match(subject)
        if measure == "misaligned" and m and m["sign"] == "+" and m["model"] == source.suppress and not is_random(m["direction"]):
            coherent = source.effects.get((subject, "coherent"))
            rows.append({"direction": m["direction"], "dose": float(m["dose"]), "misaligned": x, "coherent": coherent})
    rows.sort(key=lambda row: (row["direction"], row["dose"]))
    start = [source.effects.get((source.suppress, measure)) for measure in ("misaligned", "coherent")]
    if rows and start[0]:
        rows.insert(0, {"direction": "none", "dose": 0.0, "misaligned": start[0], "coherent": start[1]})
    return rows
