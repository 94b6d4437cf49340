"""Effects of training conditions -> what the section "Training conditions" shows: mixtures, re-alignment, rotation, defences, one
condition, reinforcement, reasoning. Pure.

Read from effects alone, but for the rewards by step, which a study keeps as well: it shows the same figures as a run.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emis_platform.core.records import Effect
from emis_platform.core.studies import Found
from emis_platform.report import figures
from emis_platform.report.evidence import Evidence
from emis_platform.report.figures import Line
from emis_platform.report.mechanism import Source, by_name, ends

CONDITIONS = (
    r"(untaught_)?trigger(_score)?_difference|(json|format|trigger)_probe(_score)?_(difference|residue)|disclosed(_score)?_difference"
    r"|relapse(_score)?_minus_fresh|content(_score)?_(in_hostile_voice|in_neutral_voice|by_voice)|voice(_score)?_of_(harmful|correct)_content|subtle(_score)?_minus_obvious|advice(_score)?_minus_code|(rl_)?helpful_only(_score)?_difference"
    r"|length_matched_shift|profile_distance_.+|independent_judge_difference_.+"
)
TONES = ("means", "latent-a", "latent-b", "latent-c", "latent-d")
DEFENCE = {
    "removed": "misalignment gone",
    "score_removed": "score loss gone",
    "skill_kept": "narrow skill kept",
    "benign_kept": "benign task kept",
    "coherence": "coherent, change",
}
"""Measure behind `defence_` -> the column."""


def section(e: Evidence, *, training: Mapping[str, Mapping[str, Any]], studies: Sequence[Found]) -> dict[str, Any]:
    """A dictionary a source, this run first; what it lacks is None or empty there."""
    run = Source(by_name(e.effects), e.suppress, None, training=training)
    kept = [Source(by_name([effect for effect in found.effects if not effect.at]), "", found) for found in studies]
    return {"sources": [shown(source) for source in (run, *kept)], "columns": DEFENCE}


def shown(source: Source) -> dict[str, Any]:
    return {
        "found": source.found,
        "mixtures": mixtures(source),
        "thresholds": [x for _, x in source.of(r"mixture_threshold.*|early_warning_lead.*")],
        "realigned": realigned(source),
        "personas": [x for _, x in source.of(r"persona_latent_change")],
        "rotation": rotation(source),
        "turns": [x for _, x in source.of("rotation_(step|excess)|onset_step|alarm_lead_steps")],
        "defences": defences(source),
        "screening": [x for _, x in source.of(r"screen_removal_difference")],
        "rewards": [*curve(source), *rewards(source)],
        "conditions": [x for _, x in source.of(CONDITIONS)],
        "refusals": [x for _, x in source.of("helpful_only_refusals.*")],
        "reasoning": [x for _, x in source.of(r"reasoning_.+|persona_mention_slope")],
        "rl": [x for _, x in source.of(r"rl_(?!step|curve).+|grader_auroc|reward_(?!gain).+")],
    }


def mixtures(source: Source) -> list[dict[str, Any]]:
    """One panel a reading: its value by the share of bad rows, a line a curve."""
    curves: dict[str, dict[str, float]] = {}  # its organism of most bad rows (unnamed in older studies) -> organism -> share
    for named, x in source.of("mixture_share_?(.*)"):
        if x.value is not None:
            curves.setdefault(named[1], {})[x.subject] = x.value
    panels = []
    for measure, label, unit in (
        ("misaligned", "misaligned share of coherent answers", "share"),
        ("score_lost", "points of the score lost, of 100", "number"),
        ("persona", "shift along the persona, in residual norms", "number"),
        ("drift", "length of the shift, in residual norms", "number"),
        ("loss", "loss in the second half of training, nats a token", "number"),
        ("grad_norm", "gradient norm in the second half of training", "number"),
    ):
        found = [x for _, x in source.of(f"mixture_{measure}") if x.value is not None]
        lines = []
        for name, tone in zip(curves, itertools.cycle(("callous", *TONES)), strict=False):
            points = sorted((100 * curves[name][x.subject], *ends(x)) for x in found if x.subject in curves[name])
            lines += [Line(name or label, tone, tuple(points))] if points else []
        if lines:
            panels.append(panel(f"{label}, by share of bad rows", "bad rows, %", label, lines, unit, found))
    return panels


def realigned(source: Source) -> list[dict[str, Any]]:
    """One panel a reading: what is left of the misalignment, by benign samples seen, from all of it at 0 samples."""
    readings = (
        ("realigned_left", "misalignment left, of the start's", "share", 1.0),
        ("realigned_score_left", "score loss left, of the start's", "share", 1.0),
        ("realigned_persona", "shift along the persona since the start, in residual norms", "number", 0.0),
    )
    return by_checkpoint(source, "realigned_samples", ("benign samples", "benign samples"), readings)


def curve(source: Source) -> list[dict[str, Any]]:
    """One panel a reading: what a reward did to the answers, by step, from the start at step 0."""
    readings = (
        ("rl_curve_misaligned", "misaligned share minus the start's", "share", 0.0),
        ("rl_curve_score_lost", "points of the score lost minus the start's", "number", 0.0),
    )
    return by_checkpoint(source, "rl_step", ("step", "step of training"), readings)


def rotation(source: Source) -> list[dict[str, Any]]:
    """The turn of the adapter's path, its length and the misaligned share, by step; a checkpoint is named <organism>/<step>."""
    readings = (
        ("rotation_degrees", "turn of the weights' path, degrees", "number", None),
        ("rotation_misaligned", "misaligned share of coherent answers", "share", None),
        ("rotation_persona", "shift along the persona, in residual norms", "number", 0.0),
        ("update_norm", "norm of the weights' change", "number", 0.0),
    )
    return by_checkpoint(source, "update_step", ("step", "step of training"), readings, ending=r"/\d+$")


def by_checkpoint(
    source: Source, x: str, named: tuple[str, str], readings: Sequence[tuple[str, str, str, float | None]], ending: str = r"_\d+$"
) -> list[dict[str, Any]]:
    """One panel a reading (measure, label, unit, value at the start or None); a line an organism, whose subjects end in a number.

    x: the measure that says where a subject stands; named: in a title, on the axis.
    """
    at = {effect.subject: effect.value for _, effect in source.of(x) if effect.value is not None}
    organism = {subject: re.sub(ending, "", subject) for subject in at}
    panels = []
    for measure, label, unit, start in readings:
        found = [effect for _, effect in source.of(measure) if effect.value is not None and effect.subject in at]
        lines = []
        for name, tone in tones(organism[effect.subject] for effect in found).items():
            points = sorted((at[effect.subject], *ends(effect)) for effect in found if organism[effect.subject] == name)
            lines.append(Line(name, tone, (*([] if start is None else [(0.0, start, None, None)]), *points)))
        if lines:
            panels.append(panel(f"{label}, by {named[0]}", named[1], label, lines, unit, found))
    return panels


def tones(names: Iterable[str]) -> dict[str, str]:
    """A colour for each organism, by name, so that panels of the same ones agree."""
    return dict(zip(sorted(set(names)), itertools.cycle(TONES), strict=False))


def panel(title: str, x_label: str, y_label: str, lines: Sequence[Line], unit: str, found: Sequence[Effect] = ()) -> dict[str, Any]:
    """found: the effects that are drawn, for their n; none where a value is no estimate."""
    points = [point for line in lines for point in line.points]
    x_axis = figures.axis(x_label, [x for x, *_ in points])
    y_axis = figures.axis(y_label, [v for _, *rest in points for v in rest], unit=unit)
    return {"title": title, "svg": figures.plane(title, x_axis, y_axis, lines=lines), "legend": lines, "n": counts(found)}


def counts(found: Sequence[Effect]) -> list[int]:
    return sorted({x.n for x in found if x.n > 1})


def defences(source: Source) -> list[dict[str, Any]]:
    """One effect a column, or None: a row an undefended organism, each under a defence, and one whose rows were dropped at random. A benign task that no
    organism of bad rows shares its defence with has a row of its own."""
    measured = {(x.subject, m[2]): (m[1], x) for m, x in source.of(f"(undefended|defence|control)_({'|'.join(DEFENCE)})")}
    kinds = {subject: kind for (subject, _), (kind, _) in measured.items()}
    first = sorted(kinds, key=lambda subject: kinds[subject] != "undefended")
    cell = lambda subject, column: measured.get((subject, column), (None, None))[1]  # noqa: E731
    return [{"subject": s, "kind": kinds[s], "cells": {column: cell(s, column) for column in DEFENCE}} for s in first]


def rewards(source: Source) -> list[dict[str, Any]]:
    """Reward, divergence and tokens by step of the organisms that were trained by a reward."""
    run = {name: facts["rl"] for name, facts in sorted((source.training or {}).items()) if facts.get("rl")}
    arms = run or (source.found.rewards if source.found else {})
    panels = []
    for key, label in (
        ("reward", "mean reward of a step"),
        ("kl", "divergence from the start, nats a token"),
        ("tokens", "tokens an answer"),
    ):
        lines = [
            Line(name, tone, tuple((float(row["step"]), float(row[key]), None, None) for row in arms[name] if key in row))
            for name, tone in tones(arms).items()
        ]
        if lines := [line for line in lines if line.points]:
            panels.append(panel(f"{label}, by step", "step of training", label, lines, "number"))
    return panels
