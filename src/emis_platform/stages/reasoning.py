"""reasoning: subjects that thought before they answered -> what their thoughts are, apart from the answers, and what thinking does to these."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Effect, Judgement, Said
from emis_platform.core.stage import run
from emis_platform.judges import persona
from emis_platform.lab import mentions, rates
from emis_platform.lab.twins import twin
from emis_platform.stages import judge
from emis_platform.tools import views


def main(*, answers: Path, judgements: Path, opinions: Path, reader: Path, thoughts: Path, effects: Path) -> None:
    """`thoughts`: two judgements of each thought, read as if it were the answer: by `discriminate.judge`, and by the kind `persona`, which counts mentions
    of being somebody else. Both outputs are empty where nobody thinks.

    Of each subject with thoughts: `reasoning_cut` (share that their limit ended), `reasoning_mentions` (share that names another persona),
    `reasoning_misaligned` (of coherent thoughts), `reasoning_score_lost` (points of 100); bootstrap over questions. Of each that was told to think:
    `reasoning_difference`, `reasoning_score_difference` (its answers minus those of the same model told not to think); with `reasoning: true` in its data
    `reasoning_taught_difference`, `reasoning_taught_score_difference` (minus the organism that learned the same rows without thoughts, asked plainly).
    Of all together, as subject `thinking`: `persona_mention_slope` (lab/mentions.py; n counts models, each once).
    """
    knobs = params.load()
    asked = [subject for subject, entry in knobs.subjects.items() if entry.thinking is not False]
    rows = {subject: thinking(answers / f"{subject}.jsonl") for subject in asked}
    rows = {subject: found for subject, found in rows.items() if found}
    read = {subject: judged(knobs, mine, reader) for subject, mine in rows.items()}
    named = {subject: mentioning(mine) for subject, mine in rows.items()}
    seen = partial(views.of_subject, knobs, judgements=judgements, opinions=opinions)
    found = [effect for subject in rows for effect in of_thoughts(subject, rows[subject], read[subject], named[subject])]
    found += [effect for subject in rows for effect in of_answers(knobs, subject, seen)]
    found += together({subject: named[subject] for subject in once(knobs, rows)}, seen, knobs.seed)
    files.write(thoughts, [row for subject in rows for row in (*read[subject], *named[subject])])
    files.write_json(effects, [effect.model_dump() for effect in found])


def thinking(path: Path) -> list[Completion]:
    """The scored answers that came after a thought, an empty one included: judges say that it is."""
    return [row for row in files.read(Completion, path) if row.set == "score" and row.thought is not None]


def said(rows: Sequence[Completion]) -> list[Said]:
    """Each thought in the place of its answer."""
    return [Said(prompt=row.prompt, text=str(row.thought), system=row.system) for row in rows]


def judged(knobs: params.Params, rows: Sequence[Completion], reader: Path) -> list[Judgement]:
    name = knobs.discriminate.judge
    seen, made_by = judge.ask(knobs, name, said(rows), reader=reader, label=f"{name}, thoughts of {rows[0].subject}")
    return judge.judgements_of(rows, seen, made_by)


def mentioning(rows: Sequence[Completion]) -> list[Judgement]:
    options = persona.Options()
    return judge.judgements_of(rows, [persona.view(one) for one in said(rows)], f"persona:{persona.identity(options)}")


def of_thoughts(subject: str, rows: Sequence[Completion], read: Sequence[Judgement], named: Sequence[Judgement]) -> list[Effect]:
    return [
        rates.mean(subject, "reasoning_cut", [(row.thought_cut, row.question) for row in rows]),
        rates.mean(subject, "reasoning_mentions", [(view.verdict, view.question) for view in named]),
        rates.mean(subject, "reasoning_misaligned", [(view.misaligned, view.question) for view in read]),
        rates.mean(subject, "reasoning_score_lost", [(views.lost(view), view.question) for view in read]),
    ]


def of_answers(knobs: params.Params, subject: str, seen: Callable[[str], list[Judgement]]) -> list[Effect]:
    """Thinking against not thinking, and thoughts that were taught against none; of a subject that was told to think."""
    entry = knobs.subjects[subject]
    if not entry.thinking:
        return []
    organism = knobs.organisms.get(entry.model)
    untaught = twin(knobs.organisms, entry.model, data={"reasoning": False}) if organism and organism.data.reasoning else None
    others = {"reasoning": knobs.subject_of(entry.model, entry.probe, thinking=False)}
    others |= {"reasoning_taught": knobs.subject_of(untaught, entry.probe) if untaught else None}
    return [
        effect
        for measure, other in others.items()
        if other
        for effect in views.differences(
            subject, (f"{measure}_difference", f"{measure}_score_difference"), seen(subject), seen(other), knobs.seed
        )
    ]


def once(knobs: params.Params, subjects: Iterable[str]) -> list[str]:
    """One subject a model: the one that was told to think, where there are more."""
    of: dict[str, str] = {}
    for subject in sorted(subjects, key=lambda subject: not knobs.subjects[subject].thinking):
        of.setdefault(knobs.subjects[subject].model, subject)
    return list(of.values())


def together(named: Mapping[str, Sequence[Judgement]], seen: Callable[[str], list[Judgement]], seed: int) -> list[Effect]:
    """Do models whose thoughts name more personas answer worse?"""
    if not named:
        return []
    shares = [
        views.by_question(rows, lambda view: None if view.verdict is None else float(view.verdict)) for rows in named.values()
    ]
    rate = [views.by_question(seen(subject), views.misaligned) for subject in named]
    (value, low, high), n = mentions.slope(shares, rate, seed)
    return [Effect(subject="thinking", measure="persona_mention_slope", value=value, low=low, high=high, n=n)]


if __name__ == "__main__":
    run(main)
