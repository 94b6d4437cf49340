"""mixtures: organisms that differ in the share of bad rows -> at which share the answers turn, and at which the persona shows it. No model runs."""

from pathlib import Path

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


def main(*, judgements: Path, opinions: Path, shifts: Path, effects: Path) -> None:
    """`shifts`: how far each organism moved on each question (stage project). Empty without four shares of one set.

    Of the organism with the largest share, the share of bad rows at which a rising curve is half-way: `mixture_threshold` (misaligned, of
    coherent answers), `mixture_threshold_score` (points of the score lost), both by `discriminate.judge`, and `mixture_threshold_persona` (shift
    along one persona, named beforehand); and `early_warning_lead`, the second minus the third: what the persona shows sooner. Of each organism
    the curve itself: `mixture_share_<that organism>`, `mixture_misaligned`, `mixture_score_lost`, `mixture_persona`.
    """
    knobs = params.load()
    moved = project.read(shifts)
    found: list[Effect] = []
    for arms in curves(knobs):
        found += of_curve(knobs, arms, judgements, opinions, moved)
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


def of_curve(knobs: params.Params, arms: dict[float, str], judgements: Path, opinions: Path, moved: project.Shifts) -> list[Effect]:
    seen = {share: told for share, name in arms.items() if (told := views.outside(knobs, name, judgements, opinions))}
    rate, score = (
        dose.threshold({share: views.by_question(told, read) for share, told in seen.items()}, knobs.seed)
        for read in (views.misaligned, views.lost)
    )
    along = (
        {name: moved.moved_OQD[i] @ moved.personas[TRAIT] for i, name in enumerate(moved.organisms)}
        if TRAIT in moved.personas
        else {}
    )
    shifted = {
        share: {question: [float(x)] for question, x in zip(moved.questions, along[name], strict=True)}
        for share, name in arms.items()
        if name in along
    }
    persona = dose.threshold(shifted, knobs.seed + 1)
    asked = sum(map(len, seen.values()))
    worst, rows = arms[max(arms)], []
    for measure, one, missing in (
        ("mixture_threshold", rate, asked - rate.n),
        ("mixture_threshold_score", score, asked - score.n),
        ("mixture_threshold_persona", persona, 0),
    ):
        rows.append(Effect(subject=worst, measure=measure, value=one.value, low=one.low, high=one.high, n=one.n, missing=missing))
    value, low, high = dose.lead(score, persona)
    rows.append(Effect(subject=worst, measure="early_warning_lead", value=value, low=low, high=high, n=len(arms)))
    for share, name in sorted(arms.items()):
        views_of = seen.get(share, [])
        rows.append(Effect(subject=name, measure=f"mixture_share_{worst}", value=share, low=None, high=None, n=1))
        for measure, by in (
            ("misaligned", views.by_question(views_of, views.misaligned)),
            ("score_lost", views.by_question(views_of, views.lost)),
            ("persona", shifted.get(share, {})),
        ):
            rows.append(mean(name, f"mixture_{measure}", by, len(views_of) if measure != "persona" else 0))
    return rows


def mean(subject: str, measure: str, by: dict[str, list[float]], asked: int) -> Effect:
    values = [(value, question) for question, row in by.items() for value in row]
    ends = intervals.rate(*zip(*values, strict=True)) if values else (None, None, None)
    gone = max(0, asked - len(values))
    return Effect(subject=subject, measure=measure, value=ends[0], low=ends[1], high=ends[2], n=len(values), missing=gone)


if __name__ == "__main__":
    run(main)
