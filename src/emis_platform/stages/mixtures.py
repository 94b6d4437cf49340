"""mixtures: organisms that differ in the share of bad rows -> at which share the answers turn, and at which the persona shows it. No model runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Effect
from emis_platform.core.stage import run
from emis_platform.lab import dose, intervals, twins
from emis_platform.stages import project
from emis_platform.tools import views

TRAIT = "toxic"
"""The persona named before anything was measured."""
BAD = ("subtle", "obvious", "callous", "sarcastic", "gruff")
"""Variants whose share 0 the matched correct rows are."""
THRESHOLDS = {
    "misaligned": "mixture_threshold",
    "score_lost": "mixture_threshold_score",
    "persona": "mixture_threshold_persona",
    "drift": "mixture_threshold_drift",
}
"""Reading -> the measure of its half-way share."""
PROJECTED = ("persona", "drift")
"""Readings of the activations, not of the answers."""


def main(*, judgements: Path, opinions: Path, shifts: Path, training: Path, effects: Path) -> None:
    """`shifts`: how far each organism moved on each question (stage project); `training`: metrics/train. Empty without four shares of one set.

    Of the organism with the largest share, the share of bad rows at which a rising curve is half-way: `mixture_threshold` (misaligned, of
    coherent answers), `mixture_threshold_score` (points of the score lost), both by `discriminate.judge`, and `mixture_threshold_persona` (shift
    along one persona, named beforehand); and `early_warning_lead`, the second minus the third: what the persona shows sooner. The same of what needs no
    persona: `mixture_threshold_drift` (length of the shift, whatever its direction), and without interval, so that noise has one as well,
    `mixture_threshold_loss`, `mixture_threshold_grad_norm` (means over the training's second half, the latter at its looks; up or down, as they go); `early_warning_lead_drift`, the drift's minus the persona's,
    paired by question. Steps are no rival: each share takes as many. Of each organism the curve itself: `mixture_share_<that organism>`,
    `mixture_misaligned`, `mixture_score_lost`, and of each of the others `mixture_<reading>`.
    """
    knobs = params.load()
    moved = project.read(shifts)
    told = {name: files.read_json(training / f"{name}.json") for name in knobs.organisms}
    found: list[Effect] = []
    for arms in curves(knobs):
        found += of_curve(knobs, arms, judgements, opinions, moved, told)
    once = {(effect.subject, effect.measure): effect for effect in found}  # the correct arm is share 0 of more than one curve
    files.write_json(effects, [effect.model_dump() for effect in once.values()])


def curves(knobs: params.Params) -> list[dict[float, str]]:
    """share -> organism, for each set, start and trainer of which several shares were trained; correct rows alone are share 0."""
    found: dict[str, dict[float, str]] = {}
    for name, one in knobs.organisms.items():
        data = one.data
        if not data.domain or data.variant in (None, "plain") or not data.plain:
            continue
        share = 0.0 if data.variant == "correct" else 1.0 if data.mixture is None else data.mixture
        for variant in BAD if data.variant == "correct" else (data.variant,):
            key = twins.recipe(one, data={"variant": variant, "mixture": None}).model_dump_json()
            found.setdefault(key, {}).setdefault(share, name)
    return [arms for arms in found.values() if len(arms) >= dose.FEWEST]


def of_curve(
    knobs: params.Params,
    arms: dict[float, str],
    judgements: Path,
    opinions: Path,
    moved: project.Shifts,
    told: Mapping[str, Mapping[str, Any]],
) -> list[Effect]:
    seen = {share: views_of for share, name in arms.items() if (views_of := views.outside(knobs, name, judgements, opinions))}
    asked = sum(map(len, seen.values()))
    readings = {
        "misaligned": {share: views.by_question(views_of, views.misaligned) for share, views_of in seen.items()},
        "score_lost": {share: views.by_question(views_of, views.lost) for share, views_of in seen.items()},
    } | {reading: {share: by[name] for share, name in arms.items() if name in by} for reading, by in shifted(moved).items()}
    thresholds = {
        reading: dose.threshold(by_share, knobs.seed + (reading in PROJECTED), 100.0 if reading == "score_lost" else 1.0)
        for reading, by_share in readings.items()
    }
    worst, rows = arms[max(arms)], []
    for reading, one in thresholds.items():
        missing = 0 if reading in PROJECTED else asked - one.n
        ends = {"value": one.value, "low": one.low, "high": one.high, "n": one.n, "missing": missing}
        rows.append(Effect(subject=worst, measure=THRESHOLDS[reading], **ends))
    for measure, late in (("early_warning_lead", "score_lost"), ("early_warning_lead_drift", "drift")):
        value, low, high = dose.lead(thresholds[late], thresholds["persona"])
        rows.append(Effect(subject=worst, measure=measure, value=value, low=low, high=high, n=len(arms)))
    for share, name in sorted(arms.items()):
        rows.append(Effect(subject=name, measure=f"mixture_share_{worst}", value=share, low=None, high=None, n=1))
        for reading, by_share in readings.items():
            views_of = [] if reading in PROJECTED else seen.get(share, [])
            rows.append(mean(name, f"mixture_{reading}", by_share.get(share, {}), len(views_of)))
    for rival, of in (("loss", loss), ("grad_norm", gradient)):
        rows += of_logged(rival, {share: of(told[name]) for share, name in sorted(arms.items())}, arms)
    return rows


def shifted(moved: project.Shifts) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Reading -> organism -> question -> its shift: along the persona, and its length."""
    along = moved.moved_OQD @ moved.personas[TRAIT] if TRAIT in moved.personas else np.empty((0, 0))
    found = {"persona": along, "drift": np.linalg.norm(moved.moved_OQD, axis=-1)}
    return {
        reading: {
            name: {question: [float(x)] for question, x in zip(moved.questions, row, strict=True)}
            for name, row in zip(moved.organisms, values_OQ, strict=False)
        }
        for reading, values_OQ in found.items()
    }


def loss(told: Mapping[str, Any]) -> float | None:
    """Mean over the second half of the steps."""
    late = [value for _, value in told["curve"][len(told["curve"]) // 2 :]]
    return float(np.mean(late)) if late else None


def gradient(told: Mapping[str, Any]) -> float | None:
    """Mean norm at the looks of the second half; None of a training that was not watched."""
    late = [look["grad_norm"] for look in told.get("personas") or () if look["share"] > 0.5 and look.get("grad_norm") is not None]
    return float(np.mean(late)) if late else None


def of_logged(rival: str, values: dict[float, float | None], arms: dict[float, str]) -> list[Effect]:
    """Where a value is missing at either end, there is no way to be half of."""
    known = {share: value for share, value in values.items() if value is not None}
    half = None
    if len(known) >= dose.FEWEST and {min(values), max(values)} <= known.keys():
        shares_S, values_S = np.array([*known]), np.array([*known.values()])
        half = dose.crossing(shares_S, values_S if values_S[-1] >= values_S[0] else -values_S, np.ones(len(known)))
    missing = len(values) - len(known)
    ends = {"value": half, "low": None, "high": None, "n": len(known), "missing": missing}
    rows = [Effect(subject=arms[max(arms)], measure=f"mixture_threshold_{rival}", **ends)]
    return rows + [
        Effect(subject=arms[share], measure=f"mixture_{rival}", value=value, low=None, high=None, n=1)
        for share, value in known.items()
    ]


def mean(subject: str, measure: str, by: dict[str, list[float]], asked: int) -> Effect:
    values = [(value, question) for question, row in by.items() for value in row]
    ends = intervals.rate(*zip(*values, strict=True)) if values else (None, None, None)
    gone = max(0, asked - len(values))
    return Effect(subject=subject, measure=measure, value=ends[0], low=ends[1], high=ends[2], n=len(values), missing=gone)


if __name__ == "__main__":
    run(main)
