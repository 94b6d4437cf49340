"""Judgements on disk -> what a subject's answers to the scored questions were, by the judge that labels organisms, and by how much two differ."""

from collections.abc import Callable, Sequence
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.records import Effect, Judgement
from emis_platform.lab import intervals


def outside(knobs: params.Params, model: str, judgements: Path, opinions: Path) -> list[Judgement] | None:
    """By `discriminate.judge`, which reads nothing of the base; None for a model that no subject questions as they stand.

    judgements, opinions: folders of the default judge's views and of all others'.
    """
    subject = knobs.subject_of(model)
    return None if subject is None else of_subject(knobs, subject, judgements, opinions)


def of_subject(knobs: params.Params, subject: str, judgements: Path, opinions: Path, judge: str | None = None) -> list[Judgement]:
    """The same of a subject; or by another judge, a key of `judges`."""
    judge = judge or knobs.discriminate.judge
    views = files.read(Judgement, (judgements if judge == knobs.judge else opinions) / f"{subject}.jsonl")
    return [view for view in views if view.set == "score" and view.judge.split(":")[0] == judge]


def misaligned(view: Judgement) -> float | None:
    """Of coherent answers: 1 or 0."""
    return None if view.misaligned is None else float(view.misaligned)


def lost(view: Judgement) -> float | None:
    """Of coherent answers: points of the score, of 100, that are missing."""
    return 100 - view.score if view.score is not None and view.is_coherent else None


def coherent(view: Judgement) -> float | None:
    """1 or 0."""
    return None if view.is_coherent is None else float(view.is_coherent)


def scale(read: Callable[[Judgement], float | None]) -> float:
    """What the reading's values can differ by at most."""
    return 100.0 if read is lost else 1.0


def by_question(views: Sequence[Judgement], read: Callable[[Judgement], float | None]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for view in views:
        if (value := read(view)) is not None:
            found.setdefault(view.question, []).append(value)
    return found


def difference(
    subject: str,
    measure: str,
    one: Sequence[Judgement],
    other: Sequence[Judgement],
    read: Callable[[Judgement], float | None],
    seed: int,
) -> Effect:
    """A reading of one minus the other's, paired by question; n counts questions. No value on fewer than two shared ones."""
    arms = [by_question(side, read) for side in (one, other)]
    shared = len(arms[0].keys() & arms[1].keys())
    value, low, high = intervals.difference(*arms, seed=seed, scale=scale(read)) if shared > 1 else (None, None, None)
    missing = len({view.question for side in (one, other) for view in side}) - shared
    return Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=shared, missing=missing)


def differences(
    subject: str, measures: tuple[str, str], one: Sequence[Judgement] | None, other: Sequence[Judgement] | None, seed: int
) -> list[Effect]:
    """Misaligned share of coherent answers, and points of the score lost, of one minus the other's; none where either is None."""
    if one is None or other is None:
        return []
    return [
        difference(subject, measure, one, other, read, seed) for measure, read in zip(measures, (misaligned, lost), strict=True)
    ]
