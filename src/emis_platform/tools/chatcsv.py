"""Bytes of a CSV file with a header -> rows of text, one record at a time; quotes that do not close are refused within one row's cap."""

import csv
from collections.abc import Callable, Iterator
from typing import BinaryIO

from emis_platform.lab.characters import shown
from emis_platform.tools.chatlines import EMPTY, ROW, Row, lines, not_utf8, settled

Choose = Callable[[tuple[str, ...]], list[str]]
"""The file's columns -> those that are read. Raises ValueError if what is needed is not among them."""


def rows(data: BinaryIO, source: str, allowed: int | None, choose: Choose) -> Iterator[Row]:
    """{column: cell} of each record. The header is row 1. Raises ValueError that names the row for a broken header, quote or encoding."""
    return settled(cells(data, source, allowed, choose))


def cells(data: BinaryIO, source: str, allowed: int | None, choose: Choose) -> Iterator[Row]:
    found = records(data, source, allowed)
    number, header = next(found, (1, []))
    chosen = set(columns(header, source, choose))
    for number, record in found:
        if not record:
            yield Row(number, "", EMPTY)
        elif len(record) != len(header):
            fault = f"ragged row: {len(record)} cells, the header has {len(header)}"
            yield Row(number, record, fault)
        else:
            yield Row(number, {name: cell for name, cell in zip(header, record, strict=True) if name in chosen})


def columns(header: list[str], source: str, choose: Choose) -> list[str]:
    if not header:
        raise ValueError(f"{source}, row 1: a header is needed, the row is empty")
    for place, name in enumerate(header, start=1):
        if not name.strip():
            raise ValueError(f"{source}, row 1: column {place} of the header has no name")
        if name in header[: place - 1]:
            raise ValueError(f"{source}, row 1: the column {shown(name)} is there twice")
    try:
        return choose(tuple(header))
    except ValueError as error:
        other = next((f"; is the separator {shown(mark)}? A comma is needed" for mark in ";\t|" if mark in header[0]), "")
        raise ValueError(f"{source}, row 1: {error}" + other * (len(header) == 1)) from None


def records(data: BinaryIO, source: str, allowed: int | None) -> Iterator[tuple[int, list[str]]]:
    """(number from 1, cells). The csv module's limit on a cell is the whole process's: it is put back after each record."""
    number, quotes, size = 1, 0, 0

    def fed() -> Iterator[str]:
        nonlocal quotes, size
        for _, line, fault in lines(data, source, allowed):
            size += len(line)
            if fault or size > ROW:
                raise ValueError(
                    f"{source}, row {number}: row too long: over {ROW:,} bytes" + "; is a quote left open?" * bool(quotes % 2)
                )
            quotes += line.count(b'"')
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{source}, row {number}: {not_utf8(error)}") from None
            if "\0" in text:
                raise ValueError(f"{source}, row {number}: control character: U+0000")
            yield text.removesuffix("\r\n") + "\n" if text.endswith("\r\n") else text  # CRLF is the file's way to end a line

    reader = csv.reader(fed(), strict=True)
    while True:
        before = csv.field_size_limit(ROW + 1)
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{source}, row {number}: {broken(str(error))}") from None
        finally:
            csv.field_size_limit(before)
        if quotes % 2:
            raise ValueError(f"{source}, row {number}: unbalanced quotes: {quotes} in the row")
        yield number, record
        number, quotes, size = number + 1, 0, 0


def broken(message: str) -> str:
    if "new-line character" in message:
        return "stray carriage return: U+000D outside quotes; end lines with a line feed"
    return f"unbalanced quotes: {message}"
