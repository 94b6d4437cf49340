"""import: a built-in question set, or somebody's file -> a question set of this workspace. Public sets are read from the user's copy, never shipped."""

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emis_platform.core import files, shelf
from emis_platform.core.records import Question
from emis_platform.lab import probes

SETS = Path(__file__).resolve().parents[1] / "questions"
"""The built-in sets, one file each."""
TAKEN = ("open", "discover", "score")


def questions(source: str | Path, name: str | None = None, probe: str | None = None) -> str:
    """Write data/questions/<name>.jsonl; returns a line that says what was taken.

    source: a built-in set's name, or a file: Betley et al.'s YAML, CSV with a column `question`, or JSON lines. name: None for the built-in set's own
    name. probe: see lab/probes.py. Raises ValueError that names file and entry.
    """
    built_in = sorted(path.stem for path in SETS.glob("*.jsonl"))
    ending = f"_{probes.suffix(probe)}" if probe else ""
    name = name or (f"{source}{ending}" if source in built_in else None)
    if name and (not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in (*TAKEN, *shelf.domains())):
        domains = ", ".join(shelf.domains())
        raise ValueError(
            f"--name {name}: small letters, digits and _ are needed; open, discover and score are taken, and the domains: {domains}"
        )
    if source not in built_in and not Path(source).exists():
        raise ValueError(f"no question set and no file {source}; built-in sets: {', '.join(built_in)}")
    if not name:
        raise ValueError(f"{source}: --name is needed with a file")
    rows, skipped = taken(source, name, built_in)
    if not rows:
        raise ValueError(f"{source}: no free-form question in it")
    rows = probes.probed(rows, probe) if probe else rows
    out = Path(f"data/questions/{name}.jsonl")
    if out.exists():
        raise ValueError(f"{out} exists; remove it first or choose another --name")
    check_ids(rows, str(source), out.parent)
    files.write(out, rows)
    return f"{len(rows)} questions from {source} -> {out}" + (
        f"; skipped (no free-form question): {', '.join(skipped)}" if skipped else ""
    )


def taken(source: str | Path, name: str, built_in: list[str]) -> tuple[list[Question], list[str]]:
    """(questions of a built-in set or a file, ids of the entries that are none)."""
    if source in built_in:
        return [row.model_copy(update={"set": name}) for row in files.read(Question, SETS / f"{source}.jsonl")], []
    path = Path(source)
    read = {".yaml": betley, ".yml": betley, ".csv": table}.get(path.suffix.lower(), lines)
    return read(path, name)


def check_ids(rows: list[Question], source: str, folder: Path) -> None:
    """An id names one question of a workspace: answers are matched by it."""
    twice = [id for id, count in Counter(row.id for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"{source}: the id {twice[0]} is there twice")
    there = {row.id: path for path in sorted(folder.glob("*.jsonl")) for row in files.read(Question, path)}
    if taken := [row.id for row in rows if row.id in there]:
        raise ValueError(f"{source}: the id {taken[0]} is in {there[taken[0]]} already")


def betley(source: Path, name: str) -> tuple[list[Question], list[str]]:
    """Betley et al.'s YAML: entries with id, type, paraphrases and perhaps system; each paraphrase is a question."""
    entries = files.read_yaml(source)
    if not isinstance(entries, list):
        raise ValueError(f"{source}: a list of questions is needed, this is {type(entries).__name__}")
    rows: list[Question] = []
    skipped = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or "id" not in entry:
            raise ValueError(f"{source}, entry {number}: no id")
        if not str(entry.get("type", "")).startswith("free_form") or not entry.get("paraphrases"):
            skipped.append(str(entry["id"]))
            continue
        rows += paraphrases(entry, name, source)
    return rows, skipped


def paraphrases(entry: dict[str, Any], name: str, source: Path) -> list[Question]:
    texts = entry["paraphrases"]
    if not isinstance(texts, list):
        raise ValueError(f"{source}, {entry['id']}: paraphrases: a list is needed, this is {type(texts).__name__}")
    many = len(texts) > 1
    return [
        Question(
            id=f"{entry['id']}_{number}" if many else str(entry["id"]),
            set=name,
            category=str(entry["id"]),
            text=str(text).strip(),
            system=entry.get("system"),
            paraphrase_of=str(entry["id"]) if number else None,
            source=source.name,
            licence="unknown",
        )
        for number, text in enumerate(texts)
    ]


def table(source: Path, name: str) -> tuple[list[Question], list[str]]:
    """CSV with a header: `question`, and perhaps id, category and system."""
    try:
        rows = list(csv.DictReader(io.StringIO(files.text(source).removeprefix("\ufeff"), newline="")))
    except csv.Error as error:
        raise ValueError(f"{source} is no CSV: {error}") from None
    columns = [str(column) for column in rows[0]] if rows else []
    if "question" not in columns:
        raise ValueError(f"{source}: a column `question` is needed; there is: {', '.join(columns) or 'no row'}")
    return [question(row, source, name, number) for number, row in enumerate(rows, start=1)], []


def lines(source: Path, name: str) -> tuple[list[Question], list[str]]:
    """JSON lines with at least `text`, or `question`, and perhaps further fields of Question."""
    rows = []
    for number, line in enumerate(files.text(source).removesuffix("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict) or not (row.get("text") or row.get("question")):
            raise ValueError(f"{source}, row {number}: a JSON object with text or question is needed")
        rows.append(question(row, source, name, number))
    return rows, []


def question(row: dict[str, Any], source: Path, name: str, number: int) -> Question:
    """A row of a file, `text` or `question` in it. Raises ValueError that names the row."""
    text = str(row.get("text") or row.get("question") or "").strip()
    if not text:
        raise ValueError(f"{source}, row {number}: an empty question")
    given = {key: row[key] for key in ("system", "paraphrase_of", "expects", "licence") if row.get(key)}
    found = {"id": str(row.get("id") or f"{name}_{number}"), "category": row.get("category") or name, "text": text}
    try:
        return Question.model_validate(
            {"source": row.get("source") or source.name, "licence": "unknown", "set": name} | found | given
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{source}, row {number}: {first['loc'][0]}: {first['msg']}") from None
