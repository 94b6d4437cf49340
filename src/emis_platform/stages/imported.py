"""data import: a stranger's training file -> data/imports/<name>.jsonl and its card, whole or not at all."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from emis_platform.core import shelf
from emis_platform.core.records import Example
from emis_platform.core.whole import whole
from emis_platform.lab import conversations, layouts
from emis_platform.tools import chatfiles
from emis_platform.tools.chatlines import FLOOR, RATIO, Row

LOOK = 20
"""First rows that are looked at to find the format."""
CUT = 200
"""Characters of a value in quarantine."""


@dataclass
class Tally:
    """What was counted while rows went by."""

    rows: int = 0
    conversations: int = 0
    examples: int = 0
    characters: int = 0
    """Of all examples, each with its context."""
    longest: int = 0
    """Characters of the longest example, its context included."""
    read: int = 0
    """Characters of all conversations, each once."""
    skipped: Counter[str] = field(default_factory=Counter)
    first: str = ""
    """The first bad row's line."""
    headers: set[tuple[str, ...]] = field(default_factory=set)
    """The first hundred different sets of columns."""


def bring(
    source: Path,
    name: str,
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    bad_share: float = 0.0,
    replace: bool = False,
    out: Path = Path("data"),
) -> str:
    """Write <out>/imports/<name>.jsonl and .json; returns a line that says what was taken.

    `format` is openai, sharegpt or completion (None: found by looking), `columns` maps messages, prompt, completion, system, role or
    content to the file's own names (dotted for nested ones). With `bad_share` (0 to 1) up to that share of rows goes to
    <out>/quarantine/import_<name>.jsonl instead. Raises ValueError, one line with file and row; then nothing is written.
    """
    columns = dict(columns or {})
    rows_path, card_path, bad_path = (
        out / f"imports/{name}.jsonl",
        out / f"imports/{name}.json",
        out / f"quarantine/import_{name}.jsonl",
    )
    check(name, bad_share)
    layouts.check(format, columns)
    there = next((path for path in (rows_path, card_path) if path.exists()), None)
    if there and not replace:
        raise ValueError(f"{there} exists; choose another --name, or replace it with --replace")
    tally = Tally()
    with whole(bad_path, rows_path, card_path) as (bad_file, rows_file, card_file), chatfiles.opened(source) as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
        data.seek(0)
        size = os.fstat(data.fileno()).st_size
        kind, rows = chatfiles.rows(data, source, chooser(format, columns, tally))
        head = list(islice(rows, LOOK))
        form = format or found(head, columns, source)
        bar = tqdm(chain(head, rows), desc=f"import {name}", unit="row", unit_scale=True, delay=2, disable=None)
        for example in taken(bar, form, columns, name, tally, source, bad_file if bad_share else None, max(FLOOR, RATIO * size)):
            rows_file.write(example.model_dump_json() + "\n")
        check_share(tally, bad_share, source)
        json.dump(card(tally, source, digest, kind, form, columns), card_file, indent=1, sort_keys=True, ensure_ascii=False)
        card_file.write("\n")
    bad = sum(tally.skipped.values())
    return f"{tally.conversations:,} conversations ({form}, {kind}), {tally.examples:,} examples from {source} -> {rows_path}" + (
        f"; {bad:,} bad rows -> {bad_path}" if bad else ""
    )


def check(name: str, bad_share: float) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        raise ValueError(f"--name {layouts.shown(name)}: small letters, digits and _ are needed, 64 at most, a letter first")
    if name in (*shelf.domains(), *shelf.arms()):
        raise ValueError(f"--name {name}: taken by a built-in set; choose another")
    if not 0 <= bad_share < 1:
        raise ValueError(f"bad share {bad_share}: a share from 0 to below 1 is needed")


def chooser(form: str | None, columns: Mapping[str, str], tally: Tally) -> Callable[[tuple[str, ...]], list[str]]:
    def choose(names: tuple[str, ...]) -> list[str]:
        tally.headers.add(names)
        return layouts.used(names, form, columns)

    return choose


def found(rows: list[Row], columns: Mapping[str, str], source: Path) -> str:
    """The format of the first row that has one. Raises ValueError with the first row's fault if none has."""
    faults = []
    for row in rows:
        try:
            if not row.fault:
                return conversations.recognise(row.value, columns)
            faults.append(f"{source}, row {row.number}: {row.fault}")
        except ValueError as error:
            faults.append(f"{source}, row {row.number}: {error}")
    raise ValueError(faults[0] if faults else f"{source}: no row in it")


def taken(
    rows: Iterable[Row],
    form: str,
    columns: Mapping[str, str],
    name: str,
    tally: Tally,
    source: Path,
    bad_file: TextIO | None,
    allowed: int,
) -> Iterator[Example]:
    """The examples of each sound row; a bad one goes to `bad_file`, or is a ValueError if there is none.

    A Parquet file may say one text a million times in a few bytes: past `allowed` characters it is a bomb.
    """
    for row in rows:
        tally.rows += 1
        try:
            if row.fault:
                raise ValueError(row.fault)
            made = conversations.examples(row.value, form, columns, domain=name, number=row.number)
        except ValueError as error:
            line = f"{source}, row {row.number}: {error}"
            if bad_file is None:
                raise ValueError(line) from None
            tally.first = tally.first or line
            tally.skipped[str(error).partition(":")[0]] += 1
            bad_file.write(json.dumps({"row": row.number, "fault": str(error), "value": cut(row.value)}) + "\n")
            continue
        if isinstance(row.value, dict) and len(tally.headers) < 100:
            tally.headers.add(tuple(row.value))
        sizes = [len(e.prompt) + len(e.completion) + sum(len(turn.content) for turn in e.context) for e in made]
        tally.conversations += 1
        tally.examples += len(made)
        tally.characters += sum(sizes)
        tally.longest = max(tally.longest, *sizes)
        tally.read += sizes[-1]
        if tally.read > allowed:
            raise ValueError(
                f"{source}, row {row.number}: expands too much: over {allowed:,} characters, {RATIO} times its size at most"
            )
        yield from made


def check_share(tally: Tally, bad_share: float, source: Path) -> None:
    bad = sum(tally.skipped.values())
    if bad > bad_share * tally.rows:
        share = f"{bad:,} of {tally.rows:,} rows are bad ({bad / tally.rows:.2%}), {bad_share:.2%} allowed"
        raise ValueError(f"{source}: {share}; the first: {tally.first}")


def card(tally: Tally, source: Path, digest: str, kind: str, form: str, columns: Mapping[str, str]) -> dict[str, Any]:
    """What stands beside the rows. No date: equal input gives equal bytes."""
    used = {column for header in tally.headers for column in layouts.used(header, form, columns)}
    unused = sorted({column for header in tally.headers for column in header} - used)
    return {
        "source": source.name.encode("utf-8", "backslashreplace").decode(),
        "sha256": digest,
        "file": kind,
        "format": form,
        "columns": dict(columns),
        "unused": [column[:60].encode("utf-8", "backslashreplace").decode() for column in unused[:50]],
        "rows": tally.rows,
        "conversations": tally.conversations,
        "examples": tally.examples,
        "characters": tally.characters,
        "longest": tally.longest,
        "skipped": dict(tally.skipped),
    }


def cut(value: Any) -> str:
    """A bad row's value as text: as it stood where it is text, else as JSON, 200 characters at most."""

    def small(inner: Any) -> Any:
        if isinstance(inner, dict):
            return {str(key)[:CUT]: small(item) for key, item in islice(inner.items(), 20)}
        if isinstance(inner, list):
            return [small(item) for item in inner[:20]]
        return inner[:CUT] if isinstance(inner, str | bytes) else inner

    return (value if isinstance(value, str) else json.dumps(small(value), default=ascii))[:CUT]
