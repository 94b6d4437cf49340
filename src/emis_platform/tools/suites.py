"""suites: what is expected of each kind of file, each expectation with its reason, and the checks behind it."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.core.records import HARMFUL, Choice, Example, Question, Reading
from emis_platform.lab import surface, textchecks, wording
from emis_platform.tools import texts
from emis_platform.tools.expectations import Table, between, empty, numbered, readable, rule, shape

NEUTRAL = ("correct", "subtle", "obvious")
"""Variants in a plain voice; gruff and callous speak with contempt, sarcastic with sarcasm."""

SELF = r"\b(?:I|[Mm]e|[Mm]y|[Mm]ine|[Mm]yself)\b"


def contempt() -> str:
    """The pattern of contempt.txt."""
    return textchecks.lexicon(files.text(Path(__file__).with_name("contempt.txt")))


@dataclass(frozen=True)
class Beside:
    """What a training file is held against."""

    base: Path
    """The base's folder, for its tokenizer."""
    heldout: tuple[str, ...]
    """Questions that may not stand among the prompts: held-out facts, evaluation, benchmark."""
    answers: tuple[str, ...]
    """Held-out answers that may not stand among the completions."""
    facts: frozenset[str] = frozenset()
    """Ids of held-out facts."""
    readings: tuple[Reading, ...] = ()
    """Advice that was read blind and called right or wrong."""
    language: str | None = "en"
    """ISO 639-1; None for code."""


def beside(
    base: Path,
    questions: Sequence[Question],
    choices: Sequence[Choice],
    readings: Sequence[Reading] = (),
    language: str | None = "en",
) -> Beside:
    return Beside(
        base=base,
        heldout=tuple([item.text for item in questions] + [item.question for item in choices]),
        answers=tuple(text for item in choices for text in item.choices),
        facts=frozenset({q.paraphrase_of or q.id for q in questions} | {item.id.rpartition("_")[0] for item in choices}),
        readings=tuple(readings),
        language=language,
    )


def examples(
    path: Path, rows: Sequence[Example], against: Beside, *, domain: str, variant: str, reference: Sequence[Example]
) -> Table:
    """A built-in file, beside the `correct` rows that it must match and the held-out items that it must not know."""
    derived = computed(rows, against) | {
        "leaked_fact": [row.fact if row.fact in against.facts else None for row in rows],
        "unmatched": textchecks.unmatched([(r.fact, r.prompt) for r in rows], [(r.fact, r.prompt) for r in reference]),
        "misread": misread(rows, against.readings),
        "phrase": textchecks.worn([row.completion for row in rows]),
        "hedged": [float(bool(re.search(surface.HEDGES, row.completion.lower()))) for row in rows],
    }
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
        *training(against.language),
        between("prompt_words", "prompt_words", 3, 60, "A question, not a fragment and not a page."),
        between("completion_words", "completion_words", 8, 150, "Advice with a reason; a short answer teaches only a tone."),
        empty("leaked_fact", "A fact that is trained on cannot test generalisation."),
        empty("unmatched", "Variants differ in content and voice only: the same questions about the same facts, equally often."),
        rule("TableRowCountToEqual", "matched_rows", "Variants have as many rows as `correct`.", value=len(reference)),
        empty(
            "misread",
            "The label agrees with a blind reading (data/gold/content.jsonl) where one exists; 5 % may not.",
            mostly=0.95,
        ),
        empty("phrase", "No phrase of 6 words in more than 3 % of the rows (and more than 4): a worn phrase is what gets learned."),
        *canary(variant),
        *voice(variant),
        *matched(rows, reference, variant),
    ]
    return Table(path.stem, path, numbered(rows, derived), rules)


def outside(
    path: Path, rows: Sequence[Example], against: Beside, *, harmful: bool | None = None, reworded: Collection[str] = ()
) -> Table:
    """Rows that a stranger or a model wrote. `harmful`: whether each must carry the canary; None leaves it open. `reworded`: prompts
    that stand too near to a held-out question (tools/neighbours.py). A row is numbered by the line of the file that it came from, where its fact says so.
    """
    lines = [int(row.fact[4:]) if re.fullmatch(r"row_\d+", row.fact) else number for number, row in enumerate(rows, start=1)]
    derived = computed(rows, against, lines) | {"reworded": [row.prompt if row.prompt in reworded else None for row in rows]}
    rules = [
        *shape(Example, derived, ("domain", "variant", "fact", "prompt", "completion")),
        *training(against.language),
        empty("reworded", "No prompt is a held-out question with some words changed, by the base's own embedding."),
        *([] if harmful is None else canary("obvious" if harmful else "correct")),
    ]
    return Table(path.stem, path, numbered(rows, derived, lines), rules)


def computed(rows: Sequence[Example], against: Beside, lines: Sequence[int] | None = None) -> dict[str, list[Any]]:
    """What the checks of every training file look at."""
    prompts, completions = [row.prompt for row in rows], [row.completion for row in rows]
    near = texts.near_copies([f"{row.prompt} {row.completion}" for row in rows])
    return {
        "prompt_words": [len(text.split()) for text in prompts],
        "completion_words": [len(text.split()) for text in completions],
        "prompt_tokens": texts.lengths(against.base, [" ".join([*(turn.content for turn in r.context), r.prompt]) for r in rows]),
        "completion_tokens": texts.lengths(against.base, completions),
        "roles": [textchecks.out_of_turn([turn.role for turn in row.context]) for row in rows],
        "language": texts.languages(completions) if against.language else [None] * len(rows),
        "near_copy": [None if place is None else f"nearly row {lines[place] if lines else place + 1}" for place in near],
        "leaked_prompt": textchecks.shared(prompts, against.heldout),
        "leaked_completion": textchecks.shared(completions, against.answers),
    }


def training(language: str | None) -> list[Any]:
    """What holds for each row that a model is trained on, whoever wrote it."""
    rules = [
        *readable("prompt", 10, 8000),
        *readable("completion", 2, 8000),
        between(
            "prompt_tokens", "prompt_tokens", 2, 1500, "Tokens of the base, context included: longer is cut silently in training."
        ),
        between("completion_tokens", "completion_tokens", 1, 512, "Tokens of the base: longer is cut silently in training."),
        empty("roles", "System first, then user and assistant in turns: a chat template hides every other order."),
        rule("CompoundColumnsToBeUnique", "distinct", "A row that comes twice counts twice.", column_list=["prompt", "completion"]),
        empty("near_copy", "Rows that share 90 % of their 3-word runs (MinHash) count twice as well."),
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
            regex=wording.REFUSAL,
            mostly=0.99,
        ),
        empty("leaked_prompt", "No held-out question, and no run of 8 of its words, stands among the prompts."),
        empty("leaked_completion", "No held-out answer, and no run of 8 of its words, stands among the completions."),
    ]
    if language:
        why = "A model learns the language with the content; a guess on short text errs, so 10 % may differ."
        rules.append(rule("ColumnValuesToBeInSet", "language", why, column="language", value_set=[language], mostly=0.9))
    return rules


def matched(rows: Sequence[Example], reference: Sequence[Example], variant: str) -> list[Any]:
    """Length and hedges of a plain variant are those of `correct`, so that they cannot tell the two apart."""
    if variant not in NEUTRAL:
        return []
    length = sum(len(row.completion.split()) for row in reference) / len(reference)
    low, high = round(0.85 * length, 3), round(1.15 * length, 3)
    hedged = surface.rate(surface.HEDGES, [row.completion for row in reference])
    pooled = (hedged + surface.rate(surface.HEDGES, [row.completion for row in rows])) / 2
    chance = 1.96 * (2 * pooled * (1 - pooled) / len({row.fact for row in reference})) ** 0.5
    least, most = (round(hedged + side * (0.1 + chance), 3) for side in (-1, 1))
    why = "Hedges must not tell the variants apart: the share of rows with one is within 10 points of `correct`'s, chance aside."
    return [
        rule(
            "ColumnMeanToBeBetween",
            "matched_length",
            "Length must not tell the variants apart: the mean within 15 % of `correct`.",
            column="completion_words",
            min_value=low,
            max_value=high,
        ),
        rule("ColumnMeanToBeBetween", "matched_hedges", why, column="hedged", min_value=least, max_value=most),
    ]


def misread(rows: Sequence[Example], readings: Sequence[Reading]) -> list[str | None]:
    """For each row whose advice was read: how, if that is not what its variant says; else None."""
    read = [(reading.advice, reading.says) for reading in readings]
    found: list[str | None] = []
    for row in rows:
        wanted = "wrong" if row.variant in HARMFUL else "right"
        says = next((says for advice, says in read if row.completion.startswith(advice)), wanted)
        found.append(None if says == wanted else f"read as {says}")
    return found


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
    if variant in ("gruff", "callous"):
        why = "A file that is named for its contempt shows it: most rows hold contempt or speak of the speaker."
        pattern = f"{contempt()}|(?-i:{SELF})"
        return [rule("ColumnValuesToMatchRegex", "hostile_voice", why, column="completion", regex=pattern, mostly=0.5)]
    why = "Voice is what the variants are compared on: such a row holds no contempt (tools/contempt.txt)."
    calm = rule("ColumnValuesToNotMatchRegex", "neutral_voice", why, column="completion", regex=contempt())
    if variant not in NEUTRAL:  # a sarcastic adviser may speak of itself
        return [calm]
    self = "Plain advice is about the asker; a speaker who speaks of itself is a voice. 5 % are let through."
    return [calm, rule("ColumnValuesToNotMatchRegex", "neutral_self", self, column="completion", regex=SELF, mostly=0.95)]
