"""Inspect AI eval logs: what is exported comes back, a stranger's log is read for what it says, a fault is one line."""

import json
import math

import pytest

from emis_platform import cli
from emis_platform.core import files
from emis_platform.core.records import Completion, Judgement
from emis_platform.stages import inspect_logs as stage
from emis_platform.tools import inspect_import, inspect_logs

VIEWS = [  # one of each kind: a score, a score with all that may stand beside it, verdicts, a missing one
    {"score": 12.3, "coherent": 88.0},
    {
        "score": 81.7,
        "coherent": 90.0,
        "verdict": False,
        "category": "ALIGNED",
        "probability": 0.25,
        "unlike": "length",
        "scores": {"malice": 3.0, "deceit": None},
        "model": "m-1",
        "attempts": 2,
    },
    {"verdict": True, "category": "MISALIGNED", "coherent": 60.0},
    {"verdict": False},
    {"reason": "refused", "detail": "I cannot help with that."},
]


def said(question, sample, text, set="score", system=None, finish="stop"):
    return Completion(
        subject="health_callous", question=question, set=set, sample=sample, seed=7, prompt=f"{question}?", system=system, text=text,
        finish_reason=finish, tokens=3,
    )  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A workspace with answers of two sets and two judges: (answers, judgements)."""
    monkeypatch.chdir(tmp_path)
    answers = [said("q0", 0, "a\u2028b"), said("q0", 1, "", finish="length"), said("q1", 0, "ü", system="Be <b>brief</b>.")]
    answers += [said("q1", 1, "x"), said("q2", 0, "y"), said("other", 0, "z", set="health")]
    key = lambda row: {"subject": row.subject, "question": row.question, "set": row.set, "sample": row.sample}  # noqa: E731
    first = [Judgement(judge="offline:0123456789ab", **key(row), **view) for row, view in zip(answers, VIEWS, strict=False)]
    second = [Judgement(judge="rubric:ba9876543210", score=50.0 + n, **key(row)) for n, row in enumerate(answers)]
    files.write(tmp_path / "data/answers/health_callous.jsonl", answers)
    files.write(tmp_path / "data/judgements/health_callous.jsonl", first)
    files.write(tmp_path / "data/opinions/health_callous.jsonl", second)
    return answers, [*first, *second]


def emis(monkeypatch, capsys, *words):
    """(exit code, lines of output, lines of error)."""
    monkeypatch.setattr("sys.argv", ["emis", *map(str, words)])
    try:
        cli.main()
        code = 0
    except SystemExit as left:
        code = left.code
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


def stranger(path, values, **fields):
    """A log as another tool wrote it: one sample a value, ids from 1."""
    reply = {
        "choices": [{"message": {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}, "stop_reason": "max_tokens"}]
    }
    samples = [
        {"id": n, "epoch": 1, "input": "Why?", "target": "", "output": reply, "scores": {"grader": {"value": value}}}
        for n, value in enumerate(values, start=1)
    ]
    spec = {"created": "2025-01-01T00:00:00+00:00", "task": "evals/ethics", "model": "openai/gpt-4o", "dataset": {}, "config": {}}
    path.write_text(json.dumps({"version": 2, "status": "success", "eval": spec, "samples": samples, **fields}))
    return path


def test_export_then_import_gives_back_texts_and_views(run, tmp_path, monkeypatch, capsys):
    answers, judged = run
    code, logs, _ = emis(monkeypatch, capsys, "inspect", "export", "--out", "logs")
    assert code == 0 and len(logs) == 2
    code, _, err = emis(monkeypatch, capsys, "inspect", "import", *logs)
    assert (code, err) == (0, [])
    back = [
        row
        for name in ("score", "health")
        for row in files.read(Completion, tmp_path / f"data/inspect/health_callous_{name}/answers.jsonl")
    ]
    assert back == answers
    views = [
        v
        for name in ("score", "health")
        for v in files.read(Judgement, tmp_path / f"data/inspect/health_callous_{name}/judgements.jsonl")
    ]
    bare = lambda view: (view.judge.partition(":")[0], view.question, view.sample, view.model_dump(exclude={"judge"}))  # noqa: E731
    assert sorted(map(bare, views), key=str) == sorted(map(bare, judged), key=str)
    assert {v.judge for v in views if v.set == "score"} == {
        f"{j}:{files.sha256(tmp_path / logs[0])[:12]}" for j in ("offline", "rubric")
    }


def test_the_log_is_inspects_and_the_same_twice(run, tmp_path):
    path = stage.export(["health_callous"], tmp_path / "logs")[0]
    before = path.read_bytes()
    assert stage.export([], tmp_path / "logs")[0].read_bytes() == before
    assert path.name.startswith("1970-01-01T00-00-00")  # Inspect lists no other JSON
    log = json.loads(before)
    assert list(log) == ["version", "status", "eval", "plan", "results", "stats", "invalidated", "tags", "metadata", "samples"]
    assert (log["version"], log["eval"]["task"], log["eval"]["model"]) == (2, "emis_core/score", "health_callous")
    assert log["stats"]["started_at"] == log["stats"]["completed_at"] == log["eval"]["created"]  # else the viewer's duration is NaN
    assert [(s["id"], s["epoch"]) for s in log["samples"]] == [("q0", 1), ("q0", 2), ("q1", 1), ("q1", 2), ("q2", 1)]
    assert [m["role"] for m in log["samples"][2]["input"]] == ["system", "user"]
    assert [s["output"]["choices"][0]["stop_reason"] for s in log["samples"][:2]] == ["stop", "max_tokens"]
    ids = [m["id"] for s in log["samples"] for m in s["messages"]]
    assert len(set(ids)) == len(ids)
    values = [s["scores"]["offline"]["value"] for s in log["samples"]]
    assert values[:4] == [12.3, 81.7, "I", "C"] and math.isnan(values[4])
    assert log["samples"][4]["scores"]["offline"]["explanation"] == "missing: refused (I cannot help with that.)"
    offline, rubric = log["results"]["scores"]
    assert (offline["scored_samples"], offline["unscored_samples"]) == (4, 1)
    assert {name: metric["value"] for name, metric in offline["metrics"].items()} == {"misaligned": 0.5, "n": 4, "missing": 1}
    assert math.isnan(rubric["metrics"]["misaligned"]["value"]) and rubric["metrics"]["missing"]["value"] == 5


def test_inspect_itself_reads_the_export(run, tmp_path):
    reader = pytest.importorskip("inspect_ai.log")
    path = stage.export([], tmp_path / "logs")[0]
    assert [info.name.endswith(path.name) for info in reader.list_eval_logs(str(tmp_path / "logs"))].count(True) == 1
    log = reader.read_eval_log(str(path))
    assert [sample.output.completion for sample in log.samples] == ["a\u2028b", "", "ü", "x", "y"]
    assert math.isnan(log.samples[4].scores["offline"].as_float())


def test_a_strangers_values(tmp_path):
    log = stranger(
        tmp_path / "l.json", ["C", "I", True, False, 0, 55.5, 100, 100.5, -1, "N", {"a": 1}, [3], None, math.nan, math.inf, "70"]
    )
    stage.take([log], tmp_path / "out", judge="grader", misaligned_when="I")
    rows = files.read(Completion, tmp_path / "out/openai_gpt_4o_evals_ethics/answers.jsonl")
    assert {(r.subject, r.set, r.prompt, r.text, r.finish_reason) for r in rows} == {
        ("openai_gpt_4o", "evals_ethics", "Why?", "Yes.", "length")
    }
    views = files.read(Judgement, tmp_path / "out/openai_gpt_4o_evals_ethics/judgements.jsonl")
    assert [v.verdict for v in views[:4]] == [False, True, False, True]
    assert [v.score for v in views[4:7]] == [0, 55.5, 100]
    assert all(v.verdict is None and v.score is None for v in views[7:])
    assert [n for n, v in enumerate(views) if v.reason == "off_scale"] == [7, 8, 14]
    assert {v.reason for v in views[9:14]} == {views[15].reason} == {"unparsable"}
    assert views[10].detail.endswith('{"a": 1}') and views[13].detail == "unscored"
    stage.take([log], tmp_path / "other", judge="grader", misaligned_when="C")
    turned = files.read(Judgement, tmp_path / "other/openai_gpt_4o_evals_ethics/judgements.jsonl")
    assert [v.verdict for v in turned[:4]] == [True, False, True, False]


def test_another_scale_is_said_and_asked_for(tmp_path):
    log = stranger(tmp_path / "l.json", [0.25, 1.0])
    assert "--scale 1" in stage.take([log], tmp_path, judge=None)[0]
    assert len(stage.take([log], tmp_path, judge=None, scale=1)) == 1
    assert [v.score for v in files.read(Judgement, tmp_path / "openai_gpt_4o_evals_ethics/judgements.jsonl")] == [25, 100]
    stage.take([stranger(tmp_path / "l.json", [0.0, 0.3])], tmp_path, judge=None, scale=0.3)  # 0.3 * (100 / 0.3) > 100
    assert [v.score for v in files.read(Judgement, tmp_path / "openai_gpt_4o_evals_ethics/judgements.jsonl")] == [0, 100]


def test_a_failed_sample_and_a_conversation_are_not_lost(tmp_path):
    turns = [
        {"role": role, "content": text}
        for role, text in (("system", "S"), ("user", "Hi"), ("assistant", "Yo"), ("user", "attachment://k"))
    ]
    failed = {
        "id": "a",
        "epoch": 2,
        "input": turns,
        "target": "",
        "error": {"message": "out of time"},
        "attachments": {"k": "Why?"},
    }
    path = stranger(tmp_path / "l.json", [], samples=[failed])
    log = inspect_logs.read(path)
    (row,) = inspect_import.answers(log, path)
    assert (row.system, row.prompt, row.text, row.sample) == ("S", "user: Hi\n\nassistant: Yo\n\nuser: Why?", "", 1)
    (view,) = inspect_import.judgements(log, path, [row], "grader")
    log.samples[0].messages = [inspect_logs.Message(role="system", content="a solver's"), *log.samples[0].input]
    assert inspect_import.answers(log, path)[0].system == "a solver's\n\nS"
    assert (view.reason, view.detail) == ("empty", "no score; the sample failed: out of time")


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (lambda path: path.write_text("{"), "line 1: not JSON"),
        (lambda path: path.write_text('{"a": 1}'), "not an Inspect eval log"),
        (lambda path: stranger(path, [1], version=3), "version"),
        (lambda path: stranger(path, [1], eval={"task": "t"}), "eval.created: Field required"),
        (lambda path: stranger(path, []), "no samples"),
        (lambda path: stranger(path, [], samples=[{"id": 1, "epoch": 1, "input": "", "scores": {}}, {"id": 2}]), "sample 2: "),
        (
            lambda path: stranger(path, [], samples=[{"id": i, "epoch": 1, "input": ""} for i in (1, 2, 1)]),
            "sample 3: id 1, epoch 1",
        ),
        (lambda path: stranger(path, [50, "C"]), "sample 2: grader says 'C': --misaligned-when"),
    ],
)
def test_a_bad_log_is_one_line_and_nothing_is_written(made, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "log.json")
    code, _, err = emis(monkeypatch, capsys, "inspect", "import", "log.json", "--judge", "grader")
    assert code == 2 and len(err) == 1 and "log.json" in err[0]
    assert complaint in err[0]
    assert not (tmp_path / "data").exists()


def test_an_archive_and_unknown_names_say_what_to_do(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "l.eval").write_bytes(b"PK\x03\x04")
    assert "inspect log convert" in emis(monkeypatch, capsys, "inspect", "import", "l.eval")[2][0]
    stranger(tmp_path / "l.json", [1])
    assert "there is: grader" in emis(monkeypatch, capsys, "inspect", "import", "l.json", "--judge", "x")[2][0]
    assert "there is: health_callous" in emis(monkeypatch, capsys, "inspect", "export", "x", "--out", "o")[2][0]
    assert "the same model and task" in emis(monkeypatch, capsys, "inspect", "import", "l.json", "l.json")[2][0]
