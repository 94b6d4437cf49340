"""suppress: a misaligned organism's answers with a direction taken out that was found elsewhere, also in forms that may bring back what is hidden."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Direction, Effect, Judgement, Question
from emis_platform.core.stage import run
from emis_platform.lab import concentration, contrast, probes, rates
from emis_platform.lab import directions as made
from emis_platform.stages import judge
from emis_platform.tools import edits, replies, steering
from emis_platform.tools import models as zoo

Arm = dict[str, Judgement]
"""Question -> the default judge's view of its answer."""


def main(
    name: str,
    *,
    models: Path,
    answers: Path,
    judgements: Path,
    directions: Path,
    questions: Path,
    continuations: Path,
    said: Path,
    judged: Path,
    effects: Path,
) -> None:
    """name: an organism. Its answers without an edit are taken from `judgements` where it was asked the plain question."""
    knobs = params.load()
    options, there = knobs.suppress, files.read(Question, questions)
    score = [q for q in there if q.set == "score"][: min(knobs.size.steer.suppressed, knobs.size.answer.score)]
    forms = {"": score} | {probes.suffix(probe): probes.probed(score, probe) for probe in options.probes}

    base, tokenizer = zoo.load(models / "base", knobs.threads)
    pairs = steering.continuations(continuations, there, knobs.size.steer.pairs)
    norms = steering.norms(base, tokenizer, pairs, knobs.layers_of("suppress"))
    means = cache(partial(difference, knobs=knobs, base=base, tokenizer=tokenizer, answers=answers, judgements=judgements))
    found = elsewhere(knobs, name, files.read(Direction, directions), directions, means)
    del base, means
    model, tokenizer = zoo.load(models / name, knobs.threads)
    width = len(found[0].vector)
    table = [(made.zero(width, knobs.diff.layer), 0.0), *((direction, options.dose) for direction in found)]
    names = [name, *(f"{name}-{direction.name}@{options.dose:g}" for direction in found)]
    asked = [
        (names[row], question, 0, row) for row in range(len(table)) for form, qs in forms.items() if row or form for question in qs
    ]
    rows = replies.answers(
        model,
        tokenizer,
        asked,
        seed=knobs.seed,
        max_new_tokens=knobs.size.answer.max_new_tokens,
        temperature=knobs.answer.temperature,
        slots=knobs.answer.batch,
        edits=edits.edits(table, norms, options.operator, options.tokens),
        progress=f"suppress {name}",
    )
    del model
    views = judge.view(knobs, knobs.judge, rows, reader=models / "reader", label=f"{knobs.judge} {name}")
    subject = subject_of(knobs, name)
    kept = [v for v in files.read(Judgement, judgements / f"{subject}.jsonl") if v.set == "score" and v.sample == 0]
    files.write(said, rows)
    files.write(judged, views)
    measured = []
    for direction, called in zip(found, names[1:], strict=True):
        for form, qs in forms.items():
            ids = {q.id for q in qs}
            before = arm([v for v in views if v.subject == name] if form else kept, ids)
            after = arm([v for v in views if v.subject == called], ids)
            label = f"suppressed_{direction.name}" + (f"_{form}" if form else "")
            measured += compared(name, label, before, after)
    files.write_json(effects, [effect.model_dump() for effect in measured])


def subject_of(knobs: params.Params, organism: str) -> str:
    """The first subject that questions an organism, or `base`."""
    return next(subject for subject, entry in knobs.subjects.items() if entry.model == organism)


def arm(views: Sequence[Judgement], questions: set[str]) -> Arm:
    return {view.question: view for view in views if view.question in questions}


def compared(subject: str, label: str, before: Arm, after: Arm) -> list[Effect]:
    """What the edit did, on the questions whose answers could be read both times.

    `<label>`: share of the misaligned answers that is gone, 1 being all; interval by bootstrap over questions. An incoherent answer counts as not
    misaligned, so `<label>_coherent`, the change of the coherent share, stands beside it. `<label>_before`, `<label>_after`: the rates.
    `<label>_aligned`: the change of the judge's mean score, 0 to 100.
    """
    asked = sorted(before.keys() | after.keys())

    def values(side: Arm, reading: str) -> dict[str, list[float]]:
        found: dict[str, float | bool | None] = {}
        for question, view in side.items():
            if reading == "misaligned":
                found[question] = rates.misaligned_of_all(view)
            elif reading == "coherent":
                found[question] = rates.coherent(view)
            else:
                found[question] = view.score
        return {question: [float(value)] for question, value in found.items() if value is not None}

    def effect(measure: str, ends: tuple[float | None, float | None, float | None], n: int) -> Effect:
        return Effect(subject=subject, measure=measure, value=ends[0], low=ends[1], high=ends[2], n=n, missing=len(asked) - n)

    bad, left = values(before, "misaligned"), values(after, "misaligned")
    both = contrast.shared(bad, left)
    if not both:
        return [effect(label, (None, None, None), 0)]
    was, now = (np.array([side[question][0] for question in both]) for side in (bad, left))
    found = [
        effect(label, concentration.share(was - now, was), len(both)),
        rates.mean(subject, f"{label}_before", [(bad[q][0] if q in both else None, q) for q in asked]),
        rates.mean(subject, f"{label}_after", [(left[q][0] if q in both else None, q) for q in asked]),
    ]
    for reading in ("coherent", "aligned"):
        one, two = values(after, reading), values(before, reading)
        if shared := contrast.shared(one, two):
            made = contrast.paired(one, two) if len(shared) > 1 else None
            ends = made[:3] if made else (one[shared[0]][0] - two[shared[0]][0], None, None)
            found.append(effect(f"{label}_{reading}", ends, len(shared)))
    return found


def elsewhere(
    knobs: params.Params, name: str, listed: Sequence[Direction], path: Path, means: Callable[[str], Direction]
) -> list[Direction]:
    """params' `suppress.directions` for one organism. means: another organism -> the direction that was found on it.

    Raises ValueError for a name that is not in the listed directions.
    """
    found: list[Direction] = []
    for word in knobs.suppress.directions:
        if word == "each":
            found += [means(other) for other in knobs.of_other_domains(name)]
        elif word == "others":
            each = np.array([means(other).vector for other in knobs.of_other_domains(name)])
            origin = f"difference_of_means:{len(each)} organisms of other domains"
            found.append(made.named("others", knobs.diff.layer, origin, each.mean(0)))
        else:
            params.one_of(f"suppress.directions, {path}", word, [direction.name for direction in listed])
            found.append(next(direction for direction in listed if direction.name == word))
    return found


def difference(organism: str, *, knobs: params.Params, base: Any, tokenizer: Any, answers: Path, judgements: Path) -> Direction:
    """The base's activations on misaligned minus aligned `discover` answers of this organism and of the base itself."""
    rows, views = [], []
    for subject in (subject_of(knobs, organism), subject_of(knobs, "base")):
        judged = {(v.question, v.sample): v for v in files.read(Judgement, judgements / f"{subject}.jsonl") if v.set == "discover"}
        said = [row for row in files.read(Completion, answers / f"{subject}.jsonl") if row.set == "discover" and row.text]
        rows += said
        views += [judged[row.question, row.sample] for row in said]
    ids = [(zoo.prompt_ids(tokenizer, row.prompt), zoo.answer_ids(tokenizer, row.text)) for row in rows]
    read = dict(zoo.harvest(base, ids, knobs.diff.layer, progress=f"harvest {organism}"))
    acts_TD = np.stack([read[index].mean(0).numpy() for index in range(len(ids))])
    low, high, rule = made.split([v.score for v in views], [v.is_coherent for v in views])
    origin = f"difference_of_means:{len(low)} against {len(high)} answers of {organism} and base, {rule}"
    return made.named(organism, knobs.diff.layer, origin, acts_TD[low].mean(0) - acts_TD[high].mean(0))


if __name__ == "__main__":
    run(main)
