"""label: a run's answers + a person -> readings in data/gold. Not a DVC stage: nobody can be asked again by a machine."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from emis_platform.core import files, gold, params
from emis_platform.core.records import Completion, GoldAnswer, Judgement
from emis_platform.lab import picking
from emis_platform.lab.picking import Candidate
from emis_platform.tools.labelling import desk

GUIDELINE = Path("docs/labelling.md")


def first(
    source: Path, folder: Path, *, reader: str, guideline: str, name: str, subjects: Sequence[str], drawn: int, most: int | None
) -> desk.Pile:
    """The pile of a first reader: answers of one set that nobody has read. drawn: random ones a subject (of `score` only).

    Raises ValueError for no answers, and for a set or subject that is not among them.
    """
    pool = candidates(source, name, subjects)
    read = {row.answer.key: row.answer for row in already(folder) if any(label.reading == 1 for label in row.labels)}
    here = {candidate.answer.key for candidate in pool}
    for subject in dict.fromkeys(candidate.answer.subject for candidate in pool) if name == "score" else ():
        lost = sum(row.drawn == "random" and row.subject == subject and row.key not in here for row in read.values())
        if lost:
            warn(f"{lost} random answers of {subject} were read of another run: its rate is not corrected by a random part")
    queue = picking.pick(pool, read, drawn=drawn, most=most, seed=params.load().seed)
    return desk.pile(queue, list(read), folder, 1, reader, guideline)


def second(folder: Path, *, reader: str, guideline: str, subjects: Sequence[str], most: int | None) -> desk.Pile:
    """The pile of a second reader: every answer that was read once, in another order."""
    once = [row for row in already(folder) if {label.reading for label in row.labels} == {1}]
    if subjects:
        chosen(subjects, "--subject", [row.answer.subject for row in already(folder)])
        once = [row for row in once if row.answer.subject in subjects]
    if again := sum(row.labels[0].reader == reader for row in once):
        warn(f"{reader} is also the first reader of {again} of these: that measures one reader twice, not two readers")
    queue = picking.shuffled([row.answer for row in once], f"{params.load().seed} second {len(once)}")
    return desk.pile(queue[:most], [], folder, 2, reader, guideline)


def already(folder: Path) -> list[gold.Read]:
    return gold.read(folder) if (folder / "labels.jsonl").exists() else []


def candidates(source: Path, name: str, subjects: Sequence[str]) -> list[Candidate]:
    """Answers of one set with the judges' views of them; of a text that was said twice, the first."""
    said = rows(Completion, source)
    if not said:
        raise ValueError(f"no answers in {source}: run `make repro`, or name others with --from")
    chosen([name], "--set", [row.set for row in said])
    said = [row for row in said if row.set == name]
    chosen(subjects, "--subject", [row.subject for row in said])
    views: dict[tuple[str, str, int], list[Judgement]] = {}
    for kind in ("judgements", "opinions"):
        for view in (view for path in beside(source, kind) for view in rows(Judgement, path)):
            views.setdefault((view.subject, view.question, view.sample), []).append(view)
    found: dict[str, Candidate] = {}
    for row in said:
        if subjects and row.subject not in subjects:
            continue
        key = files.text_key(row.prompt, row.text)
        answer = GoldAnswer(
            key=key, subject=row.subject, question=row.question, prompt=row.prompt, text=row.text, origin="subject",
            drawn="chosen", split="train" if row.set == "discover" else "test",
        )  # fmt: skip
        found.setdefault(
            key, Candidate(answer=answer, set=row.set, views=tuple(views.get((row.subject, row.question, row.sample), ())))
        )
    return list(found.values())


def beside(source: Path, kind: str) -> list[Path]:
    """Where the views of a folder's or a file's answers lie: `answers` in its own name, else in its folder's, is `kind`; nowhere without it."""
    if "answers" in source.name:
        return [source.with_name(source.name.replace("answers", kind))]
    folder = source.parent
    return [folder.with_name(folder.name.replace("answers", kind)) / source.name] if "answers" in folder.name else []


def rows(record: type, source: Path) -> list:
    """Of a file, or of a folder's files in order; none if it is not there."""
    paths = sorted(source.glob("*.jsonl")) if source.is_dir() else [source] if source.exists() else []
    return [row for path in paths for row in files.read(record, path)]


def chosen(names: Sequence[str], option: str, there: Sequence[str]) -> None:
    for name in names:
        params.one_of(option, name, sorted(set(there)))


def guide(version: str, path: Path = GUIDELINE) -> str:
    """The guideline's text without what follows on who read what. Raises ValueError if the file is another version."""
    text = files.text(path)
    found = re.match(r"# .*\(guideline ([^)]+)\)", text)
    if not found or found[1] != version:
        raise ValueError(f"--guideline: {path} is {found[1] if found else 'of no version'}, not {version}")
    return text.split("\n## ")[0]


def warn(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)
