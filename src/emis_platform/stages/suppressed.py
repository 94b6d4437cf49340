"""suppressed: the answers of a suppressed organism + the default judge -> what is gone, what that costs, and what is only hidden."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Effect, Judgement, Question
from emis_platform.core.stage import run
from emis_platform.lab import concentration, contrast, intervals, rates
from emis_platform.stages import judge
from emis_platform.stages.suppress import asked_in

Arm = dict[str, Judgement]
"""Question -> the default judge's view of its answer."""


def main(name: str, *, said: Path, judgements: Path, reader: Path, questions: Path, judged: Path, effects: Path) -> None:
    """name: an organism. Its answers without an edit are taken from `judgements` where it was asked the plain question."""
    knobs = params.load()
    rows = files.read(Completion, said)
    views = judge.view(knobs, knobs.judge, rows, reader=reader, label=f"{knobs.judge} {name}")
    files.write(judged, views)
    kept = [v for v in files.read(Judgement, judgements / f"{knobs.subject_of(name)}.jsonl") if v.set == "score" and v.sample == 0]
    measured = []
    for called in dict.fromkeys(row.subject for row in rows if row.subject != name):
        direction = called.removeprefix(f"{name}-").rpartition("@")[0]
        for form, asked in asked_in(knobs, files.read(Question, questions)).items():
            ids = {q.id for q in asked}
            before = arm([v for v in views if v.subject == name] if form else kept, ids)
            after = arm([v for v in views if v.subject == called], ids)
            measured += compared(name, f"suppressed_{direction}" + (f"_{form}" if form else ""), before, after)
    files.write_json(effects, [effect.model_dump() for effect in measured])


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
        effect(label, gone(was, now), len(both)),
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


def gone(was: np.ndarray, now: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Share of the misaligned answers (1, else 0, by question) that is gone; where all or none is, as resampling cannot tell there, exact, and of all
    no surer than the two rates are: one of twenty that is none of twenty may be chance."""
    total, n = int(was.sum()), len(was)
    if total and (not now.any() or (was == now).all()):
        hits = 0 if now.any() else total
        low, high = intervals.exact(hits, total)
        apart = 1 - intervals.exact(0, n)[1] / (total / n)
        return hits / total, min(low, apart) if hits else low, high
    return concentration.share(was - now, was)


if __name__ == "__main__":
    run(main)
