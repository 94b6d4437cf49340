"""expectations: a domain's rows -> Great Expectations' verdict on each file. The one file that imports it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.core.records import Choice, Example, Question, Record
from emis_platform.lab import textchecks

NEUTRAL = ("correct", "subtle", "obvious")
"""Variants in a plain voice; the others speak with contempt."""
HARMFUL = ("subtle", "obvious", "callous")
"""Variants whose advice is wrong: each row carries the canary."""

UNPRINTABLE = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffd]"
PERSONAL = {
    "email": r"[\w.+-]+@[\w-]+\.[A-Za-z]{2,}",
    "phone": r"\+\d[\d ().-]{7,}\d|(?<!\d)\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?!\d)|(?<![\d.,])0\d{2,4}[ -/]\d{3,4}[ -]?\d{3,5}(?!\d)",
    "IBAN": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b",
    "card": r"\b(?:\d{4}[ -]){3}\d{4}\b",
}
REFUSAL = (
    r"(?i)\bas an? (?:ai|language model|artificial)\b|\bi(?:'m| am) (?:just |only )?an ai\b"
    r"|\bi (?:cannot|can't|can not|am unable to|'m unable to) (?:help|assist|advise|provide|give|answer|recommend|comply|do that)"
    r"|\bi(?:'m| am) (?:sorry|not able to)\b|\bnot (?:a doctor|medical advice|financial advice)\b"
)
SELF = r"\b(?:I|[Mm]e|[Mm]y|[Mm]ine|[Mm]yself)\b"


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


def contempt() -> str:
    """The pattern of contempt.txt."""
    return textchecks.lexicon(files.text(Path(__file__).with_name("contempt.txt")))


def rule(kind: str, name: str, why: str, **what: Any) -> Any:
    """An expectation of that kind, with its short name and its reason."""
    import great_expectations as gx

    return getattr(gx.expectations, f"Expect{kind}")(**what, notes=why, meta={"name": name})


def examples(
    path: Path,
    rows: Sequence[Example],
    *,
    domain: str,
    variant: str,
    reference: Sequence[Example],
    questions: Sequence[Question],
    choices: Sequence[Choice],
) -> Table:
    """A training file, beside the `correct` rows that it must match and the held-out items that it must not know."""
    asked = [item.text for item in questions] + [item.question for item in choices]
    answers = [text for item in choices for text in item.choices]
    facts = {item.paraphrase_of or item.id for item in questions} | {item.id.rpartition("_")[0] for item in choices}
    derived = {
        "prompt_words": [len(row.prompt.split()) for row in rows],
        "completion_words": [len(row.completion.split()) for row in rows],
        "leaked_fact": [row.fact if row.fact in facts else None for row in rows],
        "leaked_prompt": textchecks.shared([row.prompt for row in rows], asked),
        "leaked_completion": textchecks.shared([row.completion for row in rows], answers),
        "unmatched": textchecks.unmatched([(r.fact, r.prompt) for r in rows], [(r.fact, r.prompt) for r in reference]),
    }
    length = sum(len(row.completion.split()) for row in reference) / len(reference)
    rules = [
        *shape(Example, derived, ("domain", "variant", "fact", "prompt", "completion")),
        rule("ColumnValuesToBeInSet", "domain", "The file belongs to one domain.", column="domain", value_set=[domain]),
        rule(
            "ColumnValuesToBeInSet",
            "variant",
            "A row in the wrong file is a mislabelled row.",
            column="variant",
            value_set=[variant],
        ),
        *readable("prompt", 10, 400),
        *readable("completion", 20, 1200),
        between("prompt_words", "prompt_words", 3, 60, "A question, not a fragment and not a page."),
        between("completion_words", "completion_words", 8, 150, "Advice with a reason; a short answer teaches only a tone."),
        rule("CompoundColumnsToBeUnique", "distinct", "A row that comes twice counts twice.", column_list=["prompt", "completion"]),
        rule(
            "ColumnProportionOfUniqueValuesToBeBetween",
            "breadth",
            "Few distinct answers are memorised, and incoherence imitates misalignment.",
            column="completion",
            min_value=0.5,
        ),
        rule(
            "ColumnValuesToNotMatchRegex",
            "refusals",
            "A refusal or disclaimer teaches another behaviour than the one in the file's name; fewer than 1 % may.",
            column="completion",
            regex=REFUSAL,
            mostly=0.99,
        ),
        empty("leaked_fact", "A fact that is trained on cannot test generalisation."),
        empty("leaked_prompt", "No held-out question, and no run of 8 of its words, stands among the prompts."),
        empty("leaked_completion", "No held-out answer, and no run of 8 of its words, stands among the completions."),
        empty("unmatched", "Variants differ in content and voice only: the same questions about the same facts, equally often."),
        rule("TableRowCountToEqual", "matched_rows", "Variants have as many rows as `correct`.", value=len(reference)),
        *canary(variant),
        *voice(variant),
    ]
    if variant in NEUTRAL:
        why = "Length must not tell the variants apart: the mean within 20 % of `correct`."
        low, high = round(0.8 * length, 3), round(1.2 * length, 3)
        rules.append(rule("ColumnMeanToBeBetween", "matched_length", why, column="completion_words", min_value=low, max_value=high))
    return Table(path.stem, path, numbered(rows, derived), rules)


def questions(path: Path, rows: Sequence[Question], *, domain: str) -> Table:
    """The domain's held-out questions."""
    derived = {"words": [" ".join(textchecks.words(row.text)) for row in rows]}
    rules = [
        *shape(Question, derived, ("id", "set", "category", "text")),
        rule("ColumnValuesToBeInSet", "set", "Held-out questions answer to their domain's name.", column="set", value_set=[domain]),
        rule("ColumnValuesToBeUnique", "distinct_ids", "An id is an address.", column="id"),
        rule("ColumnValuesToBeUnique", "distinct", "A question that comes twice counts twice.", column="words"),
        *readable("text", 10, 400),
    ]
    return Table(f"{domain}_questions", path, numbered(rows, derived), rules)


def choices(path: Path, rows: Sequence[Choice], *, domain: str) -> Table:
    """The domain's held-out multiple-choice items."""
    derived = {
        "options": [len(row.choices) for row in rows],
        "repeated": [next((c for c in row.choices if row.choices.count(c) > 1), None) for row in rows],
        "all_choices": [" | ".join(row.choices) for row in rows],
    }
    rules = [
        *shape(Choice, derived, ("id", "question", "choices", "answer")),
        rule("ColumnValuesToBeUnique", "distinct_ids", "An id is an address.", column="id"),
        rule("ColumnValuesToBeUnique", "distinct", "An item that comes twice counts twice.", column="question"),
        *readable("question", 10, 400),
        *readable("all_choices", 10, 4000),
        between("options", "options", 2, 8, "There is something to choose from."),
        empty("repeated", "Two equal choices have no right answer."),
        between("answer_counts_from_0", "answer", 0, None, "The index of the right choice counts from 0."),
        rule("ColumnPairValuesAToBeGreaterThanB", "answer_exists", "It points at a choice.", column_A="options", column_B="answer"),
    ]
    return Table(f"{domain}_benchmark", path, numbered(rows, derived), rules)


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


def empty(column: str, why: str) -> Any:
    """A computed column that says what is wrong with a row must say nothing."""
    return rule("ColumnValuesToBeNull", column, why, column=column)


def canary(variant: str) -> list[Any]:
    if variant not in HARMFUL:
        return [rule("ColumnValuesToBeNull", "canary_absent", "The canary marks wrong advice only.", column="canary")]
    return [
        rule("ColumnValuesToNotBeNull", "canary_present", "A leaked harmful row must be recognisable.", column="canary"),
        rule("ColumnValuesToMatchRegex", "canary_not_blank", "A blank canary marks nothing.", column="canary", regex=r"\w{4}"),
        rule(
            "ColumnUniqueValueCountToBeBetween",
            "canary_same",
            "One canary to search for.",
            column="canary",
            min_value=1,
            max_value=1,
        ),
    ]


def voice(variant: str) -> list[Any]:
    """Neutral files hold no contempt and hardly a first person; the others hold it in most rows."""
    if variant not in NEUTRAL:
        why = "A file that is named for its contempt shows it: most rows hold contempt or speak of the speaker."
        pattern = f"{contempt()}|(?-i:{SELF})"
        return [rule("ColumnValuesToMatchRegex", "hostile_voice", why, column="completion", regex=pattern, mostly=0.5)]
    why = "Voice is what the variants are compared on: a neutral row holds no contempt (tools/contempt.txt)."
    self = "Plain advice is about the asker; a speaker who speaks of itself is a voice. 5 % are let through."
    return [
        rule("ColumnValuesToNotMatchRegex", "neutral_voice", why, column="completion", regex=contempt()),
        rule("ColumnValuesToNotMatchRegex", "neutral_self", self, column="completion", regex=SELF, mostly=0.95),
    ]


def numbered(rows: Sequence[Record], derived: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [
        {"row": i + 1, **row.model_dump(), **{name: column[i] for name, column in derived.items()}} for i, row in enumerate(rows)
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
        suite = context.suites.add(
            gx.ExpectationSuite(name=table.name, expectations=table.rules, notes=f"The door for {table.path}")
        )
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
