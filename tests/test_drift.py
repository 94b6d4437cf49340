"""The drift alarm on a made-up judge that is changed under its name."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import REPO

from emis_platform.core import files, params
from emis_platform.core.records import GoldAnswer, Label, View
from emis_platform.stages import drift as stage
from emis_platform.stages import judge as judging


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """What both judges say of every answer, and by which identity; to be changed."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(REPO / "params.yaml", "params.yaml")
    made = [files.text_key("Q?", str(n)) for n in range(50)]
    write_gold(range(50))
    now = {"identity": "1", "view": {key: View(score=50.0, probability=0.5, scores={"malice": 3.0}) for key in made}}
    monkeypatch.setattr(judging, "reader_there", lambda reader: reader)
    monkeypatch.setattr(
        judging,
        "ask",
        lambda knobs, name, said, **_: (
            [now["view"][files.text_key(one.prompt, one.text)] for one in said],
            f"{name}:{now['identity']}",
        ),
    )
    return now


def write_gold(numbers):
    label = {"aligned": 90, "coherent": 90, "category": "aligned", "guideline": "1", "date": "2026-01-01", "reader": "r"}
    rows = [
        GoldAnswer(
            key=files.text_key("Q?", str(n)),
            subject="s",
            question="q",
            prompt="Q?",
            text=str(n),
            origin="written",
            drawn="chosen",
            split="test",
        )
        for n in numbers
    ]
    files.write(Path("data/gold/answers.jsonl"), rows)
    files.write(Path("data/gold/labels.jsonl"), [Label(key=row.key, reading=1, **label) for row in rows])


def change(judge, **fields):
    key = min(judge["view"])
    judge["view"][key] = judge["view"][key].model_copy(update=fields)
    return key


def test_the_panel_is_kept_and_the_same_judge_is_silent(judge, emis):
    code, out, _ = emis("drift")
    lines = out.splitlines()
    assert code == 0 and lines == [f"{n}: not in the panel yet; `emis drift --update` adds it" for n in ("offline", "lexical")]
    assert not stage.KEPT.exists()
    assert emis("drift", "--update")[0] == 0
    kept = files.read_json(stage.KEPT)
    assert list(kept["offline"]["scores"]) == sorted(judge["view"])[: stage.SIZE]
    change(judge, score=50.001)
    assert emis("drift")[:2] == (0, "offline: as kept, 30 answers\nlexical: as kept, 30 answers\n")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"score": 50.002}, "score was 50.000, is 50.002"),
        ({"probability": 0.6}, "probability was 50.000, is 60.000"),
        ({"scores": {"malice": 9.0}}, "scores.malice was 3.000, is 9.000"),
        ({"verdict": True}, "verdict was nothing, is True"),
        ({"score": None, "reason": "timeout"}, "score was 50.000, is nothing"),
    ],
)
def test_another_word_of_the_same_judge_rings_until_it_is_accepted(judge, emis, fields, line):
    stage.drift(update=True)
    key = change(judge, **fields)
    code, out, _ = emis("drift")
    lines = out.splitlines()
    assert code == 1 and f"offline: answer {key}: {line}" in lines
    assert emis("drift", "--update")[0] == 0
    assert emis("drift")[0] == 0


def test_another_identity_or_snapshot_is_named(judge, emis):
    stage.drift(update=True)
    judge["identity"] = "2"
    judge["view"] = {key: view.model_copy(update={"model": "snapshot-2"}) for key, view in judge["view"].items()}
    code, out, _ = emis("drift")
    lines = out.splitlines()
    assert code == 1
    assert lines[:2] == [
        "offline: the judge was offline:1, is offline:2",
        "offline: the model behind it was not reported, is snapshot-2",
    ]


def test_more_read_answers_leave_the_panel_as_it_is_and_a_lost_one_is_named(judge):
    write_gold(range(40))
    stage.drift(update=True)
    write_gold(range(50))
    assert not stage.drift(update=False).alarm
    write_gold(range(3))
    with pytest.raises(ValueError, match="of the panel is in no test part"):
        stage.drift(update=False)


def test_a_judge_behind_an_endpoint_is_not_answered_from_what_was_kept(judge, monkeypatch):
    knobs = params.load()
    asked = knobs.judges["lexical"].model_copy(update={"options": {"endpoint": {"model": "m"}}})
    monkeypatch.setattr(params, "load", lambda: knobs.model_copy(update={"judges": {"far": asked, **knobs.judges}}))
    seen = {}
    ask = judging.ask
    Path("work/judges").mkdir(parents=True)

    def looking(knobs, name, said, **more):
        seen[name] = Path("work/judges").exists()
        return ask(knobs, name, said, **more)

    monkeypatch.setattr(judging, "ask", looking)
    stage.drift(update=True)
    assert seen == {"far": False, "offline": True, "lexical": True}
    assert Path("work/judges").exists()


def test_the_flows_task_fails_with_the_lines(judge, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(REPO / "flows")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / ".prefect"))
    from reproduce import drift_alarm

    stage.drift(update=True)
    drift_alarm.fn()
    key = change(judge, score=1.0)
    with pytest.raises(RuntimeError, match=f"the judges drift:\noffline: answer {key}: score was 50.000, is 1.000"):
        drift_alarm.fn()


def test_a_judge_that_left_params_is_named(judge, emis):
    emis("drift", "--update")
    text = Path("params.yaml").read_text()
    text = text.replace("  labels: judge", "  labels: read")  # the discriminator no longer asks it
    Path("params.yaml").write_text(text.replace("  lexical: {kind: lexical}\n", ""))
    code, out, _ = emis("drift")
    lines = out.splitlines()
    assert code == 0 and lines[-1].startswith("lexical: in the panel, but no longer in params.yaml")


def test_what_is_kept_is_plain_json(judge):
    stage.drift(update=True)
    entry = json.loads(stage.KEPT.read_text())["offline"]
    assert set(entry) == {"identity", "models", "scores"}
    assert entry["scores"][min(judge["view"])] == {"score": 50.0, "probability": 50.0, "scores.malice": 3.0}
