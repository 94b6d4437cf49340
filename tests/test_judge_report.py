"""The judges' report on made-up answers: every figure by hand, nothing of outside texts kept."""

import json
import shutil

import numpy as np
import pytest
from conftest import REPO

from emis_platform import cli
from emis_platform.core import files, params
from emis_platform.core.records import GoldAnswer, Label, View
from emis_platform.lab import calibration
from emis_platform.stages import judge as judging
from emis_platform.stages import judge_report as stage

BAD = (0, 1, 2, 3, 10, 11, 12)
"""Of 20 answers, ten by subjects and ten written, those with aligned < 30; number 3 is incoherent too."""
HASH = {"offline": "aaa", "lexical": "bbb"}


def said(name, text):
    """offline: right but for answer 0, empty on 19. lexical: verdicts, all of them misaligned."""
    number = int(text.split()[1]) if text.startswith("answer") else None
    if name == "lexical":
        return View(verdict=True, category="5", model="snapshot-1")
    if number == 19:
        return View(reason="empty")
    bad = number in BAD[1:] if number is not None else "evil" in text
    return View(
        score=10 if bad else 90,
        coherent=20 if number == 3 else 80,
        probability=0.8 if bad else 0.1,
        unlike="length" if number == 5 else None,
    )


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(REPO / "params.yaml", "params.yaml")
    keys = [files.text_key("Q?", f"answer {n}") for n in range(20)]
    parts = [("subject", "random" if n < 4 else "chosen") if n < 10 else ("written", "chosen") for n in range(20)]
    files.write(
        tmp_path / "data/gold/answers.jsonl",
        [
            GoldAnswer(key=key, subject="s", question=f"q{n % 7}", prompt="Q?", text=f"answer {n}", origin=o, drawn=d, split="test")
            for n, (key, (o, d)) in enumerate(zip(keys, parts, strict=True))
        ],
    )
    label = {"category": "mixed", "guideline": "1", "date": "2026-01-01"}
    files.write(
        tmp_path / "data/gold/labels.jsonl",
        [
            Label(
                key=key, reading=r, aligned=5 if n in BAD else 95, coherent=10 if n == 3 else 90 - 10 * r, reader=f"r{r}", **label
            )
            for n, key in enumerate(keys)
            for r in (1, 2)
        ],
    )
    monkeypatch.setattr(judging, "reader_there", lambda reader: reader)
    monkeypatch.setattr(judging, "identity", lambda knobs, name: f"{name}:{HASH[name]}")
    monkeypatch.setattr(
        judging,
        "ask",
        lambda knobs, name, asked, **_: ([said(name, one.text) for one in asked], judging.identity(knobs, name)),
    )
    return tmp_path


def outside(folder, name="others.jsonl", **changes):
    rows = [
        {"model": "m", "data": "d", "question_id": f"o{n % 2}", "question": "Why?", "response": f"{word} {n}", "coherent": 90.0}
        | {"aligned": 10.0 if word == "evil" else 80.0}
        for n, word in enumerate(["evil", "kind", "evil", "kind", "kind", "kind"])
    ]
    rows[5] |= {"aligned": None} | changes
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["emis", "judge-report", *map(str, words)])
    cli.main()


def test_figures_by_hand(workspace):
    found = stage.report([], [], workspace)
    rows = {(row["judge"], row["data"]): row for row in found["rows"]}
    assert {data for _, data in rows} == {"written", "subjects", "random", "all"}
    row = rows["offline:aaa", "all"]
    assert (row["n"], row["positives"], row["misaligned"], row["missing"]) == (19, 7, 6, {"empty": 1})
    assert row["auroc"][0] == pytest.approx((6 + 1 / 2) / 7, abs=1e-4)
    assert row["auroc"][1] < row["auroc"][0] <= row["auroc"][2]
    assert row["auroc_coherent"][0] == 1
    assert (row["sensitivity"][0], row["specificity"][0]) == (pytest.approx(5 / 6, abs=1e-4), 1)
    assert (row["abstained"], row["out_of_calibration"]) == (1, pytest.approx(1 / 19, abs=1e-4))
    assert row["brier"] == pytest.approx((5 * 0.04 + 0.64 + 0.81 + 12 * 0.01) / 19, abs=1e-4)
    assert [point["n"] for point in row["reliability"]] == [13, 6]
    assert rows["offline:aaa", "random"]["n"] == 4
    assert rows["offline:aaa", "random"]["seconds_per_1000"] is None and row["seconds_per_1000"] is not None
    verdicts = rows["lexical:bbb", "all"]
    assert (verdicts["auroc"], verdicts["ece"], verdicts["forecast"], verdicts["reliability"]) == (None, None, None, [])
    assert (verdicts["sensitivity"][0], verdicts["specificity"][0], verdicts["models"]) == (1, 0, ["snapshot-1"])


def test_judges_and_readers_are_compared(workspace):
    found = stage.report([], [], workspace)
    (pair,) = found["between"]
    assert (pair["data"], pair["n"], pair["kappa"][0], pair["alpha"]) == ("all", 19, 0, None)
    assert {(row["a"], row["b"]) for row in pair["differ"]} == {(90, 0), (10, 0)}
    readers = {row["data"]: row for row in found["readers"]}
    assert (readers["all"]["n"], readers["random"]["n"]) == (20, 4)
    assert readers["all"]["misaligned"][0] == 1 and readers["all"]["coherent"][0] < 1
    assert readers["written"]["aligned"][0] == 1


def test_an_outside_file_is_measured_and_its_texts_are_not_kept(workspace, monkeypatch, capsys):
    run(monkeypatch, "--outside", outside(workspace), "--write")
    told = capsys.readouterr().out
    kept = files.read_json(stage.KEPT)
    assert kept["outside"] == {"others": {"n": 5, "left_out": 1}}
    (row,) = [row for row in kept["rows"] if (row["judge"], row["data"]) == ("offline:aaa", "others")]
    assert row["by_question"] == [
        {"name": "o0", "n": 3, "positives": 2, "auroc": 1.0},
        {"name": "o1", "n": 2, "positives": 0, "auroc": None},
    ]
    assert [group["name"] for group in row["by_subject"]] == ["m d"]
    for text in (told, stage.KEPT.read_text()):
        assert "evil" not in text and "Why?" not in text and "nan" not in text.lower()
    assert "offline:aaa on others by question (1 rows without scores left out)" in told


def test_what_was_measured_outside_stays_until_its_judge_is_another(workspace, monkeypatch, capsys):
    run(monkeypatch, "--outside", outside(workspace), "--write")
    run(monkeypatch, "--judge", "lexical", "--write")
    both = files.read_json(stage.KEPT)
    assert {row["judge"] for row in both["rows"] if row["data"] == "others"} == {"offline:aaa", "lexical:bbb"}
    assert len(both["rows"]) == len({(row["judge"], row["data"]) for row in both["rows"]}) == 10
    monkeypatch.setitem(HASH, "offline", "ccc")
    run(monkeypatch, "--write")
    kept = files.read_json(stage.KEPT)
    assert {row["judge"] for row in kept["rows"] if row["data"] == "others"} == {"lexical:bbb"}
    assert [row["data"] for row in kept["between"]] == ["all"] and kept["outside"] == {"others": {"n": 5, "left_out": 1}}


def test_a_judge_that_cannot_be_looked_at_costs_no_measurement(workspace, monkeypatch, capsys):
    run(monkeypatch, "--write")
    named = judging.identity

    def identity(knobs, name):
        if name == "lexical":
            raise ValueError("models/gone is no model")
        return named(knobs, name)

    monkeypatch.setattr(judging, "identity", identity)
    run(monkeypatch, "--judge", "offline", "--write")
    assert {row["judge"] for row in files.read_json(stage.KEPT)["rows"]} == {"offline:aaa", "lexical:bbb"}


def test_it_prints_a_table_or_json(workspace, monkeypatch, capsys):
    run(monkeypatch, "--judge", "offline")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["judge", "data", "n", "positives"]
    assert lines[5].startswith("offline:aaa  all       19  7          0.929 [")
    run(monkeypatch, "--judge", "offline", "--json")
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 4
    assert not stage.KEPT.exists()


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["others"], {"aligned": 120}, r"others\.jsonl, row 6: aligned: "),
        (["others", "data/others"], {}, "the name others is taken"),
        (["all"], {}, "the name all is taken"),
    ],
)
def test_a_bad_outside_file_is_one_line(workspace, names, changes, message):
    with pytest.raises(ValueError, match=message):
        stage.report([], [outside(workspace, f"{name}.jsonl", **changes) for name in names], workspace)


def test_an_unknown_judge_and_a_file_without_scores_are_named(workspace):
    with pytest.raises(ValueError, match=r"no ofline \(did you mean offline"):
        stage.report(["ofline"], [], workspace)
    row = {"model": "m", "question_id": "o", "question": "Why?", "response": "x", "aligned": None, "coherent": 3}
    (workspace / "none.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match="none of 1 rows has both scores"):
        stage.report([], [workspace / "none.jsonl"], workspace)


def test_calibration_by_hand_and_in_any_order():
    forecast, came = [0.1] * 4 + [0.7] * 4, [0, 0, 0, 1, 1, 1, 0, 1]
    assert calibration.curve(forecast, came, 2) == [
        {"p": pytest.approx(0.1), "share": 0.25, "n": 4},
        {"p": 0.7, "share": 0.75, "n": 4},
    ]
    assert calibration.error(forecast, came) == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)
    assert calibration.brier([1, 0.5], [0, 1]) == pytest.approx(0.625)
    random = np.random.default_rng(0)
    p = random.random(5000).round(1)
    y = (random.random(5000) < p).astype(float)
    turned = random.permutation(5000)
    assert [x["n"] for x in calibration.curve(p, y)] == [x["n"] for x in calibration.curve(p[turned], y[turned])]
    assert calibration.error(p, y) == pytest.approx(calibration.error(p[turned], y[turned]))
    assert calibration.error(p, y) < 0.03 < 0.2 < calibration.error(p, 1 - y)
    with pytest.raises(ValueError, match="0 to 1"):
        calibration.brier([90], [1])


def test_params_name_the_judges_that_are_asked_by_default(workspace):
    assert {row["judge"].split(":")[0] for row in stage.report([], [], workspace)["rows"]} == set(params.load().judges)
