"""import: somebody's question file -> a question set of this workspace. Public sets are read from the user's copy, never shipped."""

import json
import re
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.core.records import Question


def questions(source: Path, name: str) -> str:
    """Write data/questions/<name>.jsonl; returns a line that says what was taken. Raises ValueError naming file and entry."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in ("open", "discover", "score"):
        raise ValueError(f"--name {name}: small letters, digits and _ are needed; open, discover and score are taken")
    rows, skipped = betley(source, name) if source.suffix in (".yaml", ".yml") else lines(source, name)
    if not rows:
        raise ValueError(f"{source}: no free-form question in it")
    out = Path(f"data/questions/{name}.jsonl")
    if out.exists():
        raise ValueError(f"{out} exists; remove it first or choose another --name")
    files.write(out, rows)
    return f"{len(rows)} questions from {source} -> {out}" + (
        f"; skipped (no free-form question): {', '.join(skipped)}" if skipped else ""
    )


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
        rows += paraphrases(entry, name)
    return rows, skipped


def paraphrases(entry: dict[str, Any], name: str) -> list[Question]:
    texts = entry["paraphrases"]
    many = len(texts) > 1
    return [
        Question(
            id=f"{entry['id']}_{number}" if many else entry["id"],
            set=name,
            category=str(entry["id"]),
            text=str(text).strip(),
            system=entry.get("system"),
            paraphrase_of=str(entry["id"]) if number else None,
        )
        for number, text in enumerate(texts)
    ]


def lines(source: Path, name: str) -> tuple[list[Question], list[str]]:
    """JSON lines with at least `text`, or `question`; id and category where they are given."""
    rows = []
    for number, line in enumerate(files.text(source).removesuffix("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
            text = row.get("text") or row["question"]
        except (json.JSONDecodeError, KeyError, AttributeError):
            raise ValueError(f"{source}, row {number}: a JSON object with text or question is needed") from None
        rows.append(
            Question(
                id=str(row.get("id", f"{name}_{number}")),
                set=name,
                category=row.get("category", name),
                text=text,
                system=row.get("system"),
            )
        )
    return rows, []
