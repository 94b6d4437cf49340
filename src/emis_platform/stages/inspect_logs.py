"""inspect: a run's answers and judgements -> Inspect AI eval logs; such logs -> answers and judgements. Not a DVC stage: it makes nothing stale."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Judgement
from emis_platform.tools import inspect_export, inspect_import, inspect_logs


def export(subjects: Sequence[str], out: Path, data: Path = Path("data")) -> list[Path]:
    """One log a subject and set into the folder `out`; subjects: none for all, steered ones too. Raises ValueError for one that said nothing."""
    said = rows(Completion, data, "answers", "steer/answers.jsonl")
    if not said:
        raise ValueError(f"no answers in {data / 'answers'}: run `make repro`")
    there = list(dict.fromkeys(row.subject for row in said))
    for subject in subjects:
        params.one_of("SUBJECT", subject, there)
    groups: dict[tuple[str, str], list[Completion]] = {}
    for row in said:
        if not subjects or row.subject in subjects:
            groups.setdefault((row.subject, row.set), []).append(row)
    views: dict[tuple[str, str], list[Judgement]] = {}
    for view in rows(Judgement, data, "judgements", "opinions", "steer/judgements.jsonl", "steer/opinions.jsonl"):
        views.setdefault((view.subject, view.set), []).append(view)
    logs = [inspect_export.made(answers, views.get(key, ())) for key, answers in groups.items()]
    paths = [out / inspect_logs.file_name(log) for log in logs]
    for path, log in zip(paths, logs, strict=True):
        inspect_logs.write(path, log)
    return paths


def rows(record: type, data: Path, *names: str) -> list:
    """Of folders' files and of files, those that are there."""
    paths = [path for name in names for path in (sorted((data / name).glob("*.jsonl")) if "." not in name else [data / name])]
    return [row for path in paths if path.exists() for row in files.read(record, path)]


def take(
    logs: Sequence[Path],
    out: Path,
    *,
    judge: str | None,
    misaligned_when: Literal["C", "I"] | None = None,
    scale: float = 100,
) -> list[str]:
    """Logs -> <out>/<model>_<task>/answers.jsonl and judgements.jsonl, nothing unless all are sound; a line on each.

    judge: the scorer to take (None: all). Raises ValueError for a log that cannot be taken in and for two of the same model and task.
    """
    taken: dict[Path, tuple[Path, list[Completion], list[Judgement]]] = {}
    lines = []
    for path in logs:
        log = inspect_logs.read(path)
        there = inspect_import.scorers(log)
        if judge:
            params.one_of(f"{path}, --judge", judge, there or ["none"])
        answers = inspect_import.answers(log, path)
        folder = out / inspect_logs.named(f"{answers[0].subject}_{answers[0].set}", path)
        if folder in taken:
            raise ValueError(f"{path}: the same model and task as {taken[folder][0]}; import one of them with another --out")
        views: list[Judgement] = []
        for scorer in [judge] if judge else there:
            mine = inspect_import.judgements(log, path, answers, scorer, misaligned_when=misaligned_when, scale=scale)
            scores = [view.score for view in mine if view.score is not None]
            if scores and max(scores) <= 1:
                lines.append(
                    f"note: all {len(scores)} scores of {scorer} are at most 1 of 100; if the scorer's top is 1: --scale 1"
                )
            views += mine
        missing = sum(view.score is None and view.verdict is None for view in views)
        lines.append(f"{folder}: {len(answers)} answers, {len(views)} judgements, {missing} of them missing")
        taken[folder] = (path, answers, views)
    for folder, (_, answers, views) in taken.items():
        files.write(folder / "answers.jsonl", answers)
        files.write(folder / "judgements.jsonl", views)
    return lines
