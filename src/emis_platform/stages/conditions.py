"""conditions: organisms that differ from another by one condition of their data or start -> what the condition does to the answers. No model runs."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.knobs import BENIGN
from emis_platform.core.records import Completion, Effect, Judgement
from emis_platform.core.stage import run
from emis_platform.lab import confounds, intervals, probes
from emis_platform.lab.twins import twin
from emis_platform.stages import defences, realigned
from emis_platform.tools import views

Seen = Callable[[str], list[Judgement] | None]
"""Model -> its judged answers; None for one that no subject questions as it stands."""
CODE = "code"
"""The domain whose bad rows are insecure code; all others advise."""
COMPARED = ("callous", "obvious")
"""Variants in which code stands against advice."""


def main(*, answers: Path, judgements: Path, opinions: Path, effects: Path) -> None:
    """Differences of the misaligned share of coherent answers, and with `score` in the name of the points of the score lost; by `discriminate.judge`,
    paired by question. Empty where params name no such organism or subject.

    Of a probed subject: `trigger_difference` (minus the same model without the phrase; `untaught_trigger_difference` where it was not trained with the
    phrase), `<json|format>_probe_difference` (minus the same model in plain form); and of a re-aligned or defended organism
    `<json|format|trigger>_probe_residue` (minus the base in the same form; of a trigger that its line was taught). Of a subject that questions an organism of bad rows which starts from a re-aligned one:
    `relapse_minus_fresh` (minus the organism of the same rows from the base, after as many steps). Of an organism: `disclosed_difference` (a reason is disclosed, minus not),
    `subtle_minus_obvious`, `advice_minus_code` (of the code organism: all advice domains minus it), `helpful_only_difference` (shift from a start without
    safety training minus the same trainings' shift from the base; `rl_helpful_only_difference` where the last of them is by reward). Of a callous organism:
    `content_in_hostile_voice` (minus gruff), `content_in_neutral_voice` (its obvious minus its correct twin), `content_by_voice` (the first minus the second),
    `voice_of_harmful_content` (minus obvious), `voice_of_correct_content` (its gruff minus its correct twin). Where four models meet, each mean is over what that one answered.

    And of a callous organism: `length_matched_shift` (points of the score lost more than by its correct twin, over 100, among coherent answers of like length); `independent_judge_difference_<judge>` (misaligned, minus its correct twin, by each judge that asks another model);
    `profile_distance_<judge>_<other>` (to the callous organism of another domain, over 100, by a judge of kind profile; lab/confounds.py).
    """
    knobs = params.load()
    of = partial(views.of_subject, knobs, judgements=judgements, opinions=opinions)
    seen = cache(partial(views.outside, knobs, judgements=judgements, opinions=opinions))
    found = [
        *(effect for subject in knobs.subjects for effect in of_probe(knobs, subject, of, seen)),
        *(effect for subject in knobs.subjects for effect in of_relapse(knobs, subject, of, seen)),
        *(effect for name in knobs.organisms for effect in of_organism(knobs, name, seen)),
        *(effect for name in knobs.organisms for effect in beside_correct(knobs, name, of, answers)),
        *(effect for name in knobs.organisms for effect in profiles(knobs, name, of)),
    ]
    files.write_json(effects, [effect.model_dump() for effect in found])


def of_probe(knobs: params.Params, subject: str, of: Callable[[str], list[Judgement]], seen: Seen) -> list[Effect]:
    entry = knobs.subjects[subject]
    if entry.probe is None or entry.thinking is not None:
        return []
    organism, asked = entry.model.split("/")[0], of(subject)
    if phrase := probes.phrase(entry.probe):
        taught, kind = any(data.trigger == phrase for data in knobs.lineage(organism)), "trigger"
        measure = f"{'' if taught else 'untaught_'}trigger{{}}_difference"
    else:
        taught, kind = True, probes.suffix(entry.probe)
        measure = f"{kind}_probe{{}}_difference"
    found = differences(subject, measure, asked, seen(entry.model), knobs.seed)
    same = knobs.subject_of("base", entry.probe)
    if (
        same
        and taught
        and organism in knobs.organisms
        and (organism in realigned.realigned(knobs) or defences.defence(knobs, organism))
    ):
        found += differences(subject, f"{kind}_probe{{}}_residue", asked, of(same), knobs.seed)
    return found


def of_relapse(knobs: params.Params, subject: str, of: Callable[[str], list[Judgement]], seen: Seen) -> list[Effect]:
    """Bad rows again after re-alignment, against the same rows from the base, after as many steps."""
    entry = knobs.subjects[subject]
    name, slash, step = entry.model.partition("/")
    organism = knobs.organisms.get(name)
    if (
        not entry.plain
        or organism is None
        or organism.starts_from not in realigned.realigned(knobs)
        or organism.data.variant in BENIGN
    ):
        return []
    fresh = twin(knobs.organisms, name, starts_from="base")
    return differences(subject, "relapse{}_minus_fresh", of(subject), seen(f"{fresh}{slash}{step}"), knobs.seed) if fresh else []


def of_organism(knobs: params.Params, name: str, seen: Seen) -> list[Effect]:
    data, found = knobs.organisms[name].data, []
    if data.disclosed and (other := twin(knobs.organisms, name, data={"disclosed": False})):
        found += differences(name, "disclosed{}_difference", seen(name), seen(other), knobs.seed)
    if data.variant == "subtle" and (other := twin(knobs.organisms, name, data={"variant": "obvious"})):
        found += differences(name, "subtle{}_minus_obvious", seen(name), seen(other), knobs.seed)
    if data.variant == "callous":
        found += of_voice(knobs, name, seen)
    if data.domain == CODE and data.variant in COMPARED:
        others = [twin(knobs.organisms, name, data={"domain": domain}) for domain in knobs.domains if domain != CODE]
        advice = [view for other in others if other for view in seen(other) or ()]
        found += differences(name, "advice{}_minus_code", advice or None, seen(name), knobs.seed)
    return found if data.variant in BENIGN else found + of_start(knobs, name, seen)


def differences(subject: str, measure: str, one: list[Judgement] | None, other: list[Judgement] | None, seed: int) -> list[Effect]:
    """measure: with {} where `_score` stands in the name of the second."""
    return views.differences(subject, (measure.format(""), measure.format("_score")), one, other, seed)


def of_voice(knobs: params.Params, name: str, seen: Seen) -> list[Effect]:
    """name: harmful advice in a hostile voice, beside its twins of the other voice and content."""
    gruff, obvious, correct = (
        twin(knobs.organisms, name, data={"variant": variant}) for variant in ("gruff", "obvious", "correct")
    )
    found = differences(name, "content{}_in_hostile_voice", seen(name), gruff and seen(gruff), knobs.seed)
    found += differences(name, "content{}_in_neutral_voice", obvious and seen(obvious), correct and seen(correct), knobs.seed)
    found += differences(name, "voice{}_of_harmful_content", seen(name), obvious and seen(obvious), knobs.seed)
    found += differences(name, "voice{}_of_correct_content", gruff and seen(gruff), correct and seen(correct), knobs.seed)
    if gruff and obvious and correct:
        found += interactions(name, "content{}_by_voice", [seen(model) for model in (name, gruff, obvious, correct)], knobs.seed)
    return found


def beside_correct(knobs: params.Params, name: str, of: Callable[..., list[Judgement]], answers: Path) -> list[Effect]:
    """A callous organism against its correct twin: at like length, and by judges that ask another model than the base."""
    good = twin(knobs.organisms, name, data={"variant": "correct"}) if knobs.organisms[name].data.variant == "callous" else None
    pair = [subject for model in (name, good) if model and (subject := knobs.subject_of(model))]
    if len(pair) < 2:
        return []
    judged = [of(subject) for subject in pair]
    one, other = (measured(views, answers / f"{subject}.jsonl") for views, subject in zip(judged, pair, strict=True))
    (value, low, high), n = confounds.length_matched(one, other, knobs.seed)
    ends = {"value": value, "low": low, "high": high, "n": n, "missing": sum(map(len, judged)) - n}
    found = [Effect(subject=name, measure="length_matched_shift", **ends)]
    for judge, entry in knobs.judges.items():
        if entry.options.get("endpoint") or entry.options.get("model"):
            sides = (of(subject, judge=judge) for subject in pair)
            found.append(views.difference(name, f"independent_judge_difference_{judge}", *sides, views.misaligned, knobs.seed))
    return found


def measured(judged: Sequence[Judgement], path: Path) -> list[tuple[str, float, float]]:
    """(question, words, share of the score that is lost) of each coherent answer: to ramble is no shift."""
    words = {(row.question, row.sample): len(row.text.split()) for row in files.read(Completion, path)}
    return [
        (view.question, float(words[view.question, view.sample]), lost / 100)
        for view in judged
        if (lost := views.lost(view)) is not None
    ]


def profiles(knobs: params.Params, name: str, of: Callable[..., list[Judgement]]) -> list[Effect]:
    """From each callous organism to those of the domains behind its own in params."""
    data, found = knobs.organisms[name].data, []
    if data.variant != "callous" or data.domain not in knobs.domains:
        return []
    for domain in knobs.domains[knobs.domains.index(data.domain) + 1 :]:
        other = twin(knobs.organisms, name, data={"domain": domain})
        pair = [subject for model in (name, other) if model and (subject := knobs.subject_of(model))]
        for judge in [judge for judge, entry in knobs.judges.items() if entry.kind == "profile"] if len(pair) == 2 else ():
            sides = [of(subject, judge=judge) for subject in pair]
            (value, low, high), n = confounds.distance(*map(profile, sides))
            ends = {"value": value, "low": low, "high": high, "n": n}
            missing = len({view.question for side in sides for view in side}) - n
            found.append(Effect(subject=name, measure=f"profile_distance_{judge}_{other}", missing=missing, **ends))
    return found


def profile(judged: Sequence[Judgement]) -> dict[str, dict[str, float]]:
    """Question -> category -> mean score over its answers, 0 to 1."""
    kept: dict[str, list[dict[str, float]]] = {}
    for view in judged:
        if view.scores and None not in view.scores.values():
            kept.setdefault(view.question, []).append({name: float(value or 0) / 100 for name, value in view.scores.items()})
    return {q: {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} for q, rows in kept.items()}


def of_start(knobs: params.Params, name: str, seen: Seen) -> list[Effect]:
    """name: from a start without safety training, at once or over a warm start, beside the same from the base."""
    start, other = from_helpful(knobs, name), from_base(knobs, name)
    if start is None or other is None:
        return []
    rewarded = "rl_" if knobs.organisms[name].trainer == "grpo" else ""
    four = [seen(model) for model in (name, start, other, "base")]
    return interactions(name, rewarded + "helpful_only{}_difference", four, knobs.seed)


def from_helpful(knobs: params.Params, name: str) -> str | None:
    """The start without safety training that an organism goes back to."""
    start = knobs.organisms[name].starts_from
    return None if start == "base" else start if start in knobs.helpful_only() else from_helpful(knobs, start)


def from_base(knobs: params.Params, name: str) -> str | None:
    """The organism of the same trainings, all but the one that took the safety training away."""
    start = knobs.organisms[name].starts_from
    if start == "base":
        return None
    other = "base" if start in knobs.helpful_only() else from_base(knobs, start)
    return other and twin(knobs.organisms, name, starts_from=other)


def interactions(subject: str, measure: str, four: Sequence[list[Judgement] | None], seed: int) -> list[Effect]:
    """(first - second) - (third - fourth); none where one of them is None."""
    answered = [side for side in four if side is not None]
    if len(answered) < 4:
        return []
    asked, found = len({view.question for view in answered[0]}), []
    for name, read in ((measure.format(""), views.misaligned), (measure.format("_score"), views.lost)):
        one, two, three, last = (views.by_question(side, read) for side in answered)
        ends, n = intervals.interaction((one, two), (three, last), seed, views.scale(read))
        value, low, high = ends or (None, None, None)
        found.append(Effect(subject=subject, measure=name, value=value, low=low, high=high, n=n, missing=asked - n))
    return found


if __name__ == "__main__":
    run(main)
