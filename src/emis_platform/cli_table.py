"""Rows of cells -> lines of plain text with aligned columns."""

from collections.abc import Container, Sequence

from emis_platform.core.terminal import safe


def table(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> str:
    """One line a row, two spaces between columns. right: the columns (from 0) that are set to the right: numbers."""
    rows = [[safe(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if n in right else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
