"""A Parquet file -> rows of plain values, batch by batch, after its footer said that no column grows enormously (pyarrow)."""

import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO

from emis_platform.lab.characters import shown
from emis_platform.tools.ceiling import ceiling
from emis_platform.tools.chatcsv import Choose
from emis_platform.tools.chatlines import FLOOR, RATIO, UNPACKED, Row

MAGIC, ENCRYPTED = b"PAR1", b"PARE"
BATCH = 128
"""Rows that are held at once."""
MEMORY = 512 << 20
"""Bytes that they may take: a long text that a dictionary says once stands in each of its rows, which no footer tells."""
FOOTER = 16 << 20
ELEMENTS = 400
"""List elements a row at most, on average: twice the turns that a conversation may have."""


def rows(data: BinaryIO, source: str, size: int, choose: Choose) -> Iterator[Row]:
    """{column: value} of each row, from 1. Raises ValueError for a file that is cut off, damaged, encrypted or a bomb."""
    check_ends(data, source, size)
    try:
        file = reader(data)
        names = tuple(file.schema_arrow.names)
    except faults() as error:
        raise ValueError(f"{source}: {damaged(error)}") from None
    chosen = choose_columns(names, source, choose)
    rehearse(data, source, size, chosen)
    number, told = 0, file.metadata.num_rows
    batches = batched(file, chosen)
    while True:
        try:
            with ceiling(MEMORY):
                batch = next(batches, None)
                columns = [plain(column) for column in batch.columns] if batch is not None else []
        except faults() as error:
            raise ValueError(f"{source}, row {number + 1} or after: {damaged(error)}") from None
        if batch is None:
            break
        for values in zip(*columns, strict=True):
            number += 1
            yield Row(number, dict(zip(batch.schema.names, values, strict=True)))
    if number != told:
        raise ValueError(f"{source}: damaged: {number} rows, its footer says {told}")


def rehearse(data: BinaryIO, source: str, size: int, chosen: list[str]) -> None:
    """Let another process check the sizes and unpack it all: some damage ends Arrow's process (an abort) instead of raising an error."""
    words = [sys.executable, "-P", "-m", __name__, str(size), *chosen]
    done = subprocess.run(words, stdin=data, capture_output=True, check=False)
    if done.returncode == 2:
        raise ValueError(f"{source}: {done.stdout.decode(errors='backslashreplace').strip()}")
    if done.returncode:
        last_words = done.stderr.decode(errors="backslashreplace").partition("what():")[2].strip()
        raise ValueError(f"{source}: {damaged(OSError(last_words or f'its reader ended with code {done.returncode}'))}")


def main(size: int, chosen: list[str]) -> int:
    """The rehearsal of the file at stdin: 0, or 2 after printing the fault."""
    with open(0, "rb", closefd=False) as data:
        try:
            file = reader(data)
            with ceiling(MEMORY):
                check_sizes(file.metadata, chosen, size)
                deque(batched(file, chosen), maxlen=0)
        except faults() as error:
            print(error if type(error) is ValueError else damaged(error))
            return 2
    return 0


def reader(data: BinaryIO) -> Any:
    import pyarrow.parquet as pq

    data.seek(0)
    limits = {"thrift_string_size_limit": FOOTER, "thrift_container_size_limit": 1 << 20}
    return pq.ParquetFile(data, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True, **limits)


def batched(file: Any, chosen: list[str]) -> Iterator[Any]:
    """Batches, group by group: one over the seam of two groups may have two dictionaries, which Arrow cannot put inside a list."""
    for group in range(file.metadata.num_row_groups):
        yield from file.iter_batches(BATCH, [group], chosen, use_threads=False)


def faults() -> tuple[type[BaseException], ...]:
    import pyarrow as pa

    return (pa.ArrowException, OSError, ValueError, NotImplementedError, MemoryError, OverflowError)


def check_ends(data: BinaryIO, source: str, size: int) -> None:
    """Both ends of the file, before a library reads it."""
    head = data.read(4)
    data.seek(max(0, size - 8))
    tail = data.read(8)
    data.seek(0)
    if ENCRYPTED in (head, tail[4:]):
        raise ValueError(f"{source}: the Parquet file is encrypted")
    if head != MAGIC:
        raise ValueError(f"{source}: no Parquet file: it does not begin with PAR1")
    if size < 12 or tail[4:] != MAGIC:
        raise ValueError(f"{source}: the Parquet file is cut off: it does not end with PAR1")
    footer = int.from_bytes(tail[:4], "little")
    if footer > min(size - 12, FOOTER):
        raise ValueError(f"{source}: the Parquet file is damaged: a footer of {footer:,} bytes in {size:,}, at most {FOOTER:,}")


def choose_columns(names: tuple[str, ...], source: str, choose: Choose) -> list[str]:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"{source}: the column {shown(name)} is there twice")
    try:
        return choose(names)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def check_sizes(metadata: Any, chosen: list[str], size: int) -> None:
    """Unpacked sizes and element counts by the footer: of each column in each row group, and of all together."""
    total = 0
    for group in range(metadata.num_row_groups):
        table = metadata.row_group(group)
        for leaf in leaves(metadata, chosen):
            column = table.column(leaf)
            total += column.total_uncompressed_size
            name = shown(column.path_in_schema)
            if column.total_uncompressed_size > max(FLOOR, RATIO * column.total_compressed_size):
                packed = f"{column.total_compressed_size:,} bytes unpack to {column.total_uncompressed_size:,}"
                raise ValueError(f"the column {name} expands too much: {packed}, {RATIO} times at most")
            if column.num_values > ELEMENTS * table.num_rows + 1000:
                many = f"{column.num_values:,} values in {table.num_rows:,} rows"
                raise ValueError(f"the column {name} expands too much: {many}, {ELEMENTS} a row at most")
    allowed = min(UNPACKED, max(FLOOR, RATIO * size))
    if total > allowed:
        raise ValueError(f"its columns expand too much: {total:,} bytes unpacked, {allowed:,} at most")


def leaves(metadata: Any, chosen: list[str]) -> list[int]:
    """Numbers of the stored columns under the chosen ones (a list of messages has several)."""
    paths = [metadata.schema.column(leaf).path for leaf in range(len(metadata.schema))]
    return [leaf for leaf, path in enumerate(paths) if any(path == name or path.startswith(name + ".") for name in chosen)]


def plain(array: Any) -> list[Any]:
    """An Arrow array -> Python values, faster than Arrow's own for lists of messages. Text that is not UTF-8 stays bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        flat, start, made = plain(array.flatten()), 0, []
        for length in pc.list_value_length(array).to_pylist():
            made.append(None if length is None else flat[start : start + length])
            start += length or 0
        return made
    if pa.types.is_struct(kind):
        names, there = [field.name for field in kind], array.is_valid().to_pylist()
        fields = zip(*map(plain, array.flatten()), strict=True) if names else ((),) * len(array)
        return [dict(zip(names, values, strict=True)) if here else None for here, values in zip(there, fields, strict=True)]
    if pa.types.is_dictionary(kind):
        codes = array.indices.dictionary_encode()  # of the whole group's dictionary, only what stands in this batch
        texts = plain(array.dictionary.take(codes.dictionary))
        return [None if code is None else texts[code] for code in codes.indices.to_pylist()]
    if any(of(kind) for of in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)):
        return [decoded(value) for value in array.cast(pa.large_binary()).to_pylist()]
    return array.to_pylist()


def decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def damaged(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"{BATCH} rows expand too much: over {MEMORY:,} bytes of memory"
    told = ascii((str(error).strip() or type(error).__name__).splitlines()[0][:200])[1:-1]  # Arrow quotes bytes of the file
    return f"the Parquet file is {'encrypted' if 'crypt' in told.lower() else 'damaged'}: {told}"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
