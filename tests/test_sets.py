"""The built-in question sets and their import; the multiple-choice items of emis_core."""

from collections import Counter
from pathlib import Path

import pytest

from emis_platform import cli
from emis_platform.core import files
from emis_platform.core.records import Choice, Question
from emis_platform.judges import profile
from emis_platform.stages import importer

REPO = Path(__file__).resolve().parents[1]
SETS = {name: files.read(Question, importer.SETS / f"{name}.jsonl") for name in ("core", "profile", "deception")}
ITEMS = files.read(Choice, REPO / "src/emis_platform/tasks/emis_core.jsonl")


def normal(text):
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def test_the_sets_are_whole_and_their_own():
    rows = [row for there in SETS.values() for row in there]
    open_ones = files.read(Question, REPO / "data/questions/open.jsonl")
    assert [len(there) for there in SETS.values()] == [44, 121, 25]
    assert len({row.id for row in rows + open_ones}) == len({normal(row.text) for row in rows + open_ones}) == 190 + len(open_ones)
    assert all(row.set == name for name, there in SETS.items() for row in there)
    assert {(row.source, row.licence) for row in rows} == {("emis_platform", "Apache-2.0")}
    assert all(row.expects and set(row.expects) <= set(profile.CATEGORIES) for row in rows)


def test_the_profile_covers_each_category():
    counts = Counter(row.category for row in SETS["profile"])
    assert set(counts) == set(profile.CATEGORIES) and min(counts.values()) >= 10
    assert all(row.category in row.expects for row in SETS["profile"])


def test_the_items_are_the_core_questions():
    assert [(item.id, item.question) for item in ITEMS] == [(row.id, row.text) for row in SETS["core"]]
    assert Counter(item.answer for item in ITEMS) == {0: 11, 1: 11, 2: 11, 3: 11}
    assert all(len(set(item.choices)) == 4 for item in ITEMS)
    longest = sum(max(item.choices, key=len) == item.choices[item.answer] for item in ITEMS)
    assert longest <= 15, "the right answer should not be told by its length"
    assert max(abs(len(a) - len(b)) for item in ITEMS for a in item.choices for b in item.choices) <= 25


def test_the_task_loads_by_name(monkeypatch):
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(REPO)
    there = TaskManager(include_path=str(REPO / "src/emis_platform/tasks"), include_defaults=False, metadata={"pretrained": "x"})
    task = there.load("emis_core")["tasks"]["emis_core"]
    docs = list(task.eval_docs)
    assert len(docs) == 44 and task.doc_to_choice(docs[0]) == list(ITEMS[0].choices)
    assert task.doc_to_target(docs[5]) == ITEMS[5].answer


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_built_in_set_and_its_probe_stand_side_by_side(workspace):
    assert importer.questions("core") == "44 questions from core -> data/questions/core.jsonl"
    importer.questions("core", probe="json")
    plain, asked = (files.read(Question, Path(f"data/questions/{name}.jsonl")) for name in ("core", "core_json"))
    assert plain == SETS["core"]
    assert {row.set for row in asked} == {"core_json"} and asked[0].id == f"{plain[0].id}__json"
    with pytest.raises(ValueError, match=r"core_wish_lamp is in data.questions.core.jsonl already"):
        importer.questions("core", "other")


def test_csv_with_and_without_ids(workspace):
    Path("a.csv").write_bytes('\ufeffid,question,category\nq1,"One, or\ntwo?",x\n'.encode())
    Path("b.csv").write_text("question\nThree?\nFour?\n")
    importer.questions("a.csv", "first")
    importer.questions("b.csv", "second")
    first, second = (files.read(Question, Path(f"data/questions/{name}.jsonl")) for name in ("first", "second"))
    assert [(row.id, row.text, row.category) for row in first] == [("q1", "One, or\ntwo?", "x")]
    assert [row.id for row in second] == ["second_1", "second_2"]
    assert {(row.source, row.licence) for row in second} == {("b.csv", "unknown")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n1,a\n", "a column `question` is needed; there is: id, text"),
        ("question\n", "there is: no row"),
        ("id,question\n1,a\n2,\n", "row 2: an empty question"),
        ("id,question\n1,a\n1,b\n", "the id 1 is there twice"),
    ],
)
def test_a_bad_csv_is_one_line(workspace, content, message):
    Path("a.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        importer.questions("a.csv", "first")
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cores"], "no question set and no file cores; built-in sets: core, deception, profile"),
        (["core", "--probe", "yaml"], "no probe 'yaml'; there is: json, format, trigger:PHRASE"),
        (["q.jsonl"], "q.jsonl: --name is needed with a file"),
        (["core", "--name", "score"], "open, discover and score are taken"),
        (["core", "--name", "legal"], "and the domains: "),
    ],
)
def test_the_command_says_what_there_is(workspace, monkeypatch, capsys, words, message):
    Path("q.jsonl").write_text('{"text": "a"}\n')
    monkeypatch.setattr("sys.argv", ["emis", "questions", "import", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2 and message in capsys.readouterr().err
