"""The bytes of a stranger's training file -> raw rows, streaming: what it is by its name and by its first bytes, or refused."""

import gzip
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from emis_platform.tools import chatcsv, chatlines, chatparquet
from emis_platform.tools.chatcsv import Choose
from emis_platform.tools.chatlines import Row

ENDINGS = {".jsonl": "JSON lines", ".ndjson": "JSON lines", ".json": "JSON", ".csv": "CSV", ".parquet": "Parquet"}
"""How a file's name ends; all but Parquet also with .gz behind it."""
MAGIC = {
    b"PK\x03\x04": "a zip file",
    b"PK\x05\x06": "an empty zip file",
    b"\x1f\x8b": "a gzip file without .gz in its name",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"7z\xbc\xaf": "a 7-Zip file",
    b"PAR1": "a Parquet file",
    b"PARE": "an encrypted Parquet file",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3": "an SQLite database",
    b"\x93NUMPY": "a NumPy file",
    b"\x89HDF": "an HDF5 file",
    b"\x7fELF": "a program",
    b"%PDF": "a PDF file",
    b"\x89PNG": "a picture",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a Git LFS pointer: the file itself was not fetched",
    b"\xff\xfe": "UTF-16 text: convert it to UTF-8",
    b"\xfe\xff": "UTF-16 text: convert it to UTF-8",
    b"\x00\x00\xfe\xff": "UTF-32 text: convert it to UTF-8",
} | {b"\x80" + bytes([protocol]): "a pickle, which is never opened" for protocol in range(2, 6)}


@contextmanager
def opened(source: Path) -> Iterator[BinaryIO]:
    """The regular file itself, which may not change meanwhile. Raises ValueError for anything else: a folder, a pipe, a link to elsewhere."""
    try:
        number = descriptor(source)
    except FileNotFoundError:
        raise ValueError(f"no file {source}") from None
    except (OSError, RuntimeError) as error:  # a link that points at itself is a RuntimeError up to Python 3.12
        raise ValueError(f"{source} cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    with open(number, "rb") as data:
        before = os.fstat(number)
        if not stat.S_ISREG(before.st_mode):
            raise ValueError(f"{source} is no file any more")
        yield data
        after = os.fstat(number)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ValueError(f"{source} changed while it was read")


def descriptor(source: Path) -> int:
    """An open descriptor.

    A link may stay within the working directory or its own folder. One that leaves both comes, as a rule, with somebody's archive,
    and would copy a text into data/ that the user never meant to share; who means it names the file itself.
    """
    real = source.resolve(strict=True)
    mode = os.stat(real).st_mode
    if stat.S_ISDIR(mode):
        raise ValueError(f"{source} is a folder, a file is needed")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{source} is a pipe, a socket or a device, a file is needed")
    if not any(real.is_relative_to(home) for home in (Path.cwd().resolve(), source.parent.resolve())):
        raise ValueError(f"{source} is a link that leaves the working directory and its own folder; name the file itself")
    return os.open(real, os.O_RDONLY | os.O_NONBLOCK)  # a pipe put there meanwhile would not be waited for


def rows(data: BinaryIO, source: Path, choose: Choose) -> tuple[str, Iterator[Row]]:
    """(what the file is, its rows). `choose` picks columns of CSV and Parquet. Raises ValueError before or while rows are read."""
    ending, packed = endings(source)
    size = os.fstat(data.fileno()).st_size
    if not size:
        raise ValueError(f"{source} is empty")
    if ending == ".parquet":
        return "Parquet", chatparquet.rows(data, str(source), size, choose)
    stream, allowed = data, None
    if packed:
        if data.peek(2)[:2] != b"\x1f\x8b":
            raise ValueError(f"{source}: its name ends in .gz, but it is no gzip file")
        stream, allowed = io.BufferedReader(gzip.GzipFile(fileobj=data)), chatlines.allowance(size)
    head = beginning(stream, source)
    if ending == ".csv":
        if head.startswith((b"{", b"[")):
            raise ValueError(f"{source}: its name says CSV, its first byte says JSON")
        return "CSV", chatcsv.rows(stream, str(source), allowed, choose)
    if head.startswith(b"["):
        if ending != ".json":
            raise ValueError(f"{source}: its name says JSON lines, but it is a JSON array; name it .json")
        return "JSON array", chatlines.array(stream, str(source), allowed)
    return "JSON lines", chatlines.json_lines(stream, str(source), allowed)


def endings(source: Path) -> tuple[str, bool]:
    """(how the name ends, whether .gz stands behind it)."""
    name = source.name.lower()
    packed = name.endswith(".gz")
    ending = Path(name.removesuffix(".gz")).suffix
    if ending not in ENDINGS or (packed and ending == ".parquet"):
        raise ValueError(f"{source}: no known ending; there is: {', '.join(ENDINGS)}, and .gz behind all but the last")
    return ending, packed


def beginning(stream: BinaryIO, source: Path) -> bytes:
    """The first bytes after a byte order mark and white space, still to be read. Raises ValueError for what is no UTF-8 text."""
    head = next(chatlines.pieces(lambda: stream.peek(512)[:512], str(source), None), b"")
    told = next((told for magic, told in MAGIC.items() if head.startswith(magic)), None)
    if told is None and head[257:262] == b"ustar":
        told = "a tar archive"
    if told is None and b"\0" in head[:4]:
        told = "UTF-16 or binary"
    if told:
        raise ValueError(f"{source}: its name says {ENDINGS[endings(source)[0]]}, but it is {told}")
    if not head.strip():
        raise ValueError(f"{source}: nothing but white space at its start")
    return head.lstrip()
