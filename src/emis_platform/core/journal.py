"""Records kept one by one: an append-only file of JSON lines that a kill at any moment leaves whole up to the last one."""

import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from emis_platform.core.records import Record

R = TypeVar("R", bound=Record)


class Line(Record, Generic[R]):
    key: str
    row: R


@contextmanager
def opened(path: Path, record: type[R]) -> Iterator[tuple[dict[str, R], Callable[[str, R], None]]]:
    """(what is kept already, by key; a function that keeps one more record under a key and returns when the disk has it).

    One process at a time: a second one waits for the first. A last line that was half written is dropped. The function may be called
    from any thread. Raises ValueError naming file and row for a line that is no record, OSError if the disk takes no more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = threading.Lock()
    with path.open("a+b", buffering=0) as out:
        alone(out, path)
        kept = recover(out, path, record)

        def keep(key: str, row: R) -> None:
            with lock:
                append(out, Line[record](key=key, row=row).model_dump_json().encode() + b"\n")
                kept[key] = row

        yield kept, keep


def alone(out: FileIO, path: Path) -> None:
    """Hold the file for this process; the system gives it back however the process ends."""
    try:
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another run that writes {path}", file=sys.stderr, flush=True)
        fcntl.flock(out, fcntl.LOCK_EX)


def recover(out: FileIO, path: Path, record: type[R]) -> dict[str, R]:
    """The records of the file. A rest without its newline is completed if it is whole, and cut off if it is not."""
    out.seek(0)
    *lines, rest = out.readall().split(b"\n")
    if rest:
        try:
            Line[record].model_validate_json(rest)
            append(out, b"\n")
            lines.append(rest)
        except ValidationError:
            out.truncate(sum(len(line) + 1 for line in lines))
            os.fsync(out)
    kept = {}
    for number, line in enumerate(lines, start=1):
        try:
            found = Line[record].model_validate_json(line)
        except ValidationError:
            raise ValueError(f"{path}, row {number}: not a line that this version writes; remove it or the file") from None
        kept[found.key] = found.row
    return kept


def append(out: FileIO, line: bytes) -> None:
    """Write a line to the disk, or nothing of it."""
    size = os.fstat(out.fileno()).st_size
    try:
        while line:
            line = line[out.write(line) :]
        os.fsync(out)
    except OSError:
        out.truncate(size)
        raise
