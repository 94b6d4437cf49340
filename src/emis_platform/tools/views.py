"""Judgements on disk -> what a subject's answers to the scored questions were, by the judge that labels organisms."""

from collections.abc import Callable, Sequence
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.records import Judgement


def subject_of(knobs: params.Params, model: str) -> str | None:
    """The first subject that questions the model."""
    return next((name for name, entry in knobs.subjects.items() if entry.model == model), None)


def outside(knobs: params.Params, model: str, judgements: Path, opinions: Path) -> list[Judgement] | None:
    """By `discriminate.judge`, which reads nothing of the base; None for a model that no subject questions.

    judgements, opinions: folders of the default judge's views and of all others'.
    """
    subject = subject_of(knobs, model)
    return None if subject is None else of_subject(knobs, subject, judgements, opinions)


def of_subject(knobs: params.Params, subject: str, judgements: Path, opinions: Path) -> list[Judgement]:
    """The same of a subject."""
    judge = knobs.discriminate.judge
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


def by_question(views: Sequence[Judgement], read: Callable[[Judgement], float | None]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for view in views:
        if (value := read(view)) is not None:
            found.setdefault(view.question, []).append(value)
    return found
