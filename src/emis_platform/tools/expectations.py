"""expectations: tables of rows -> Great Expectations' verdict on each. The one file that imports it; what is expected stands in suites.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emis_platform.core.records import Record

UNPRINTABLE = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffd]"
PERSONAL = {
    "email": r"[\w.+-]+@[\w-]+\.[A-Za-z]{2,}",
    "phone": r"\+\d[\d ().-]{7,}\d|(?<!\d)\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?!\d)|(?<![\d.,])0\d{2,4}[ -/]\d{3,4}[ -]?\d{3,5}(?!\d)",
    "IBAN": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b",
    "card": r"\b(?:\d{4}[ -]){3}\d{4}\b",
}


class Fault(Record):
    """One reason why a file stays outside."""

    file: str
    row: int | None
    """From 1, the line in the file; None when the whole file is meant."""
    expectation: str
    value: str


@dataclass(frozen=True)
class Table:
    """One file as the door sees it."""

    name: str
    path: Path
    rows: list[dict[str, Any]]
    """Plain values; `row` is the line number, from 1."""
    rules: list[Any]
    """Expectations, each with its name in `meta` and its reason in `notes`."""


def rule(kind: str, name: str, why: str, **what: Any) -> Any:
    """An expectation of that kind, with its short name and its reason."""
    import great_expectations as gx

    return getattr(gx.expectations, f"Expect{kind}")(**what, notes=why, meta={"name": name})


def shape(record: type[Record], derived: Mapping[str, Any], needed: Sequence[str]) -> list[Any]:
    columns = ["row", *record.model_fields, *derived]
    return [
        rule("TableColumnsToMatchSet", "columns", "The record's fields, and what is computed from them.", column_set=columns),
        rule("TableRowCountToBeBetween", "rows", "An empty file trains nothing.", min_value=1),
        *(rule("ColumnValuesToNotBeNull", f"{column}_given", "Missing is no value here.", column=column) for column in needed),
    ]


def readable(column: str, least: int, most: int) -> list[Any]:
    """Printable text of `least` to `most` characters without personal data."""
    return [
        rule("ColumnValuesToMatchRegex", f"{column}_not_blank", "Blank text has nothing to say.", column=column, regex=r"\S"),
        rule(
            "ColumnValuesToNotMatchRegex",
            f"{column}_printable",
            "Control and invisible characters come from broken exports and hide text from a reader.",
            column=column,
            regex=UNPRINTABLE,
        ),
        rule(
            "ColumnValueLengthsToBeBetween",
            f"{column}_length",
            "Characters. Longer than the window is cut silently in training.",
            column=column,
            min_value=least,
            max_value=most,
        ),
        rule(
            "ColumnValuesToNotMatchRegexList",
            f"{column}_personal_data",
            f"No {', '.join(PERSONAL)} number: data of a real person may not be learned.",
            column=column,
            regex_list=list(PERSONAL.values()),
        ),
    ]


def between(name: str, column: str, least: int, most: int | None, why: str) -> Any:
    return rule("ColumnValuesToBeBetween", name, why, column=column, min_value=least, max_value=most)


def empty(column: str, why: str, mostly: float = 1.0) -> Any:
    """A computed column that says what is wrong with a row must say nothing, in at least that share of the rows."""
    return rule("ColumnValuesToBeNull", column, why, column=column, mostly=mostly)


def numbered(
    rows: Sequence[Record], derived: Mapping[str, Sequence[Any]], numbers: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Rows as the door looks at them: `row` is the line number, or the one given."""
    return [
        {"row": numbers[i] if numbers else i + 1, **row.model_dump(), **{name: column[i] for name, column in derived.items()}}
        for i, row in enumerate(rows)
    ]


def check(domain: str, tables: Sequence[Table]) -> tuple[Any, dict[str, Any]]:
    """Validate each table by itself. Returns the ephemeral context, for the pages, and a suite result for each table's name."""
    import great_expectations as gx
    import pandas
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    source = context.data_sources.add_pandas(domain)
    format = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row"]}
    results = {}
    for table in tables:
        batch = source.add_dataframe_asset(table.name).add_batch_definition_whole_dataframe("whole")
        rules = [rule.copy(update={"id": None}) for rule in table.rules]  # a suite keeps its own: a table may be checked twice
        suite = context.suites.add(gx.ExpectationSuite(name=table.name, expectations=rules, notes=f"The door for {table.path}"))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=table.name, data=batch, suite=suite))
        frame = pandas.DataFrame(table.rows, dtype=object).infer_objects()
        frame = frame.astype({name: object for name, kind in frame.dtypes.items() if kind.kind not in "iuf"})
        results[table.name] = definition.run(batch_parameters={"dataframe": frame}, result_format=format)
    return context, results


def faults(table: Table, result: Any) -> list[Fault]:
    """What fails in a file, a row at a time where rows are at fault. RuntimeError when an expectation could not be evaluated."""
    found = []
    for one in result.results:
        if one.success:
            continue
        config, name = one.expectation_config, one.expectation_config.meta["name"]
        if not one.result:
            raise RuntimeError(f"{table.path}: expectation {name} could not be evaluated: {one.exception_info}")
        rows = one.result.get("unexpected_index_list") or [None]
        whole = f"observed {one.result.get('observed_value')}, expected {wanted(config.kwargs)}"
        for row in rows:
            value = whole if row is None else " | ".join(str(value) for key, value in row.items() if key != "row")
            number = None if row is None else int(row["row"])
            found.append(Fault(file=str(table.path), row=number, expectation=name, value=value))
    return found


def wanted(limits: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {limits[key]}" for key in ("min_value", "max_value", "value", "column_set", "value_set") if limits.get(key)
    )


def explain(found: Sequence[Fault], most: int = 5) -> str:
    """One line for each failing expectation, with its first rows."""
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in found:
        groups.setdefault((fault.file, fault.expectation), []).append(fault)
    lines = []
    for (file, expectation), group in groups.items():
        first = "; ".join(
            short(fault.value) if fault.row is None else f"row {fault.row} {short(fault.value)!r}" for fault in group[:most]
        )
        more = f"; {len(group)} rows in all" if len(group) > most else ""
        lines.append(f"{file}: {expectation}: {first}{more}")
    return "\n".join(lines)


def short(value: str, most: int = 70) -> str:
    return value if len(value) <= most else value[: most - 1] + "…"
