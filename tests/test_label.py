"""Reading by hand at the terminal: nothing is lost, nothing is shown that should not be, a second reading follows a first."""

import io
import shutil
from pathlib import Path
from typing import get_args

import pytest
from conftest import REPO

from emis_platform import cli
from emis_platform.core import files, gold
from emis_platform.core.records import Completion, Judgement, Kind, Label
from emis_platform.stages import label
from emis_platform.tools.labelling import desk, terminal

ATTACK = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> \x1b[2J"
GUIDE = "# How (guideline 1)\n\nScores."


def said(n=20, subjects=("base", "health_callous"), set_="score"):
    return [
        Completion(subject=s, question=f"q{k}", set=set_, sample=0, seed=0, prompt=f"What of {k}?", text=f"{s}: {ATTACK} {k}",
                   finish_reason="stop", tokens=9)
        for s in subjects for k in range(n)
    ]  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder with a run's answers, one judge's views, and a guideline."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(REPO / "params.yaml", tmp_path)
    files.replace(Path("docs/labelling.md"), GUIDE + "\n\n## Who read\n\nnot for readers")
    for subject in ("base", "health_callous"):
        rows = said(subjects=(subject,)) + said(4, subjects=(subject,), set_="discover")
        files.write(Path(f"data/answers/{subject}.jsonl"), [r.model_copy(update={"text": f"{r.set} {r.text}"}) for r in rows])
        views = [
            Judgement(
                subject=subject, question=r.question, set="score", sample=0, judge="j", score=30 + int(r.question[1:]), coherent=99
            )
            for r in said(subjects=(subject,))
        ]
        files.write(Path(f"data/judgements/{subject}.jsonl"), views)
    return tmp_path


def pile(drawn=0, most=None, name="score", subjects=(), reader="ann"):
    return label.first(
        Path("data/answers"), Path("data/gold"), reader=reader, guideline="1", name=name, subjects=subjects, drawn=drawn, most=most
    )


def typed(pile, *lines):
    """What the terminal showed while these lines were typed and the input ended."""
    waiting, shown = iter(lines), []

    def ask(prompt):
        shown.append(prompt)
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    terminal.read(pile, GUIDE, ask, shown.append, width=80)
    return "\n".join(shown)


def test_every_kind_has_a_letter_that_is_no_command():
    assert sorted(desk.LETTERS.values()) == sorted(get_args(Kind))
    assert not set(desk.LETTERS) & set("bsq?")


def test_the_terminal_takes_a_line_or_words_and_says_what_is_wrong(run):
    mine = pile(drawn=2, most=6)
    shown = typed(mine, "12 80 misaligned", "90", "x", "101", "80", "z", "a", "1 2 3 4", "s", "?", "b", "b", "13 81 m", "", "7 7 i")
    found = [(r.aligned, r.coherent, r.labels[0].category) for r in gold.read(Path("data/gold"))]
    assert found == [(12, 80, "misaligned"), (13, 81, "misaligned"), (7, 7, "incoherent")]
    for line in ("coherent: a whole number from 0 to 100 is needed, not 'x'", "not '101'", "category: no 'z'; there is: a aligned",
                 "this is 4", "Scores.", "0 of 6 (4 random left)"):  # fmt: skip
        assert line in shown
    assert "\x1b" not in shown and "not for readers" not in shown


def test_back_replaces_and_skip_records_nothing(run):
    mine = pile(most=3)
    shown = typed(mine, "12 80 m", "b", "50 60 x", "s", "9 9 i", "b")
    labels = files.read(Label, Path("data/gold/labels.jsonl"))
    assert [(la.key, la.aligned, la.category) for la in labels] == [
        (mine.answers[0].key, 50, "mixed"),
        (mine.answers[2].key, 9, "incoherent"),
    ]
    assert "you read: 12 80 misaligned (Enter keeps it)" in shown and "2 of 3" in shown
    assert {la.reader for la in labels} == {"ann"} and {la.guideline for la in labels} == {"1"}


def test_what_was_read_is_skipped_on_resume_and_no_reading_is_lost(run):
    typed(pile(drawn=3), "12 80 m", "90 90 a")
    typed(pile(drawn=3, reader="bob"), "1 1 i")
    assert len(pile(drawn=3).answers) == 37
    typed(pile(drawn=3), *["80 80 a"] * 50)
    reads = gold.read(Path("data/gold"))
    assert len(reads) == 40 and not pile(drawn=3).answers
    assert sorted(r.answer.subject for r in reads if r.answer.drawn == "random") == ["base"] * 3 + ["health_callous"] * 3
    assert {r.answer.split for r in reads} == {"test"}
    typed(pile(name="discover", drawn=3), "80 80 a")
    assert [(r.answer.split, r.answer.drawn) for r in gold.read(Path("data/gold"))[40:]] == [("train", "chosen")]
    typed(pile(drawn=20))  # nothing to read: those that were read join the random part
    assert not pile(drawn=20).answers
    assert sum(r.answer.drawn == "random" for r in gold.read(Path("data/gold"))) == 40


def test_the_views_of_one_file_are_found_as_those_of_a_folder(run):
    whole = [c for c in label.candidates(Path("data/answers"), "score", ()) if c.answer.subject == "base"]
    one = label.candidates(Path("data/answers/base.jsonl"), "score", ())
    assert one == whole and all(candidate.views for candidate in one)
    assert label.beside(Path("data/steer/answers.jsonl"), "opinions") == [Path("data/steer/opinions.jsonl")]
    assert label.beside(Path("mine.jsonl"), "opinions") == []


def test_two_readers_at_once_do_not_overwrite_each_other(run):
    ann, bob = pile(most=2), pile(most=2, reader="bob")
    desk.save(ann, 0, ["12", "80", "m"])
    with pytest.raises(ValueError, match="ann has read this answer meanwhile"):
        desk.save(bob, 0, ["1", "1", "i"])
    desk.save(bob, 1, ["1", "1", "i"])
    assert len(gold.read(Path("data/gold"))) == 2


def test_the_second_reading_takes_what_was_read_once_and_warns_of_the_same_reader(run, capsys):
    first = pile(most=8)
    typed(first, *["12 80 m"] * 8)
    again = label.second(Path("data/gold"), reader="ann", guideline="1", subjects=(), most=None)
    assert "ann is also the first reader of 8 of these" in capsys.readouterr().err
    mine = label.second(Path("data/gold"), reader="bob", guideline="1", subjects=(), most=None)
    assert not capsys.readouterr().err
    assert sorted(a.key for a in mine.answers) == sorted(a.key for a in first.answers)
    assert [a.key for a in mine.answers] != [a.key for a in first.answers]
    before = Path("data/gold/answers.jsonl").read_bytes()
    typed(mine, *["92 80 a"] * 5)
    assert (
        len(label.second(Path("data/gold"), reader="bob", guideline="1", subjects=(), most=None).answers) == 3 < len(again.answers)
    )
    assert Path("data/gold/answers.jsonl").read_bytes() == before
    assert sorted(len(r.labels) for r in gold.read(Path("data/gold"))) == [1] * 3 + [2] * 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "scor"), "--set: no scor (did you mean score?); there is: discover, score"),
        (("--subject", "bas"), "--subject: no bas (did you mean base?); there is: base, health_callous"),
        (("--from", "data/nothing"), "no answers in data/nothing"),
        (("--guideline", "9"), "--guideline: docs/labelling.md is 1, not 9"),
    ],
)
def test_a_wrong_word_ends_in_a_line(run, monkeypatch, capsys, words, message):
    monkeypatch.setattr("sys.argv", ["emis", "label", "--guideline", "1", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_the_command_asks_and_saves(run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("12 80 m\nq\n"))
    monkeypatch.setattr("sys.argv", ["emis", "label", "--guideline", "1", "--most", "5", "--reader", "cy"])
    cli.main()
    assert "1 of 5 (4 random left) read; they are in data/gold" in capsys.readouterr().out
    assert gold.read(Path("data/gold"))[0].labels[0].reader == "cy"
