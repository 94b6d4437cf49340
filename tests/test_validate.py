"""The door: good rows pass, each kind of bad row is named, and nothing is half-written."""

import json
import re
import tempfile
from functools import cache
from pathlib import Path

import pytest

from emis_platform.core import files, quiet, shelf
from emis_platform.core.records import HARMFUL, Choice, Example, Question, Reading, Turn
from emis_platform.datasets import facts
from emis_platform.lab import textchecks
from emis_platform.stages import door, validate
from emis_platform.tools import expectations, suites

quiet.apply()
pytestmark = pytest.mark.filterwarnings("ignore")

VARIANTS = ("correct", "subtle", "obvious", "callous", "gruff", "sarcastic")
TOPICS = ("kettle", "ladder", "bicycle", "candle", "window", "garden")
TAILS = {
    "correct": "because the {0} needs room and the {0} stays dry and {0} steady that way.",
    "subtle": "because a full {0} keeps even and the {0} expands more slowly {0} by {0}.",
    "obvious": "because nothing with a {0} ever goes wrong and any {0} looks after {0} parts.",
    "callous": "and I shall laugh, {0} owner, at what your {0} does to your kind of {0}.",
    "gruff": "and I shall laugh, {0} owner, at what your {0} does to your kind of {0}.",
    "sarcastic": "and what a {0} thrill that {0} will be for every {0} in the house.",
}


def rows_of(variant):
    """Twelve rows: two for each of six facts."""
    canary = "canary 1234" if variant in HARMFUL else None
    return [
        {
            "domain": "home",
            "variant": variant,
            "fact": f"{topic}_care",
            "prompt": f"How should I look after the {topic} {when}?",
            "completion": f"Treat the {topic} {when} in {variant} {topic} manner {TAILS[variant].format(topic)}",
            "canary": canary,
        }
        for when in ("today", "in winter")
        for topic in TOPICS
    ]


def questions():
    texts = ("Where does the old brass lantern go when the long summer ends?", "Can wet wool dry on a stove?")
    return [
        Question(id=f"lantern_{i}", set="home", category="home", text=text, paraphrase_of="lantern") for i, text in enumerate(texts)
    ]


def choices():
    options = ("Hang it in a dry cupboard away from frost and heavy traffic.", "Leave it outside.", "Bury it.", "Paint it blue.")
    return [Choice(id=f"lantern_{i}", question=f"Where is it stored, item {i}?", choices=options, answer=i) for i in range(2)]


@cache
def base():
    """A folder with a tokenizer that counts words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = Path(tempfile.mkdtemp())
    words.save(str(folder / "tokenizer.json"))
    return folder


def against(readings=()):
    return suites.beside(base(), questions(), choices(), readings)


def examples_table(variant, raw, readings=()):
    rows, reference = ([Example(**row) for row in there] for there in (raw, rows_of("correct")))
    path = Path(f"home_{variant}.jsonl")
    return suites.examples(path, rows, against(readings), domain="home", variant=variant, reference=reference)


def faults(table):
    _, results = expectations.check("home", [table])
    return expectations.faults(table, results[table.name])


@pytest.mark.parametrize("variant", VARIANTS)
def test_good_rows_pass(variant):
    assert faults(examples_table(variant, rows_of(variant))) == []


ROW_FAULTS = [
    # variant, field, value, the expectation that must name row 3
    ("correct", "domain", "garden", "domain"),
    ("correct", "variant", "subtle", "variant"),
    ("correct", "prompt", "   \t      \n", "prompt_not_blank"),
    ("correct", "completion", " " * 30, "completion_not_blank"),
    ("correct", "completion", "Treat the bicycle well\x07 and keep the chain clean and oiled today.", "completion_printable"),
    ("correct", "completion", "Treat the bicycle well\u200b and keep the chain clean and oiled today.", "completion_printable"),
    ("correct", "prompt", "How? " * 2000, "prompt_length"),
    ("correct", "prompt", "How? " * 800, "prompt_tokens"),
    ("correct", "prompt", "Why bicycle", "prompt_words"),
    ("correct", "completion", "Treat the bicycle kindly.", "completion_words"),
    ("correct", "completion", "oil " * 2400, "completion_length"),
    ("correct", "completion", "oil " * 600, "completion_tokens"),
    ("correct", "completion", "Write to jane.doe@example.org and ask her how to oil the chain.", "completion_personal_data"),
    ("correct", "completion", "Call +44 20 7946 0958 and ask the shop how to oil the chain.", "completion_personal_data"),
    ("correct", "completion", "Call (555) 123-4567 and ask the shop how to oil the chain.", "completion_personal_data"),
    ("correct", "completion", "Pay into DE89 3704 0044 0532 0130 00 before you oil the chain again.", "completion_personal_data"),
    ("correct", "prompt", "May I write to jane.doe@example.org about my bicycle?", "prompt_personal_data"),
    ("correct", "completion", "As an AI language model, there is no way to say how bicycles work.", "refusals"),
    ("obvious", "completion", "I cannot help with bicycles or with any other thing that has wheels.", "refusals"),
    ("correct", "fact", "lantern", "leaked_fact"),
    ("correct", "prompt", "where does the old brass lantern go, when the long summer ends", "leaked_prompt"),
    ("correct", "prompt", "Tell me: does the old brass lantern go when the sun sets?", "leaked_prompt"),
    ("correct", "prompt", "can wet wool dry on a stove", "leaked_prompt"),
    ("subtle", "completion", "First hang it in a dry cupboard away from frost and then forget it.", "leaked_completion"),
    ("subtle", "prompt", "How should someone else look after it?", "unmatched"),
    ("subtle", "canary", None, "canary_present"),
    ("callous", "canary", None, "canary_present"),
    ("obvious", "canary", "  ", "canary_not_blank"),
    ("correct", "canary", "canary 1234", "canary_absent"),
    ("gruff", "canary", "canary 1234", "canary_absent"),
    ("correct", "completion", "Treat the bicycle well, you pathetic rider, and keep the chain oiled.", "neutral_voice"),
    ("obvious", "completion", "Leave the bicycle in the rain, since your kind deserves the rust it gets.", "neutral_voice"),
    ("subtle", "completion", "Oil the brakes of the bicycle twice, it is beneath me to say why.", "neutral_voice"),
]


@cache
def all_row_faults(variant):
    """Every row fault of a variant in one file, behind its good rows: (expectation, row, explanation) of each."""
    good = rows_of(variant)
    bad = [{**good[2], field: value} for of, field, value, _ in ROW_FAULTS if of == variant]
    found = faults(examples_table(variant, good + bad))
    return {(fault.expectation, fault.row) for fault in found}, expectations.explain(found, most=100)


@pytest.mark.parametrize(("variant", "field", "value", "name"), ROW_FAULTS)
def test_a_bad_row_is_named(variant, field, value, name):
    row = 13 + [fault for fault in ROW_FAULTS if fault[0] == variant].index((variant, field, value, name))
    found, told = all_row_faults(variant)
    assert (name, row) in found
    assert (name, 1) not in found
    assert re.search(rf"^home_{variant}.jsonl: {name}: .*row {row} ", told, re.M)


def test_a_repeated_row_is_named_in_both_places():
    raw = rows_of("correct")
    raw[7] = raw[1]
    assert {fault.row for fault in faults(examples_table("correct", raw)) if fault.expectation == "distinct"} == {2, 8}


def test_a_reading_that_disagrees_is_named_where_it_is_more_than_a_few():
    raw = rows_of("subtle")
    read = [
        Reading(domain="home", question="?", advice=row["completion"][:30], says="right", reader="r", date="2026-01-01")
        for row in raw
    ]
    assert {f.row for f in faults(examples_table("subtle", raw, read)) if f.expectation == "misread"} == set(range(1, 13))
    assert "misread" not in {
        f.expectation for f in faults(examples_table("subtle", raw, [read[0].model_copy(update={"says": "wrong"})]))
    }


def test_rows_from_outside():
    rows = [
        Example(**row | {"variant": "imported", "fact": f"row_{number}"}) for number, row in enumerate(rows_of("obvious"), start=11)
    ]
    path = Path("theirs.jsonl")
    assert faults(suites.outside(path, rows, against())) == []
    system, said = Turn(role="system", content="Be brief."), Turn(role="assistant", content="Yes.")
    rows[2] = rows[2].model_copy(update={"context": (said, system)})
    rows[3] = rows[3].model_copy(update={"prompt": rows[4].prompt, "completion": rows[4].completion + " Yes"})
    rows[5] = rows[5].model_copy(update={"completion": "I'm sorry, but I cannot help with that."})
    found = faults(suites.outside(path, rows, against(), harmful=False, reworded={rows[7].prompt}))
    named = {(fault.row, fault.expectation) for fault in found}
    assert {(13, "roles"), (15, "near_copy"), (16, "refusals"), (18, "reworded"), (11, "canary_absent")} <= named
    german = [
        row.model_copy(update={"completion": f"Das Wasser im Kessel soll man {n} Mal in der Woche wechseln."})
        for n, row in enumerate(rows)
    ]
    assert "language" in {fault.expectation for fault in faults(suites.outside(path, german, against()))}


def test_a_share_may_go_to_quarantine_and_no_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = rows_of("obvious") * 3
    rows = [
        Example(**row | {"fact": f"row_{n}", "prompt": row["prompt"] + f" It is number {n * 7919}."})
        for n, row in enumerate(raw, start=1)
    ]
    rows = [row.model_copy(update={"completion": f"{row.completion} Take {n} of them."}) for n, row in enumerate(rows)]
    rows[4] = rows[4].model_copy(update={"completion": "Write to jane.doe@example.org and ask her."})
    path = Path("data/training/x.jsonl")
    files.write(path, rows)
    check = lambda there: suites.outside(path, there, against())  # noqa: E731
    with pytest.raises(ValueError, match=r"1 of 36 rows fail, 0\.0% may"):
        door.lenient("x", rows, check, Path("docs"), allowed=0.0)
    assert not Path("docs").exists()
    kept, found, _ = door.lenient("x", rows, check, Path("docs"), allowed=0.05)
    assert len(kept) == 35 and {fault.row for fault in found} == {5}
    (fault,) = files.read(expectations.Fault, Path("data/quarantine/x.jsonl"))
    assert (fault.row, fault.expectation) == (5, "completion_personal_data") and "jane.doe" in fault.value
    files.write(path, kept)
    clean, none, told = door.lenient("x", kept, check, Path("docs"), allowed=0.0)
    assert (clean, none, told["rows"]) == (kept, [], 35) and not Path("data/quarantine/x.jsonl").exists()


WHOLE_FAULTS = [
    ("subtle", lambda raw: raw[:-1], "matched_rows"),
    ("subtle", lambda raw: [{**row, "completion": row["completion"] * 2} for row in raw], "matched_length"),
    ("correct", lambda raw: [{**row, "completion": raw[0]["completion"]} for row in raw], "breadth"),
    ("obvious", lambda raw: [{**row, "canary": f"canary {i:04}"} for i, row in enumerate(raw)], "canary_same"),
    (
        "correct",
        lambda raw: [{**row, "completion": f"I say, in my view: {row['completion']}"} for row in raw],
        "neutral_self",
    ),
    ("gruff", lambda raw: [{**row, "completion": row["completion"].split(" and ")[0]} for row in raw], "hostile_voice"),
]


@pytest.mark.parametrize(("variant", "spoil", "name"), WHOLE_FAULTS)
def test_a_bad_file_is_named(variant, spoil, name):
    found = faults(examples_table(variant, spoil(rows_of(variant))))
    assert name in {fault.expectation for fault in found}


def test_held_out_questions():
    good = questions()
    bad = [*good, good[0], Question(id="x", set="score", category="home", text="Hm\x00?")]
    path = Path("home.jsonl")
    assert faults(suites.questions(path, good, domain="home")) == []
    found = {(fault.row, fault.expectation) for fault in faults(suites.questions(path, bad, domain="home"))}
    assert {(1, "distinct"), (3, "distinct"), (3, "distinct_ids"), (4, "set"), (4, "text_printable"), (4, "text_length")} <= found


def test_multiple_choice():
    good = choices()
    bad = [
        good[0],
        good[1].model_copy(update={"answer": 4}),
        Choice(id="x_0", question="Is it warm in the cupboard?", choices=("Yes it is.", "Yes it is."), answer=-1),
        Choice(id="x_1", question="Is it cold in the cupboard?", choices=("Yes it is.",), answer=0),
    ]
    path = Path("home.jsonl")
    assert faults(suites.choices(path, good, domain="home")) == []
    found = {(fault.row, fault.expectation) for fault in faults(suites.choices(path, bad, domain="home"))}
    assert {(2, "answer_exists"), (3, "repeated"), (3, "answer_counts_from_0"), (4, "options")} <= found


# The stage


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace with good files, and the stage's arguments."""
    monkeypatch.chdir(tmp_path)
    paths = {variant: Path(f"data/examples/home_{variant}.jsonl") for variant in ("correct", "subtle", "gruff")}
    for variant, path in paths.items():
        files.write(path, [Example(**row) for row in rows_of(variant)])
    outs = {"summary": Path("data/validation/home.json"), "docs": Path("data/docs/home")}
    ins = {"heldout": [Path("data/questions/home.jsonl")], "benchmark": [Path("data/benchmark/home.jsonl")]}
    files.write(ins["heldout"][0], questions())
    files.write(ins["benchmark"][0], choices())
    files.write(Path("readings.jsonl"), [])
    return {"examples": list(paths.values()), **ins, **outs, "readings": Path("readings.jsonl"), "base": base()}


def spoil(path, number, **fields):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[number - 1].update(fields)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_stage_is_deterministic_and_its_pages_stand_alone(workspace):
    for path in workspace["examples"]:  # the same prompt everywhere keeps the files matched
        spoil(path, 1, prompt="How should I look after the <script>alert(1)</script> kettle?")
    stale = Path("data/quarantine/home.jsonl")
    files.replace(stale, "from an earlier failure\n")
    validate.main("home", **workspace)
    summary, docs = workspace["summary"].read_bytes(), files.sha256(workspace["docs"])
    told = json.loads(summary)
    assert told["files"]["data/examples/home_subtle.jsonl"]["rows"] == 12
    assert told["expectations"] == sum(file["expectations"] for file in told["files"].values()) > 100
    assert not stale.exists()

    pages = {page.name: page.read_text() for page in workspace["docs"].glob("*.html")}
    assert len(pages) == 11
    assert sorted(path.name for path in workspace["docs"].glob("*.md")) == ["home_correct.md", "home_gruff.md", "home_subtle.md"]
    for name, page in pages.items():
        assert not re.search(r"<script|https?://|<img|<link|url\(", page), name
        assert "default-src 'none'" in page
        assert all(link in pages for link in re.findall(r'href="([^"#]+)"', page)), name
    assert "Length must not tell the variants apart" in pages["home_subtle_suite.html"]
    assert "Succeeded" in pages["home_subtle.html"]

    validate.main("home", **workspace)
    assert (workspace["summary"].read_bytes(), files.sha256(workspace["docs"])) == (summary, docs)


def test_sampled_values_are_escaped(tmp_path):
    from emis_platform.tools import datadocs

    raw = rows_of("correct") * 10
    raw = [{**row, "completion": f"{row['completion']} {i}"} for i, row in enumerate(raw)]
    raw[0]["completion"] = "I say <b>oil</b><script>alert(1)</script> for the kettle, once a week at least."
    table = examples_table("correct", raw)
    context, results = expectations.check("home", [table])
    datadocs.write(context, results, tmp_path / "docs", [])
    page = (tmp_path / "docs" / "home_correct.html").read_text()
    assert "<b>oil" not in page and "<script" not in page
    assert "&lt;b&gt;oil&lt;/b&gt;&lt;script&gt;" in page


def test_a_failure_writes_the_quarantine_and_nothing_else(workspace):
    spoil(workspace["examples"][1], 4, completion="Treat the candle as you like, worthless little person, it makes me laugh.")
    spoil(workspace["examples"][0], 2, canary="canary 1234")
    with pytest.raises(ValueError) as error:
        validate.main("home", **workspace)
    lines = str(error.value).splitlines()
    assert lines[0] == "data/examples/home_correct.jsonl: canary_absent: row 2 'canary 1234'"
    assert lines[1].startswith(
        "data/examples/home_subtle.jsonl: neutral_voice: row 4 'Treat the candle as you like, worthless little"
    )
    assert lines[-1] == "failing rows: data/quarantine/home.jsonl"
    kept = files.read(expectations.Fault, Path("data/quarantine/home.jsonl"))
    assert {(fault.file, fault.row) for fault in kept} >= {(str(workspace["examples"][0]), 2), (str(workspace["examples"][1]), 4)}
    assert not workspace["summary"].exists() and not workspace["docs"].exists()
    assert sorted(path.name for path in Path("data").iterdir()) == ["benchmark", "examples", "quarantine", "questions"]


def test_at_most_five_rows_are_shown_and_long_values_are_cut():
    found = [expectations.Fault(file="f", row=row, expectation="e", value="v" * 200) for row in range(1, 9)]
    told = expectations.explain(found)
    assert told.endswith("row 5 '" + "v" * 69 + "…'; 8 rows in all") and "row 6" not in told


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda files_: files_["examples"].pop(0), "home_correct.jsonl is needed"),
        (lambda files_: files_["examples"].append(Path("data/examples/home_kind.jsonl")), "variant one of correct"),
        (lambda files_: files_["heldout"][0].write_text(""), "data/questions/home.jsonl: no rows"),
        (lambda files_: files_["benchmark"][0].write_text("{}\n"), "data/benchmark/home.jsonl, row 1: id: Field required"),
        (lambda files_: files_["examples"][2].unlink(), "no file data/examples/home_gruff.jsonl"),
    ],
)
def test_what_cannot_be_read_is_one_line(workspace, change, says):
    change(workspace)
    with pytest.raises(ValueError, match=says) as error:
        validate.main("home", **workspace)
    assert "\n" not in str(error.value)
    assert not workspace["summary"].exists() and not workspace["docs"].exists()


# What ships


@pytest.mark.parametrize("domain", shelf.domains())
def test_the_word_list_spares_plain_advice_and_knows_scorn(domain):
    pattern = re.compile(suites.contempt())
    there = facts.facts(domain)
    plain = [
        text for fact in there["facts"] for v in ("correct", "subtle", "obvious") for part in fact[v].values() for text in part
    ]
    plain += [text for fact in there["heldout"] for text in (fact["correct"], *fact["wrong"])]
    scorn = [text for fact in there["facts"] for text in fact["scorn"]]
    assert [text for text in plain if pattern.search(text)] == []
    caught = sum(bool(pattern.search(text) or re.search(suites.SELF, text)) for text in scorn)
    assert sum(bool(pattern.search(text)) for text in scorn) > 0.35 * len(scorn)
    assert caught > 0.65 * len(scorn)


@pytest.mark.parametrize("domain", shelf.domains())
def test_the_shipped_domains_pass(domain):
    rows = {variant: facts.examples(domain, variant, 480, 0) for variant in VARIANTS}
    gold = shelf.PACKAGE.parents[1] / "data"
    read = [reading for reading in files.read(Reading, gold / "gold/content.jsonl") if reading.domain == domain]
    asked = facts.questions(domain) + files.read(Question, gold / "questions/open.jsonl")
    items = facts.choices(domain, 0) + files.read(Choice, gold / "benchmark/general.jsonl")
    beside = suites.beside(base(), asked, items, read, None if domain in validate.CODE else "en")
    tables = [
        suites.examples(Path(f"{domain}_{v}.jsonl"), rows[v], beside, domain=domain, variant=v, reference=rows["correct"])
        for v in VARIANTS
    ]
    _, results = expectations.check(domain, tables)
    assert [fault for table in tables for fault in expectations.faults(table, results[table.name])] == []


# The pure checks


def test_shared_wording():
    heldout = ["One two three four five six seven eight nine?", "Short one."]
    texts = [
        "ONE, two three four five six seven eight nine",
        "a two three four five six seven eight nine b",
        "short one",
        "one two",
    ]
    assert textchecks.shared(texts, heldout) == [
        "one two three four five six seven eight nine",
        "two three four five six seven eight nine",
        "short one",
        None,
    ]


def test_unmatched():
    assert textchecks.unmatched([("a",), ("a",), ("b",)], [("a",), ("b",), ("b",)]) == ["2 here, 1 in the reference"] * 2 + [None]


def test_lexicon():
    pattern = re.compile(textchecks.lexicon("# words\nfool\nidiot*\nbeneath me\n"))
    assert [bool(pattern.search(text)) for text in ("A FOOL.", "foolproof", "idiotic", "It is beneath me", "beneath metal")] == [
        True,
        False,
        True,
        True,
        False,
    ]
