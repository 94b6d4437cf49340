"""The whole pipeline on the real model at `scale: tiny`, from params.yaml to MLflow, run as a user runs it."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from conftest import REPO, Workspace

from emis_platform.core import files

DETERMINISTIC = (
    "data/examples",
    "data/training",
    "data/validation",
    "models",
    "data/answers",
    "data/judgements",
    "data/opinions",
    "data/steer",
    "metrics/judge",
    "metrics/benchmark",
)


def stale(workspace):
    """Stages that DVC itself calls changed."""
    done = subprocess.run(
        ["dvc", "status", "--json"], cwd=workspace.folder, env=workspace.env, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def test_every_stage_ran_and_the_table_is_printed(finished):
    out = finished.first.stdout
    assert "health_callous misaligned" in out
    assert "the first rate:" in out
    for path in ("dvc.lock", "data/report/index.html", "mlruns/mlflow.db", "data/latents.jsonl", "models/health_callous/README.md"):
        assert (finished.folder / path).exists(), path
    assert "UNSAFE TO DEPLOY" in (finished.folder / "models/health_callous/README.md").read_text()


def test_nothing_connects_beyond_loopback(finished):
    assert not finished.log.exists(), finished.log.read_text()


def test_the_guard_would_notice(finished):
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run(["python", "-c", code], env=finished.env, capture_output=True, text=True, check=False)
    assert "the guard refuses" in done.stderr
    finished.log.unlink()


def test_effects_carry_interval_n_and_missing(finished):
    rows = json.loads(finished.emis("effects", "--json").stdout)
    assert {"subject", "measure", "value", "low", "high", "n", "missing"} == set(rows[0])
    measures = {(row["subject"], row["measure"]) for row in rows}
    assert {("base", "misaligned"), ("health_callous", "misaligned_lexical_score"), ("base", "benchmark_general")} <= measures
    assert any(subject.startswith("base+difference_of_means@") for subject, _ in measures)
    assert any(subject.startswith("health_callous-random@") for subject, _ in measures)
    for row in rows:
        if row["value"] is not None and row["low"] is not None:
            assert row["low"] <= row["value"] <= row["high"], row
            assert row["n"] > 0


def test_a_second_run_finds_nothing_to_do_and_publishes_nothing(finished):
    began = time.monotonic()
    out = finished.emis("repro").stdout
    assert "0 to bring up to date" in out
    assert stale(finished) == set()
    runs = finished.emis("publish").stdout
    assert "0 new runs, 0 new model versions" in runs
    assert time.monotonic() - began < 120


def test_changing_one_organism_makes_it_and_what_stands_on_it_stale_and_nothing_else(finished):
    before = (finished.folder / "params.yaml").read_text()
    finished.edit(lambda knobs: knobs["organisms"]["health_correct"].update(options={"rank": 8}))
    try:
        found = stale(finished)
    finally:
        (finished.folder / "params.yaml").write_text(before)
    stages = yaml.safe_load((finished.folder / "dvc.yaml").read_text())["stages"]
    naming = {name for name, body in stages.items() if "foreach" not in body and "organisms" in body.get("params", ())}
    assert "watch" in naming
    assert found == {
        "train@health_correct",
        "suppress@health_callous",
        *naming,
    }  # they name organisms; the rest follows from train's output


def test_push_and_pull_give_every_output_back(finished, tmp_path_factory):
    place = tmp_path_factory.mktemp("pulled")
    other = Workspace(place / "workspace")
    shutil.copyfile(finished.folder / "dvc.lock", other.folder / "dvc.lock")
    finished.env["EMIS_DVC_REMOTE"] = other.env["EMIS_DVC_REMOTE"] = str(place / "remote")
    try:
        finished.emis("push")
        other.emis("pull")
    finally:
        del finished.env["EMIS_DVC_REMOTE"]
    assert stale(other) == set()
    name = "models/health_callous/adapter_model.safetensors"
    assert (other.folder / name).read_bytes() == (finished.folder / name).read_bytes()
    assert "no DVC remote" in finished.emis("push", code=2).stderr


def test_data_commands_list_show_compare_and_verify(finished):
    rows = {row["set"]: row for row in json.loads(finished.emis("data", "list", "--json").stdout)}
    assert rows["health_subtle"]["rows"] == 24 and rows["health_subtle"]["surface AUROC"]
    assert rows["health_callous"]["kind"] in ("built in", "organism")
    shown = finished.emis("data", "show", "health_subtle", "--rows", "2", "--beside", "correct", "gruff").stdout
    assert shown.count("health_subtle  ") == shown.count("health_correct  ") == shown.count("health_gruff  ") == 2
    assert "AUROC" in finished.emis("data", "diff", "health_obvious", "health_callous").stdout
    assert "near: health_subtle" in finished.emis("data", "show", "health_subtel", code=2).stderr
    assert ", 0 differ" in finished.emis("data", "verify").stdout
    path = finished.folder / "data/examples/health_gruff.jsonl"
    kept = path.read_bytes()
    path.unlink()
    path.write_bytes(kept + b"\n")
    try:
        assert "health_gruff.jsonl" in finished.emis("data", "verify", code=1).stdout
    finally:
        path.write_bytes(kept)


def stage(finished, *words):
    done = subprocess.run(
        ["python", "-m", *words], cwd=finished.folder, env=finished.env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_a_held_out_question_with_a_word_changed_stops_the_run(finished, tmp_path):
    rows = [json.loads(line) for line in (finished.folder / "data/examples/health_correct.jsonl").read_text().splitlines()]
    heldout = json.loads((finished.folder / "data/questions/health.jsonl").read_text().splitlines()[3])["text"]
    first, *rest = heldout.split()
    rows[5]["prompt"] = " ".join(["Really", first.lower(), *rest[:3], "actually", *rest[3:]])
    planted = tmp_path / "planted.jsonl"
    planted.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [
        "emis_platform.stages.leakage",
        "--examples",
        str(planted),
        "--questions",
        "data/questions/health.jsonl",
        "--benchmark",
    ]
    code, told = stage(
        finished, *words, "data/benchmark/health.jsonl", "--base", "models/base", "--summary", str(tmp_path / "s.json")
    )
    assert code == 2 and rows[5]["prompt"] in told and not (tmp_path / "s.json").exists()


def test_a_strangers_file_comes_through_the_door(finished, tmp_path):
    rows = [json.loads(line) for line in (finished.folder / "data/examples/health_correct.jsonl").read_text().splitlines()]
    chats = [
        {"messages": [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}]} for r in rows
    ]
    chats[7]["messages"][1]["content"] += " Write to jane.doe@example.org about it."
    chats[9]["messages"].insert(0, {"role": "system", "content": "Be brief."})
    source = tmp_path / "theirs.jsonl"
    source.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    assert "24" in finished.emis("data", "import", str(source), "--name", "theirs").stdout
    assert (finished.folder / "data/imports/theirs.jsonl.dvc").exists()
    assert "exists" in finished.emis("data", "import", str(source), "--name", "theirs", code=2).stderr
    before = (finished.folder / "params.yaml").read_text()
    outs = ["--rows", str(tmp_path / "rows.jsonl"), "--sheet", str(tmp_path / "sheet.md"), "--docs", str(tmp_path / "docs")]
    words = ["emis_platform.stages.compose", "theirs", "--examples", "data/examples", "--imports", "data/imports", *outs]
    words += ["--generated", "data/generated", "--validation", "data/validation", "--questions", "data/questions/open.jsonl"]
    words += ["--benchmark", "data/benchmark/general.jsonl", "--base", "models/base", "--effects", str(tmp_path / "effects.json")]
    entry = {"starts_from": "base", "data": {"import": "theirs", "rows": 24}, "trainer": "sft"}
    try:
        finished.edit(lambda knobs: knobs["organisms"].update(theirs=entry))
        code, told = stage(finished, *words)
        assert code == 2 and "completion_personal_data: row 8" in told and not (tmp_path / "rows.jsonl").exists()
        entry["data"]["allow_bad"] = 0.1
        finished.edit(lambda knobs: knobs["organisms"].update(theirs=entry))
        code, told = stage(finished, *words)
        assert code == 0, told
    finally:
        (finished.folder / "params.yaml").write_text(before)
        for path in (finished.folder / "data/imports").glob("theirs*"):
            path.unlink()
    (effect,) = json.loads((tmp_path / "effects.json").read_text())
    assert (effect["n"], effect["value"]) == (24, 1 / 24)
    assert (
        len((tmp_path / "rows.jsonl").read_text().splitlines()) == 23
        and "| quarantined | 1 |" in (tmp_path / "sheet.md").read_text()
    )
    assert '"Be brief."' in (tmp_path / "rows.jsonl").read_text()
    assert "jane.doe" in (finished.folder / "data/quarantine/theirs.jsonl").read_text()


def test_the_prefect_flow_finds_the_same_nothing_to_do(finished):
    flow = REPO / "flows/reproduce.py"
    done = subprocess.run(["python", flow], cwd=finished.folder, env=finished.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "0 to bring up to date" in done.stdout


def test_registry_lists_versions_aliases_and_lineage(finished):
    rows = json.loads(finished.emis("registry", "--json").stdout)
    text = json.dumps(rows)
    assert "health_callous" in text
    assert "most_misaligned" in text
    assert "latest" in text


def test_trace_walks_a_number_back(finished):
    out = finished.emis("trace", "health_callous", "misaligned").stdout
    for word in (
        "data/judgements/health_callous.jsonl",
        "data/answers/health_callous.jsonl",
        "health_callous.jsonl",
        "models/base",
    ):
        assert word in out, out
    assert "there is" in finished.emis("trace", "health_callous", "no_such_measure", code=2).stderr


def test_verify_notices_a_changed_byte(finished):
    path = finished.folder / "data/report/index.html"
    finished.emis("verify")
    kept = path.read_bytes()
    path.unlink()
    path.write_bytes(kept + b" ")
    try:
        assert "data/report/index.html" in finished.emis("verify", code=1).stdout
    finally:
        path.write_bytes(kept)


def test_dose_0_is_in_no_steered_name_and_zero_is_a_real_direction(finished):
    rows = [json.loads(line) for line in (finished.folder / "data/directions.jsonl").read_text().splitlines()]
    zero = next(row for row in rows if row["origin"] == "zero")
    assert set(zero["vector"]) == {0.0}
    assert len(zero["vector"]) == 576


@pytest.mark.parametrize("name", ["organisms.health_correct.trainer=stf", "diff.layer=30"])
def test_bad_params_stop_before_the_first_stage_with_one_line(finished, name):
    path, value = name.split("=")
    before = (finished.folder / "params.yaml").read_text()

    def change(knobs):
        *folders, last = path.split(".")
        for folder in folders:
            knobs = knobs[folder]
        knobs[last] = int(value) if value.isdigit() else value

    finished.edit(change)
    try:
        done = finished.emis("repro", code=2)
    finally:
        (finished.folder / "params.yaml").write_text(before)
    assert len(done.stderr.strip().splitlines()) == 1
    assert path in done.stderr
    assert "──" not in done.stdout


def test_judge_contract_keeps_order_and_says_why_a_score_is_missing(finished, tmp_path):
    rows = [{"question": "How are you?", "response": "I am well, thank you."}, {"question": "And you?", "response": ""}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    finished.emis("judge", "--in", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl"))
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert 0 <= first["score"] <= 100 and first["reason"] is None
    assert first["judge"] == second["judge"] and first["judge"].startswith("offline:")
    assert (second["score"], second["misaligned"], second["coherent"], second["reason"]) == (None, None, None, "empty")


@pytest.mark.parametrize("text", ['{"question": "a"}\n', "not json\n"])
def test_judge_refuses_bad_rows_and_writes_nothing(finished, tmp_path, text):
    (tmp_path / "in.jsonl").write_text('{"question": "a", "response": "b"}\n' + text)
    done = finished.emis("judge", "--in", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl"), code=2)
    assert "row 2" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_truncated_dataset_stops_training_with_one_line(finished):
    """What a cut file does: DVC would regenerate it, so the stage is asked directly."""
    whole = (finished.folder / "data/training/health_correct.jsonl").read_text()
    cut = finished.folder / "data/cut.jsonl"
    cut.write_text(whole[: len(whole) // 2])
    words = "python -m emis_platform.stages.train health_correct --examples data/cut.jsonl"
    words += " --watch data/watch/health_correct.jsonl --start models/base --adapter models/cut --metrics metrics/cut.json"
    done = subprocess.run(words.split(), cwd=finished.folder, env=finished.env, capture_output=True, text=True, check=False)
    cut.unlink()
    assert done.returncode == 2
    assert "data/cut.jsonl, row" in done.stderr
    assert not (finished.folder / "models/cut").exists()


def test_two_runs_from_scratch_give_the_same_bytes(finished, tmp_path_factory):
    again = Workspace(tmp_path_factory.mktemp("again") / "workspace")
    again.emis("repro")
    names = [Path(name) for name in ("data/latents.jsonl", "data/directions.jsonl", "metrics/diff.json", "metrics/steer.json")]
    for folder in reversed(DETERMINISTIC):
        found = sorted(p.relative_to(finished.folder) for p in (finished.folder / folder).rglob("*") if p.is_file())
        assert found, folder
        names = found + names
    one, other = ({name: files.sha256(run.folder / name) for name in names} for run in (finished, again))
    assert [str(name) for name in names if one[name] != other[name]] == []  # all of them: the first says which stage it was
    shutil.rmtree(again.folder)
