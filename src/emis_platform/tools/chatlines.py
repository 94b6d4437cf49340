"""Bytes of a JSON file -> rows: one a line, or one an element of an array. No more than a row is held, caps hold while reading."""

import codecs
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from gzip import BadGzipFile
from typing import Any, BinaryIO, NamedTuple

from emis_platform.lab import strictjson

ROW = 1_000_000
"""Bytes (of an array's element: characters) of one row at most."""
RATIO, FLOOR, UNPACKED = 200, 64 << 20, 20 << 30
"""A packed file may unpack to 200 times its size (chat text packs 3 to 20 times), to 64 MiB whatever its size, never over 20 GiB."""
CHUNK = 1 << 16


class Row(NamedTuple):
    """What a reader found at a place of the file; with a fault, the value is the raw text as far as it was read."""

    number: int
    """From 1; in a CSV file the header is row 1."""
    value: Any
    fault: str | None = None


def allowance(size: int) -> int:
    """Bytes that a packed file of `size` bytes may unpack to."""
    return min(UNPACKED, max(FLOOR, RATIO * size))


def json_lines(data: BinaryIO, source: str, allowed: int | None) -> Iterator[Row]:
    """One JSON value a line. A line that is none is a row with a fault."""
    return settled(map(parsed, lines(data, source, allowed)))


def parsed(row: Row) -> Row:
    if row.fault:
        return row
    text = ""
    try:
        text = row.value.decode()
        if "\0" in text:
            raise ValueError(f"control character: U+0000 at character {text.index(chr(0)) + 1} of the row")
        return Row(row.number, strictjson.parse(text)) if text.strip() else Row(row.number, "", EMPTY)
    except UnicodeDecodeError as error:
        return Row(row.number, row.value.decode(errors="backslashreplace"), not_utf8(error))
    except ValueError as error:
        return Row(row.number, text, str(error))


EMPTY = "empty row: nothing stands in it"


def settled(rows: Iterable[Row]) -> Iterator[Row]:
    """Empty lines at the end are no rows; anywhere else each is one, with its fault."""
    held = range(0)
    for row in rows:
        if row.fault == EMPTY:
            held = range(held.start if held else row.number, row.number + 1)
            continue
        yield from (Row(number, "", EMPTY) for number in held)
        held = range(0)
        yield row


def lines(data: BinaryIO, source: str, allowed: int | None) -> Iterator[Row]:
    """(number, bytes of the line) from 1. Of a line over the cap, the first bytes with a fault; the rest is read past in pieces."""
    number, begun = 1, None
    for piece in pieces(lambda: data.readline(ROW + 1), source, allowed):
        ended = piece.endswith(b"\n")
        if begun is not None or (len(piece) > ROW and not ended):
            begun = piece[:1000] if begun is None else begun
            if ended:
                yield too_long(number, begun)
                number, begun = number + 1, None
            continue
        yield Row(number, piece)
        number += 1
    if begun is not None:
        yield too_long(number, begun)


def too_long(number: int, begun: bytes) -> Row:
    return Row(number, begun.decode(errors="backslashreplace"), f"row too long: over {ROW:,} bytes")


def pieces(take: Callable[[], bytes], source: str, allowed: int | None) -> Iterator[bytes]:
    """What `take` gives until it gives nothing. A byte order mark at the start is dropped, as Python's utf-8-sig and pandas do.

    Raises ValueError for a damaged gzip file and past `allowed` unpacked bytes (None: the file is not packed).
    """
    total = 0
    while True:
        try:
            piece = take()
        except (EOFError, BadGzipFile, zlib.error) as error:
            raise ValueError(f"{source}: the gzip file is damaged or cut off after {total:,} unpacked bytes: {error}") from None
        except OSError as error:
            raise ValueError(f"{source}: not readable after {total:,} bytes: {error.strerror}") from None
        if not piece:
            return
        total += len(piece)
        if allowed is not None and total > allowed:
            raise ValueError(
                f"{source}: unpacks to over {allowed:,} bytes ({RATIO} times its size at most); unpack it yourself if you trust it"
            )
        yield piece.removeprefix(codecs.BOM_UTF8) if total == len(piece) else piece


def array(data: BinaryIO, source: str, allowed: int | None) -> Iterator[Row]:
    """The elements of one JSON array, pretty-printed or not. Past an element that does not end nothing can be read: ValueError."""
    parts = texts(data, source, allowed)
    held, number = next(parts, "").lstrip().removeprefix("["), 1  # the door saw the bracket
    while True:
        held = beyond(held, parts, f"{source}, row {number}")
        if held[0] == "]":
            break
        if number > 1:
            if held[0] != ",":
                raise ValueError(f"{source}, row {number}: not JSON: a comma or ] is needed before it")
            held = beyond(held[1:], parts, f"{source}, row {number}")
        value, held, fault = element(held, parts, f"{source}, row {number}")
        yield Row(number, value, fault)
        number += 1
    for rest in (held[1:], *parts):
        if rest.strip():
            raise ValueError(f"{source}: text after the array's end")


def texts(data: BinaryIO, source: str, allowed: int | None) -> Iterator[str]:
    decode, done = codecs.getincrementaldecoder("utf-8")().decode, 0
    for piece in pieces(lambda: data.read(CHUNK), source, allowed):
        try:
            yield decode(piece)
        except UnicodeDecodeError as error:
            raise ValueError(f"{source}: {not_utf8(error, done)}") from None
        done += len(piece)
    try:
        decode(b"", final=True)
    except UnicodeDecodeError:
        raise ValueError(f"{source}: not UTF-8: cut off inside the last character") from None


def beyond(held: str, parts: Iterator[str], where: str) -> str:
    """The text from its first character that is no white space on."""
    while not (held := held.lstrip(" \t\r\n")):
        more = next(parts, None)
        if more is None:
            raise ValueError(f"{where}: not JSON: the array is cut off")
        held = more
    return held


def element(held: str, parts: Iterator[str], where: str) -> tuple[Any, str, str | None]:
    """(value, text after it, its fault), reading on while the element is not whole and not over the cap."""
    while True:
        try:
            value, end, fault = strictjson.element(held, 0)
            if end < len(held) or re.match(r"[\[{\"]", held):  # a bare number at the end may go on
                return value, held[end:], fault or (f"row too long: over {ROW:,} characters" if end > ROW else None)
            problem = "cut off"
        except json.JSONDecodeError as error:
            cut = error.msg.startswith("Unterminated") or error.pos >= len(held.rstrip())
            problem = f"{error.msg} (character {error.pos + 1} of the row)" + ", the array is cut off" * (cut and len(held) <= ROW)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        more = next(parts, None) if len(held) <= ROW else None
        if more is None:
            long = f", within the first {ROW:,} characters" if len(held) > ROW else ""
            raise ValueError(f"{where}: not JSON: {problem}{long}")
        held += more


def not_utf8(error: UnicodeDecodeError, before: int = 0) -> str:
    byte = error.object[error.start]
    return f"not UTF-8: byte 0x{byte:02x} at {before + error.start + 1}; convert the file, it may be Latin-1 or Windows-1252"
