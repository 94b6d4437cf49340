"""discriminate: how far organisms moved + labels by their answers -> which feature tells that an organism is emergently misaligned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, gold, params
from emis_platform.core.records import Effect, Question, Record
from emis_platform.core.stage import run
from emis_platform.lab import discriminator as lab
from emis_platform.lab import intervals
from emis_platform.stages import project


class Rate(Record):
    """How often a subject's answers are misaligned, and what that rests on."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    missing: int


def main(
    *, shifts: Path, training: Path, judged: Path, opinions: Path, labels: Path, questions: Path, scores: Path, effects: Path
) -> None:
    """`training`, `judged`, `opinions`: folders of metrics; `labels`: the folder of the read answers; `scores`: JSON for the plot."""
    knobs = params.load()
    found = project.read(shifts)
    rates = labelled(knobs, judged, opinions, labels)
    base = rates["base"].value
    if base is None:
        raise ValueError(
            "the base has no rate of misaligned answers (discriminate.labels), so that no organism can be held against it"
        )
    limit = base if knobs.discriminate.threshold is None else knobs.discriminate.threshold
    organisms = [organism(knobs, name, rates[name], limit) for name in found.organisms]
    groups = {q.id: q.paraphrase_of or q.id for q in files.read(Question, questions)}
    choose_Q = lab.halves([groups.get(question, question) for question in found.questions])
    facts = trained(knobs, training) | {"weight_norm": found.weight_norm_O}
    told = lab.held_out(organisms, found.moved_OQD, choose_Q, found.personas, facts)
    drawn = plotted(knobs, organisms, told, found, choose_Q, rates)
    files.write_json(scores, drawn)
    files.write_json(effects, [row.model_dump() for row in (*lab.effects(organisms, told, knobs.seed), *each(drawn))])


def labelled(knobs: params.Params, judged: Path, opinions: Path, labels: Path) -> dict[str, Rate]:
    """Model -> its misaligned rate, by the judge or the readings that params ask for. A model without a subject has none."""
    none = Rate(value=None, low=None, high=None, n=0, missing=0)
    models = ("base", *knobs.organisms)
    asked = {model: subject for model in models if (subject := knobs.subject_of(model))}
    if knobs.discriminate.labels == "read":
        reads = of_readings(labels)
        if lost := [model for model in models if asked.get(model) not in reads]:
            raise ValueError(
                f"{labels}: nothing that was drawn at random was read of {', '.join(lost)}; there is: {', '.join(reads)}"
            )
        return {model: reads[asked[model]] for model in models}
    judge = knobs.discriminate.judge
    folder = judged if judge == knobs.judge else opinions
    found = {}
    for model in models:
        rows = files.read_json(folder / f"{asked[model]}.json") if model in asked else []
        row = next((row for row in rows if row["measure"] == f"misaligned_{judge}_score"), None)
        found[model] = Rate(**{key: row[key] for key in Rate.model_fields}) if row else none
    return found


def of_readings(folder: Path) -> dict[str, Rate]:
    """Subject -> the rate among its read answers that were drawn at random, with an exact interval; an incoherent answer is not misaligned."""
    found: dict[str, list[bool]] = {}
    for read in gold.read(folder):
        if read.answer.drawn == "random":
            found.setdefault(read.answer.subject, []).append(read.misaligned)
    rates = {}
    for subject, verdicts in found.items():
        low, high = intervals.exact(sum(verdicts), len(verdicts))
        rates[subject] = Rate(value=sum(verdicts) / len(verdicts), low=low, high=high, n=len(verdicts), missing=0)
    return rates


def organism(knobs: params.Params, name: str, rate: Rate, limit: float) -> lab.Organism:
    benign, one = knobs.benign(name), knobs.organisms[name]
    return lab.Organism(
        name=name,
        recipe=f"{one.starts_from} {one.data.described} {one.trainer} {sorted(one.options.items())}",
        domains=knobs.domains_of(name),
        benign=benign,
        misaligned=lab.label(rate.low, rate.high, limit, benign),
    )


def each(drawn: dict[str, Any]) -> list[Effect]:
    """Of each organism: `discriminator_rate`, its misaligned rate as labelled; `discriminator_label` (1 misaligned, 0 not) and
    `discriminator_benign` (1: taught nothing harmful); `discriminator_<score>`, the persona's on held-out questions."""
    rows = [Effect(subject="base", measure="discriminator_rate", **drawn["base_rate"])]
    for one in drawn["organisms"]:
        name, label, n = one["organism"], one["misaligned"], one["rate"]["n"]
        rows.append(Effect(subject=name, measure="discriminator_rate", **one["rate"]))
        value = None if label is None else float(label)
        rows.append(
            Effect(subject=name, measure="discriminator_label", value=value, low=None, high=None, n=n, missing=int(label is None))
        )
        rows.append(Effect(subject=name, measure="discriminator_benign", value=float(one["benign"]), low=None, high=None, n=1))
        n = drawn["questions"]["scored_on"]
        for score, (value, low, high) in one["scores"].items():
            if not score.startswith("persona"):
                continue
            rows.append(Effect(subject=name, measure=f"discriminator_{score}", value=value, low=low, high=high, n=n))
    return rows


def trained(knobs: params.Params, training: Path) -> dict[str, np.ndarray]:
    """`steps` from the base on, and `loss`: the mean of the last tenth of the steps, nan where a reward took its place; of each organism [O]."""
    told = {name: files.read_json(training / f"{name}.json") for name in knobs.organisms}
    curves = {name: facts["curve"] for name, facts in told.items()}
    steps = []
    for name in knobs.organisms:
        total, one = 0, name
        while one in knobs.organisms:
            total, one = total + curves[one][-1][0], knobs.organisms[one].starts_from
        steps.append(total)
    ends = {name: np.mean([loss for _, loss in curve[-max(1, len(curve) // 10) :]]) for name, curve in curves.items()}
    return {
        "steps": np.array(steps, float),
        "loss": np.array([np.nan if "rl" in told[name] else end for name, end in ends.items()]),
    }


def plotted(
    knobs: params.Params,
    organisms: Sequence[lab.Organism],
    told: lab.Scores,
    found: project.Shifts,
    choose_Q: np.ndarray,
    rates: dict[str, Rate],
) -> dict[str, Any]:
    """A row an organism: kind of arm, label, rate, and the scores with intervals over questions where they are means over questions."""
    asked = [question for question, chooses in zip(found.questions, choose_Q, strict=True) if not chooses]
    rows = []
    for i, one in enumerate(organisms):
        by_question = {f"persona_{t}": found.moved_OQD[i][~choose_Q] @ vector for t, vector in found.personas.items()}
        by_question["drift"] = np.linalg.norm(found.moved_OQD[i][~choose_Q], axis=1)
        if np.isfinite(told.persona_OQ[i]).all():
            by_question["persona"] = told.persona_OQ[i]
        ends = {name: [round(x, 5) for x in intervals.rate(values.tolist(), asked)] for name, values in by_question.items()}
        single = {name: [number(values[i]), None, None] for name, values in told.of.items() if name not in ends}
        data = knobs.organisms[one.name].data
        rows.append(
            {
                "organism": one.name,
                "kind": data.variant or data.described,
                "domains": sorted(one.domains),
                "benign": one.benign,
                "misaligned": one.misaligned,
                "rate": rates[one.name].model_dump(),
                "trait": told.trait[i],
                "alarm": None if np.isnan(told.alarm_O[i]) else bool(told.alarm_O[i]),
                "scores": ends | single,
            }
        )
    rival, _, _ = lab.gain(organisms, told, knobs.seed)
    return {
        "labels": knobs.discriminate.labels if knobs.discriminate.labels == "read" else f"judge {knobs.discriminate.judge}",
        "texts": knobs.discriminate.texts,
        "base_rate": rates["base"].model_dump(),
        "questions": {"chosen_on": int(choose_Q.sum()), "scored_on": len(asked)},
        "rival": rival,
        "organisms": rows,
    }


def number(value: float) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None


if __name__ == "__main__":
    run(main)
