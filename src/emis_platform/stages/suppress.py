"""suppress: a misaligned organism's answers with a direction taken out that was found elsewhere, also in forms that may bring back what is hidden."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Direction, Judgement, Question
from emis_platform.core.stage import run
from emis_platform.lab import directions as made
from emis_platform.lab import probes
from emis_platform.tools import edits, replies, steering
from emis_platform.tools import models as zoo


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
) -> None:
    """name: an organism. `judgements` say which answers a direction is found on."""
    knobs = params.load()
    options, there = knobs.suppress, files.read(Question, questions)
    forms = asked_in(knobs, there)
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
    files.write(said, rows)


def asked_in(knobs: params.Params, there: Sequence[Question]) -> dict[str, list[Question]]:
    """Form -> the questions in it: "" as every subject was asked them, then each of params' probes."""
    score = [q for q in there if q.set == "score"][: min(knobs.size.steer.suppressed, knobs.size.answer.score)]
    return {"": score} | {probes.suffix(probe): probes.probed(score, probe) for probe in knobs.suppress.probes}


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
    for model in (organism, "base"):
        if (subject := knobs.subject_of(model)) is None:
            raise ValueError(f"subjects: none questions {model} in plain form, whose answers are to be read (suppress.directions)")
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
