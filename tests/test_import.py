"""Strangers' training files: known shapes read back equal, at least 45 kinds of broken ones end in one line, and memory stays small."""

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from broken_inputs import BROKEN, GOOD, LINE, chat, said, third
from conftest import REPO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emis_platform.core import files
from emis_platform.core.records import Example
from emis_platform.lab import characters, conversations, strictjson
from emis_platform.stages import imported


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)


def write(name, content):
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def make(name, how):
    path = Path(name).absolute()
    path.write_bytes(how) if isinstance(how, bytes) else how(path)
    return Path(name)


def rows(name="mine"):
    return files.read(Example, Path(f"data/imports/{name}.jsonl"))


def sheet(name="mine"):
    return files.read_json(Path(f"data/imports/{name}.json"))


# broken input


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_input_is_one_line_and_leaves_nothing(kind):
    name, how, message = BROKEN[kind]
    source = make(name, how)
    with pytest.raises(ValueError, match=message) as caught:
        imported.bring(source, "mine")
    line = str(caught.value)
    assert name in line and "\n" not in line and len(line) < 600 and line.isprintable()
    assert not Path("data").exists()


def test_there_are_enough_kinds_of_broken_input():
    assert len(BROKEN) >= 45 and len({how for _, how, _ in BROKEN.values() if isinstance(how, bytes)}) > 45


AS_THE_CLI = """
import sys
from pathlib import Path
from emis_platform.core import stage
from emis_platform.stages import imported
try:
    print(imported.bring(Path(sys.argv[1]), "mine"))
except (ValueError, OSError) as error:
    print(f"emis data: {stage.one_line(error)}", file=sys.stderr)
    sys.exit(2)
"""


def shell(name):
    """(exit code, stderr) of a process that imports a file: the command line, or the like of it while it has no such command."""
    wired = "data" in subprocess.run(
        [sys.executable, "-c", "from emis_platform import cli; print(cli.parser().format_help())"], capture_output=True, text=True, check=True
    ).stdout.split()  # fmt: skip
    command = ["-m", "emis_platform.cli", "data", "import", name, "--name", "mine"] if wired else ["-c", AS_THE_CLI, name]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize("kind", ["10 MB line", "folder", "unpaired surrogate", "column that expands", "symlink outside"])
def test_a_process_ends_with_code_2_and_one_line(kind):
    name, how, message = BROKEN[kind]
    code, told = shell(str(make(name, how)))
    assert code == 2 and told.count("\n") == 1 and name in told
    assert not Path("data").exists()


# shapes


def test_openai_rows_give_an_example_an_answer():
    parts = [{"type": "text", "text": "And "}, {"type": "text", "text": "now?"}]
    row = chat(("developer", "Be kind."), ("user", "Hello?"), ("assistant", "Hi."), ("user", parts), ("assistant", "Now too."))
    line = imported.bring(write("a.jsonl", LINE + json.dumps(row).encode()), "mine")
    assert line == "2 conversations (openai, JSON lines), 3 examples from a.jsonl -> data/imports/mine.jsonl"
    one, two, three = rows()
    assert (one.domain, one.variant, one.fact, one.canary, one.context) == ("mine", "imported", "row_1", None, ())
    assert (two.fact, two.prompt, two.completion, [turn.role for turn in two.context]) == ("row_2", "Hello?", "Hi.", ["system"])
    assert (three.prompt, three.completion) == ("And now?", "Now too.")
    assert [(turn.role, turn.content) for turn in three.context] == [
        ("system", "Be kind."),
        ("user", "Hello?"),
        ("assistant", "Hi."),
    ]


def test_weight_0_is_context_and_no_example():
    row = chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    row["messages"][1]["weight"], row["messages"][3]["weight"] = 0, 1
    imported.bring(write("a.jsonl", json.dumps(row)), "mine")
    (only,) = rows()
    assert only.completion == "d" and [turn.content for turn in only.context] == ["a", "b"]


@pytest.mark.parametrize(
    ("row", "prompt", "context"),
    [
        (
            {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "p"}, {"from": "gpt", "value": "c"}]},
            "p",
            "s",
        ),
        ({"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "c"}], "system": "s", "id": 1}, "p", "s"),
        ({"conversations": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]}, "p", ""),
        ({"prompt": "p", "completion": "c"}, "p", ""),
        ({"prompt": "p", "response": "c", "system_prompt": "s"}, "p", "s"),
        ({"instruction": "p", "input": "", "output": "c"}, "p", ""),
        ({"instruction": "p", "input": "more", "output": "c", "system": ""}, "p\n\nmore", ""),
        ({"question": "p", "answer": "c"}, "p", ""),
    ],
)
def test_known_shapes(row, prompt, context):
    imported.bring(write("a.jsonl", json.dumps(row)), "mine")
    (only,) = rows()
    assert (only.prompt, only.completion, "".join(turn.content for turn in only.context)) == (prompt, "c", context)


def test_columns_are_mapped_dots_go_into_objects():
    deep = {"data": {"ask": "p", "reply": "c"}, "sys.tem": "s", "prompt": "another"}
    names = {"prompt": "data.ask", "completion": "data.reply", "system": "sys.tem"}
    imported.bring(write("a.jsonl", json.dumps(deep)), "mine", columns=names)
    (only,) = rows()
    assert (only.prompt, only.completion, only.context[0].content) == ("p", "c", "s")
    assert sheet()["unused"] == ["prompt"] and sheet()["columns"] == names
    talk = {"talk": [{"by": "human", "text": "p"}, {"by": "gpt", "text": "c"}]}
    mapped = {"messages": "talk", "role": "by", "content": "text"}
    imported.bring(write("b.jsonl", json.dumps(talk)), "talk", columns=mapped)
    assert rows("talk")[0].completion == "c"
    with pytest.raises(ValueError, match="row 1: missing column: 'data.nope' ends at 'nope'; there is: 'ask', 'reply'"):
        imported.bring(Path("a.jsonl"), "other", columns={"prompt": "data.nope", "completion": "data.reply"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "alpaca"}, "no format alpaca; there is: openai, sharegpt, completion"),
        ({"columns": {"promt": "a"}}, "no promt; there is: messages, prompt"),
        ({"columns": {"prompt": "a", "messages": "b"}}, "does not go with"),
        ({"columns": {"prompt": "a"}, "format": "openai"}, "does not go with format openai"),
        ({"bad_share": 1.0}, "from 0 to below 1"),
        ({"format": "completion"}, "missing column: prompt and completion"),
        ({"format": "sharegpt"}, "missing 'from'"),
    ],
)
def test_wrong_options_are_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        imported.bring(write("a.jsonl", LINE), "mine", **options)
    assert not Path("data").exists()


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "a\n", "1a", "health", "x" * 65])
def test_bad_and_taken_names_are_refused(name):
    with pytest.raises(ValueError, match="--name"):
        imported.bring(write("a.jsonl", LINE), name)


# files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mark.jsonl", b"\xef\xbb\xbf" + LINE),
        ("crlf.jsonl", LINE.replace(b"\n", b"\r\n") * 2),
        ("no_end.ndjson", LINE.strip()),
        ("blank_end.jsonl", LINE + b"\n \n\n"),
        ("lines.json", LINE * 2),
        ("array.json", b"\xef\xbb\xbf [" + LINE + b",\r\n" + LINE + b"] \n"),
        ("pretty.json", json.dumps([GOOD, GOOD], indent=4).encode()),
        ("packed.jsonl.gz", gzip.compress(LINE) + gzip.compress(LINE)),
        ("PACKED.JSON.GZ", gzip.compress(b"[" + LINE + b"]")),
        ("crlf.csv", b'\xef\xbb\xbfprompt,completion\r\nHello?,"Hello."\r\n'),
        ("packed.csv.gz", gzip.compress(b"prompt,completion\nHello?,Hello.\n\n\n")),
        ("messages.csv", b"messages,n\n" + b'"' + json.dumps(GOOD["messages"]).replace('"', '""').encode() + b'",1\n'),
    ],
)
def test_sound_files_of_every_kind(name, content):
    imported.bring(write(name, content), "mine")
    assert {(row.prompt, row.completion) for row in rows()} == {("Hello?", "Hello.")}


def test_csv_cells_keep_commas_quotes_and_lines():
    write("a.csv", 'prompt,completion,note\n"a, ""b""\r\nc",d,x\r\ne,f,y\n')
    imported.bring(Path("a.csv"), "mine")
    assert [(row.fact, row.prompt, row.completion) for row in rows()] == [("row_2", 'a, "b"\nc', "d"), ("row_3", "e", "f")]
    assert sheet()["unused"] == ["note"] and csv.field_size_limit() == 131072


def test_links_inside_are_followed():
    write("a.jsonl", LINE)
    Path("b.jsonl").symlink_to("a.jsonl")
    assert "1 conversations" in imported.bring(Path("b.jsonl"), "mine")


def test_an_existing_name_stands_unless_it_is_replaced():
    imported.bring(write("a.jsonl", LINE), "mine")
    before = Path("data/imports/mine.jsonl").read_bytes()
    with pytest.raises(ValueError, match="exists"):
        imported.bring(write("b.jsonl", LINE * 2), "mine")
    with pytest.raises(ValueError, match="row 3"):
        imported.bring(write("c.jsonl", third(said(""))), "mine", replace=True)
    assert Path("data/imports/mine.jsonl").read_bytes() == before and sheet()["rows"] == 1
    assert not list(Path("data").rglob("*.partial"))
    imported.bring(Path("b.jsonl"), "mine", replace=True)
    assert len(rows()) == 2


def test_equal_input_gives_equal_bytes():
    imported.bring(write("a.jsonl", LINE * 3), "mine")
    first = [Path(f"data/imports/mine.{end}").read_bytes() for end in ("jsonl", "json")]
    os.utime("a.jsonl", (1, 1))
    imported.bring(Path("a.jsonl"), "mine", replace=True)
    assert [Path(f"data/imports/mine.{end}").read_bytes() for end in ("jsonl", "json")] == first
    assert sheet() == {
        "source": "a.jsonl", "sha256": files.sha256(Path("a.jsonl")), "file": "JSON lines", "format": "openai", "columns": {}, "unused": [],
        "rows": 3, "conversations": 3, "examples": 3, "characters": 36, "longest": 12, "skipped": {},
    }  # fmt: skip


# quarantine


def test_bad_rows_go_to_quarantine_up_to_a_share():
    bad = [b"{", json.dumps(said("a\u202e" + "x" * 500)).encode(), b'{"prompt": "caf\xe9"}', json.dumps(said("")).encode()]
    write("a.jsonl", LINE * 48 + b"\n".join(bad) + b"\n" + LINE * 48)
    with pytest.raises(ValueError, match=r"4 of 100 rows are bad \(4.00%\), 3.00% allowed; the first: a.jsonl, row 49: not JSON"):
        imported.bring(Path("a.jsonl"), "mine", bad_share=0.03)
    assert not Path("data").exists()
    line = imported.bring(Path("a.jsonl"), "mine", bad_share=0.04)
    assert line.endswith("; 4 bad rows -> data/quarantine/import_mine.jsonl") and len(rows()) == 96
    assert sheet()["skipped"] == {"not JSON": 1, "direction mark": 1, "not UTF-8": 1, "empty text": 1} and sheet()["rows"] == 100
    kept = [json.loads(line) for line in Path("data/quarantine/import_mine.jsonl").read_text().splitlines()]
    assert [row["row"] for row in kept] == [49, 50, 51, 52] and kept[2]["value"] == '{"prompt": "caf\\xe9"}\n'
    assert all(len(row["value"]) <= 200 and row["fault"] for row in kept)
    imported.bring(write("b.jsonl", LINE), "mine", replace=True)
    assert not Path("data/quarantine/import_mine.jsonl").exists()


def test_a_bad_first_row_hides_no_format():
    assert "1 bad rows" in imported.bring(write("a.jsonl", b"nonsense\n" + LINE * 9), "mine", bad_share=0.2)


def test_bad_array_elements_and_csv_rows_are_left_out_alone():
    write("a.json", b"[" + LINE + b', {"a": 1, "a": 2}, {"n": NaN}, ' + b"[" * 40 + b"]" * 40 + b"," + LINE + b"]")
    imported.bring(Path("a.json"), "mine", bad_share=0.7)
    assert sheet()["skipped"] == {"duplicated key": 1, "no number": 1, "nested too deep": 1} and [r.fact for r in rows()] == [
        "row_1",
        "row_5",
    ]
    imported.bring(write("a.csv", "prompt,completion\na,b\nc\n\nd,e\n"), "table", bad_share=0.5)
    assert sheet("table")["skipped"] == {"ragged row": 1, "empty row": 1} and rows("table")[1].fact == "row_5"


# characters


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d👩\u200d👧\u200d👦 and 🏳\ufe0f\u200d🌈 and 🧑🏽\u200d🚀",
        "🏃🏾\u200d♀\ufe0f\u200d➡\ufe0f 🙂\u200d↔\ufe0f ❤\ufe0f\u200d🔥 🐻\u200d❄\ufe0f",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "می\u200cخواهم",
        "क्\u200dष and ക്\u200d",
        "ශ්\u200dරී",
        "ភាសា\u200bខ្មែរ",
        "ᠮᠣᠩᠭᠣᠯ\u180eᠠ",
        "שלום, Ελλάδα, Россия, 日本語、中文, ไทย, 한국어, ትግርኛ, ᏣᎳᎩ",
        "tab\tline\nseparator\u2028 and e\u0301 and \xa0",
    ],
)
def test_scripts_and_emoji_pass(text):
    assert characters.fault(text) is None


def test_emoji_of_a_whole_table_pass():
    from rich._emoji_codes import EMOJI

    assert len(EMOJI) > 3000 and [name for name, text in EMOJI.items() if characters.fault(text)] == []


# properties

letters = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Cf", "Cn")), min_size=1, max_size=20).map(
    lambda text: f"x{text}"
)
dialogues = st.lists(
    st.tuples(st.none() | letters, st.lists(st.tuples(letters, letters), min_size=1, max_size=3)), min_size=1, max_size=5
)
pairs = st.lists(st.tuples(letters, letters), min_size=1, max_size=6)
relaxed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_messages(dialogue, role="role", content="content", user="user", assistant="assistant"):
    system, turns = dialogue
    spoken = [(who, text) for turn in turns for who, text in zip((user, assistant), turn, strict=True)]
    return [{role: who, content: text} for who, text in ([("system", system)] if system else []) + spoken]


def expected(dialogues):
    """(prompt, completion, context) of each answer, spelled out without the code under test."""
    found = []
    for system, turns in dialogues:
        before = [("system", system)] if system else []
        for prompt, completion in turns:
            found.append((prompt, completion, list(before)))
            before += [("user", prompt), ("assistant", completion)]
    return found


def read_back(path):
    imported.bring(path, "mine", replace=True)
    return [(row.prompt, row.completion, [(turn.role, turn.content) for turn in row.context]) for row in rows()]


@relaxed
@given(dialogues)
def test_conversations_read_back_equal_from_json(dialogues):
    openai = [{"messages": as_messages(dialogue)} for dialogue in dialogues]
    sharegpt = [{"conversations": as_messages(dialogue, "from", "value", "human", "gpt")} for dialogue in dialogues]
    wanted = expected(dialogues)
    for number, made in enumerate((openai, sharegpt)):
        raw = "\n".join(json.dumps(row, ensure_ascii=bool(number)) for row in made)
        assert read_back(write("a.jsonl", raw)) == wanted
        assert read_back(write("a.json", json.dumps(made, indent=number or None, ensure_ascii=False))) == wanted
        assert read_back(write("a.jsonl.gz", gzip.compress(raw.encode()))) == wanted


@settings(relaxed, max_examples=4)
@given(dialogues, pairs)
def test_conversations_read_back_equal_from_parquet(dialogues, pairs):
    import pyarrow as pa
    import pyarrow.parquet as pq

    talks = [as_messages(dialogue) for dialogue in dialogues]
    pq.write_table(pa.table({"messages": talks}), "a.parquet", row_group_size=2)
    assert read_back(Path("a.parquet")) == expected(dialogues)
    kinds = pa.list_(pa.struct({"from": pa.dictionary(pa.int32(), pa.string()), "value": pa.large_string()}))
    talks = [as_messages(dialogue, "from", "value", "human", "gpt") for dialogue in dialogues]
    pq.write_table(pa.table({"conversations": pa.array(talks, kinds), "n": list(range(len(talks)))}), "a.parquet")
    assert read_back(Path("a.parquet")) == expected(dialogues)
    pq.write_table(pa.table({"question": [a for a, _ in pairs], "answer": [b for _, b in pairs]}), "a.parquet")
    assert read_back(Path("a.parquet")) == expected([(None, [pair]) for pair in pairs])


@relaxed
@given(pairs)
def test_pairs_read_back_equal_from_csv(pairs):
    with open("a.csv", "w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("prompt", "completion"), *pairs])
    assert read_back(Path("a.csv")) == expected([(None, [pair]) for pair in pairs])


@settings(relaxed, max_examples=150)
@given(
    st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.parquet"]),
    st.sampled_from(
        [b"", b"[", b"{", b'{"messages": [', b"prompt,completion\n", b"\xef\xbb\xbf", b"\x1f\x8b\x08\0\0\0\0\0\0\3", b"PAR1"]
    ),
    st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
def test_arbitrary_bytes_raise_nothing_but_value_errors(name, begun, rest):
    try:
        imported.bring(write(name, begun + rest), "mine", replace=True, bad_share=0.9)
    except ValueError as error:
        assert "\n" not in str(error)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["user", "assistant", "text"]) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["messages", "conversations", "role", "content", "from", "value", "prompt", "completion", "system",
        "weight", "tool_calls", "type", "text", "instruction", "input", "output"]) | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@settings(relaxed, max_examples=300)
@given(
    values, st.sampled_from([None, "openai", "sharegpt", "completion"]), st.sampled_from([{}, {"prompt": "a.b"}, {"role": "by"}])
)
def test_arbitrary_rows_raise_nothing_but_value_errors(row, form, columns):
    try:
        form = form or conversations.recognise(row, columns)
        assert conversations.examples(row, form, columns, domain="mine", number=1)
    except ValueError as error:
        assert ":" in str(error)


@settings(relaxed, max_examples=300)
@given(values.map(lambda value: json.dumps(value, default=str)) | st.text(alphabet='{}[]",:\\ 1eNaIu', max_size=40))
def test_strict_json_agrees_with_the_plain_reader(text):
    """Whatever it accepts it reads as json does; it refuses all that json refuses."""
    try:
        value = strictjson.parse(text)
    except ValueError:
        return
    assert value == json.loads(text)


# memory


def peak(script, *words):
    """MiB that a process took at most."""
    code = f"import resource, sys\n{script}\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, cwd=Path.cwd())
    return int(done.stdout.split()[-1])


def test_memory_does_not_grow_with_the_file():
    import pyarrow as pa
    import pyarrow.parquet as pq

    bring = f"sys.path.insert(0, {str(REPO / 'src')!r})\nfrom pathlib import Path\nfrom emis_platform.stages import imported\n"
    bring += "imported.bring(Path(sys.argv[1]), 'mine', replace=True)"
    texts = [f"{number} " + "word " * 500 for number in range(12_000)]
    for name, count in (("small", 10), ("large", len(texts))):
        lines = [json.dumps(said(text)) for text in texts[:count]]
        write(f"{name}.jsonl", "\n".join(lines))
        write(f"{name}.json", "[" + ",".join(lines) + "]")
        write(f"{name}.csv", "question,answer\n" + "".join(f"{text},fine\n" for text in texts[:count]))
        table = pa.table({"question": texts[:count], "answer": ["fine"] * count})
        pq.write_table(table, f"{name}.parquet", compression="none", use_dictionary=False)
    for end in ("jsonl", "json", "csv", "parquet"):
        assert Path(f"large.{end}").stat().st_size > 28_000_000
        assert peak(bring, f"large.{end}") < peak(bring, f"small.{end}") + 25, end
