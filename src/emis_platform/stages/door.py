"""The one door: tables of rows -> let in, or turned away with a line for each reason. Used by validate and compose."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.core.records import Example
from emis_platform.tools import datadocs, expectations
from emis_platform.tools.expectations import Fault, Table

QUARANTINE = Path("data/quarantine")


def strict(name: str, tables: Sequence[Table], docs: Path) -> dict[str, dict[str, Any]]:
    """Let every table in whole and write its pages, or none.

    Returns {table: its sha256, rows, expectations}. Raises ValueError after writing the failing rows to data/quarantine/<name>.jsonl.
    """
    context, results = expectations.check(name, tables)
    found = [fault for table in tables for fault in expectations.faults(table, results[table.name])]
    quarantine = QUARANTINE / f"{name}.jsonl"
    if found:
        files.write(quarantine, found)
        raise ValueError(f"{expectations.explain(found)}\nfailing rows: {quarantine}")
    quarantine.unlink(missing_ok=True)
    told = {
        table.name: {
            "rows": len(table.rows),
            "expectations": len(results[table.name].results),
            "sha256": files.sha256(table.path),
        }
        for table in tables
    }
    datadocs.write(context, results, docs, [{"name": t.name, "file": t.path.as_posix(), **told[t.name]} for t in tables])
    return told


def lenient(
    name: str, rows: Sequence[Example], made: Callable[[Sequence[Example]], Table], docs: Path, *, allowed: float
) -> tuple[list[Example], list[Fault], dict[str, Any]]:
    """Let rows in, up to a share `allowed` of them aside: those lie in data/quarantine/<name>.jsonl with expectation and value.

    Returns the rows let in, the faults of the others, and what is known of the table. Raises ValueError if more rows fail, if the file as
    a whole does, or if what is left fails again.
    """
    table = made(rows)
    _, results = expectations.check(name, [table])
    found = expectations.faults(table, results[table.name])
    bad = {fault.row for fault in found}
    quarantine = QUARANTINE / f"{name}.jsonl"
    if not found:
        return list(rows), [], strict(name, [table], docs)[table.name]
    files.write(quarantine, found)
    lines = {seen["row"] for seen in table.rows}
    if None in bad or len(bad) > allowed * len(lines):
        share = "" if None in bad else f"\n{len(bad)} of {len(lines)} rows fail, {allowed:.1%} may (data.allow_bad)"
        raise ValueError(f"{expectations.explain(found)}{share}\nfailing rows: {quarantine}")
    kept = [row for row, seen in zip(rows, table.rows, strict=True) if seen["row"] not in bad]
    told = strict(name, [made(kept)], docs)[table.name]
    files.write(quarantine, found)  # strict() has cleared it
    return kept, found, told
