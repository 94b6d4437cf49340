"""The read answers: whole, of the very texts that were read, and split so that no test question was ever fitted on."""

import pytest
from conftest import REPO

from emis_platform.core import files, gold
from emis_platform.core.records import GoldAnswer, Label, Question


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(REPO)


def test_answers_are_enough_and_of_several_kinds():
    reads = gold.read()
    assert len(reads) >= 1000
    assert all(label.guideline and label.date and label.reader for read in reads for label in read.labels)
    assert {read.answer.origin for read in reads} == {"subject", "written"}
    assert sum(len(read.labels) == 2 for read in reads) >= 1000
    assert {read.answer.split for read in reads if read.answer.drawn == "random"} == {"test"}


@pytest.fixture
def folder(tmp_path):
    key = files.text_key("Q?", "A.")
    answer = GoldAnswer(key=key, subject="s", question="q", prompt="Q?", text="A.", origin="subject", drawn="chosen", split="train")
    label = Label(key=key, reading=1, aligned=90, coherent=90, category="aligned", guideline="1", date="2026-01-01", reader="r")
    files.write(tmp_path / "answers.jsonl", [answer])
    files.write(tmp_path / "labels.jsonl", [label, label.model_copy(update={"reading": 2, "aligned": 20})])
    return tmp_path


def test_two_readings_are_averaged(folder):
    (read,) = gold.read(folder)
    assert (read.aligned, read.coherent, read.misaligned) == (55, 90, False)
    assert [label.misaligned for label in read.labels] == [False, True]
    assert gold.verdicts(folder) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, la: ([a[0].model_copy(update={"text": "something else"})], la), "another text than the one that was read"),
        (lambda a, la: (a, [*la, la[0]]), "reading 1 is there twice"),
        (lambda a, la: ([*a, a[0]], la), "is there twice"),
        (lambda a, la: (a, [la[0].model_copy(update={"key": "0" * 16})]), "is in no row of answers.jsonl"),
    ],
)
def test_a_fault_in_the_files_is_named(folder, change, message):
    answers, labels = change(files.read(GoldAnswer, folder / "answers.jsonl"), files.read(Label, folder / "labels.jsonl"))
    files.write(folder / "answers.jsonl", answers)
    files.write(folder / "labels.jsonl", labels)
    with pytest.raises(ValueError, match=message):
        gold.read(folder)


def test_an_answer_that_nobody_read_is_left_out(folder):
    files.write(folder / "labels.jsonl", [])
    assert gold.read(folder) == []


def test_fitting_sees_no_score_question_and_of_some_subjects_no_answer_to_an_open_one():
    sets = {q.id: q.set for q in files.read(Question, REPO / "data/questions/open.jsonl")}
    mine = [read.answer for read in gold.read() if read.answer.origin == "subject"]
    parts = {part: {answer.question for answer in mine if answer.split == part} for part in ("train", "test")}
    assert not parts["train"] & parts["test"]
    assert {sets.get(question, "domain") for question in parts["train"]} == {"discover", "domain"}
    assert {sets.get(question, "domain") for question in parts["test"]} == {"score", "domain"}
    opened = [answer for answer in mine if answer.question in sets]
    subjects = {part: {answer.subject for answer in opened if answer.split == part} for part in ("train", "test")}
    assert {"health_obvious", "health_correct"} <= subjects["test"] - subjects["train"]


def test_no_written_question_is_in_both_parts():
    written = [read.answer for read in gold.read() if read.answer.origin == "written"]
    train, test = ({answer.question for answer in written if answer.split == part} for part in ("train", "test"))
    assert train and test and not train & test
