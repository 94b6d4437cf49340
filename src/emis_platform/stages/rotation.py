"""rotation: the kept checkpoints of each training -> where its adapter turns, how far it has moved along a persona, and where its answers turn."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Effect, Judgement
from emis_platform.core.stage import run
from emis_platform.lab import intervals, rotation
from emis_platform.stages import personas, project
from emis_platform.tools import models as zoo
from emis_platform.tools import updates, views

FEWEST = 2
"""Checkpoints before the end, below which there are no two turns to compare."""
TRAIT = "toxic"
"""The persona named before anything was measured."""


def main(*, models: Path, training: Path, answers: Path, judgements: Path, opinions: Path, effects: Path) -> None:
    """`training`: metrics/train. Empty without an adapter that keeps two checkpoints.

    Of each of its checkpoints, named <organism>/<step>, and of its end, by the name of the organism: `update_step`; `update_norm` (Frobenius, of the weights'
    change since the start); `update_cosine_to_end`; `rotation_degrees` (between the change since the point before and the change up to the next
    one; the last two not of the end); `rotation_misaligned` where a subject questions it; `rotation_persona` (shift along one persona since the start, in
    mean residual norms of the base, on the base's own answers to `discover` questions; paired by question, none on fewer than two). Of the organism: `rotation_step`, where the turn is largest;
    `rotation_excess`, by how many degrees it exceeds the median turn; both without interval, n counts turns. And `onset_step`: the step after which
    the misaligned share rises most, from the start on; and of one that was watched and rang `alarm_lead_steps`, by how many steps the alarm rang before that (the alarm's own
    step is no estimate, so the interval is the onset's). Shares are of coherent answers, by `discriminate.judge`; bootstrap over questions.
    """
    knobs = params.load()
    found: list[Effect] = []
    along = functools.cache(Persona(knobs, models, answers).along)
    for name in knobs.organisms:
        points = kept(knobs, name, training)
        if len(points) < FEWEST + 2 or not zoo.is_adapter(models / name):
            continue
        found += of_weights(points, models) + of_persona(points, along)
        seen = {step: told for step, model in points.items() if (told := views.outside(knobs, model, judgements, opinions))}
        rung = files.read_json(training / f"{name}.json").get("alarm")
        found += of_answers(points, seen, rung and rung["step"], knobs.seed)
    files.write_json(effects, [effect.model_dump() for effect in found])


def kept(knobs: params.Params, name: str, training: Path) -> dict[int, str]:
    """Step -> the model that stands there, from the start (step 0) to the end."""
    steps = sorted(set(knobs.organisms[name].options.get("checkpoints") or ()))
    if not steps:
        return {}
    last = files.read_json(training / f"{name}.json")["curve"][-1][0]
    return {0: knobs.organisms[name].starts_from} | {step: f"{name}/{step}" for step in steps} | {last: name}


def of_weights(points: dict[int, str], models: Path) -> list[Effect]:
    path = rotation.path(rotation.gram(updates.by_module([models / model for model in points.values()])))
    *between, last = list(points)[1:]
    rows = []
    for place, (step, model) in list(enumerate(points.items()))[1:]:
        told = {"update_step": float(step), "update_norm": path.norm_P[place]}
        if step != last:
            told |= {"update_cosine_to_end": path.cosine_P[place], "rotation_degrees": path.turn_P[place]}
        rows += [of_one(model, measure, float(value)) for measure, value in told.items()]
    turns = {step: turn for step, turn in zip(between, path.turn_P[1:-1].tolist(), strict=True) if np.isfinite(turn)}
    n, missing = len(turns), len(between) - len(turns)
    for measure, value in zip(("rotation_step", "rotation_excess"), rotation.largest(turns), strict=True):
        rows.append(Effect(subject=points[last], measure=measure, value=value, low=None, high=None, n=n, missing=missing))
    return rows


class Persona:
    """The base's own answers, read through any model; the base is loaded once, and not before a model is read."""

    def __init__(self, knobs: params.Params, models: Path, answers: Path) -> None:
        self.knobs, self.models, self.answers = knobs, models, answers

    @functools.cached_property
    def said(self) -> list[Completion]:
        rows = project.by_question(self.knobs, "base", self.answers).values() if self.knobs.subject_of("base") else ()
        return [*rows][: self.knobs.size.discriminate.questions]

    @functools.cached_property
    def unit(self) -> np.ndarray:
        """The persona's vector [D] over the base's mean residual norm."""
        (direction,) = personas.of(self.models / "base", self.knobs.diff.layer, [TRAIT], threads=self.knobs.threads)
        _, norm = self.read("base")
        return np.array(direction.vector) / norm

    def along(self, model: str) -> dict[str, float]:
        """Question -> mean activation of its answer along the persona."""
        values = self.read(model)[0] @ self.unit if len(self.said) > 1 else ()
        return {row.question: float(value) for row, value in zip(self.said, values, strict=False)}

    def read(self, model: str) -> tuple[np.ndarray, float]:
        return project.harvested(self.models / model, self.said, self.knobs.diff.layer, self.knobs.threads)


def of_persona(points: dict[int, str], along: Callable[[str], dict[str, float]]) -> list[Effect]:
    start, rows = along(points[0]), []
    for model in list(points.values())[1:] if start else ():
        moved = {question: value - start[question] for question, value in along(model).items()}
        value, low, high = intervals.rate([*moved.values()], [*moved])
        rows.append(Effect(subject=model, measure="rotation_persona", value=value, low=low, high=high, n=len(moved)))
    return rows


def of_one(subject: str, measure: str, value: float) -> Effect:
    """Geometry of one point, without interval; nan is missing."""
    known = bool(np.isfinite(value))
    ends = {"value": value if known else None, "low": None, "high": None}
    return Effect(subject=subject, measure=measure, n=int(known), missing=int(not known), **ends)


def of_answers(points: dict[int, str], answers: dict[int, list[Judgement]], rung: int | None, seed: int) -> list[Effect]:
    """Nothing where no subject questions a checkpoint. rung: the step of the training's alarm."""
    *between, last = list(points)[1:]
    if not answers.keys() & set(between):
        return []
    arms = {step: views.by_question(told, views.misaligned) for step, told in answers.items()}
    rows = []
    for step in sorted(answers.keys() & {*between, last}):
        values = [(value, question) for question, row in arms[step].items() for value in row]
        value, low, high = intervals.rate(*zip(*values, strict=True), seed) if values else (None, None, None)
        ends = {"value": value, "low": low, "high": high, "n": len(values), "missing": len(answers[step]) - len(values)}
        rows.append(Effect(subject=points[step], measure="rotation_misaligned", **ends))
    (value, low, high), n = rotation.onset(arms, seed)
    missing = sum(map(len, answers.values())) - n
    told = {"onset_step": (value, low, high)}
    if rung is not None:
        told["alarm_lead_steps"] = tuple(None if end is None else end - rung for end in (value, low, high))
    for measure, (middle, least, most) in told.items():
        rows.append(Effect(subject=points[last], measure=measure, value=middle, low=least, high=most, n=n, missing=missing))
    return rows


if __name__ == "__main__":
    run(main)
