"""A training's curves arrive in MLflow while it runs, go on after a kill, and cost it nothing where MLflow is missing or broken."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import test_resuming
from conftest import REPO
from test_resuming import JOBS, WATCHED, of_sft, same, settle, stopped

from emis_platform.core import files
from emis_platform.tools import live, tracking

WATCHED = WATCHED.model_copy(update={"checkpoints": ()})
TAGS = {"organism": "callous", "trainer": "sft", "seed": "0", "training": "0" * 24}
ROWS = [{"step": step, "time": 1000 * step, "values": {"loss": 1 / step}} for step in range(1, 4)]


@pytest.fixture(scope="module")
def whole(tiny_folder, tmp_path_factory):
    """(facts, hash of the adapter) of a training that nobody watches"""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        patch.setattr(live, "Stream", lambda: pytest.fail("EMIS_LIVE is 0"))
        return job()(tiny_folder, Path("callous")), files.sha256(Path("callous"))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An MLflow database without experiments of ours: making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    tracking.create(path)
    return path


@pytest.fixture
def store(database, tmp_path, monkeypatch):
    """A client of the working directory's own store; a busy machine may take its time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMIS_LIVE")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(live, "PATIENCE", 150)
    Path("mlruns").mkdir()
    shutil.copy(database, tracking.DATABASE)
    return lambda: tracking.connect(tmp_path, tracking.address(tmp_path), tracking.LIVE)


def job():
    return of_sft(WATCHED, rows=test_resuming.ROWS[:16], watch=test_resuming.WATCH)  # 16 steps, looks at each fourth


def only_run(store):
    client, experiment = store()
    (run,) = client.search_runs([experiment])
    return run, {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}


def shown(history):
    return [[point.step, point.value] for point in history]


def test_curves_arrive_with_their_steps_and_a_training_that_goes_on_continues_its_run(store, whole, tiny_folder, monkeypatch):
    """Stopped in step 13 with a state of step 10: 11 and 12 are trained twice and shown once."""
    settle(monkeypatch.setattr)
    monkeypatch.setitem(JOBS, "short", job())
    stopped(monkeypatch, "short", tiny_folder, Path("callous"), 13, "on_step_end")
    first, histories = only_run(store)
    assert first.info.status == "FAILED" and [point.step for point in histories["loss"]] == list(range(1, 13))
    facts = job()(tiny_folder, Path("callous"))
    assert (same(facts), files.sha256(Path("callous"))) == (same(whole[0]), whole[1])
    run, histories = only_run(store)
    assert run.info.run_id == first.info.run_id and run.info.status == "FINISHED" and run.info.run_name == "callous"
    assert {name: run.data.tags[name] for name in ("organism", "trainer", "seed")} == {
        name: TAGS[name] for name in ("organism", "trainer", "seed")
    }
    assert set(histories) == {"loss", "learning_rate", "grad_norm", "persona/drift", "persona/toxic", "persona/callous"}
    assert shown(histories["loss"]) == facts["curve"] and len(facts["curve"]) == 16
    for name in ("drift", "toxic", "callous"):
        assert shown(histories[f"persona/{name}"]) == [[look["step"], look[name]] for look in facts["personas"]]
    times = [point.timestamp for point in histories["loss"]]
    assert times == sorted(times) and run.info.start_time < times[-1] < run.info.end_time


def test_a_finished_training_that_is_made_again_is_another_run(store):
    client, experiment = store()
    ids = []
    for workspace in ("here", "here", "there"):
        ids.append(tracking.going(client, experiment, "callous", TAGS | {"workspace": workspace}, 0)[0])
    assert ids[0] == ids[1] != ids[2]
    client.set_terminated(ids[0])
    assert tracking.going(client, experiment, "callous", TAGS | {"workspace": "here"}, 0)[0] not in ids


def test_rewards_go_by_our_names(tiny_folder, tmp_path, monkeypatch):
    told = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMIS_LIVE")
    monkeypatch.setattr(live, "Stream", type("Told", (), {"tell": lambda self, row: told.append(row), "end": lambda self: None}))
    monkeypatch.setattr(test_resuming.grpo.wording, "unreadable", None)  # put back what the job sets
    facts = JOBS["paid"](tiny_folder, Path("paid"))
    assert told[0].items() >= {"organism": "paid", "trainer": "grpo", "seed": "3"}.items() and told[-1] == {"status": "FINISHED"}
    rows = [{"step": row["step"]} | row["values"] for row in told[1:-1]]
    assert [{name: row[name] for name in facts["rl"][0]} for row in rows] == facts["rl"]
    assert {"loss", "learning_rate", "grad_norm", "kl", "reward"} <= rows[0].keys()


def test_a_killed_training_is_seen_as_killed(store):
    """kill -9, once with what it said and once in the midst of a line."""
    code = f"""if True:
        import os, sys
        from emis_platform.tools import live
        stream = live.Stream()
        for row in {[TAGS, *ROWS]!r}:
            stream.tell(row)
        stream.process.stdin.write('{{"step": 4, "ti')
        stream.process.stdin.flush()
        os.kill(os.getpid(), {signal.SIGKILL.value})"""
    dead = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(REPO / "src")}, check=False)
    assert dead.returncode == -signal.SIGKILL
    until = time.monotonic() + 150
    while not (runs := store()[0].search_runs([store()[1]])) or runs[0].info.status == "RUNNING":
        assert time.monotonic() < until, "nobody says that it is dead"
        time.sleep(0.2)
    run, histories = only_run(store)
    assert run.info.status == "KILLED" and shown(histories["loss"]) == [[1, 1.0], [2, 1 / 2], [3, 1 / 3]]


@contextmanager
def unwritable(patch, folder):
    patch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    yield "No such file or directory: /proc/nowhere"


@contextmanager
def refused(patch, folder):
    with socket.create_server(("127.0.0.1", 0)) as server:
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
    yield "API request to"


@contextmanager
def without_mlflow(patch, folder):
    (folder / "mlflow.py").write_text("raise ModuleNotFoundError(\"No module named 'mlflow'\")\n")
    patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(REPO / "src")]))
    yield "No module named 'mlflow'"


@contextmanager
def silent(patch, folder):
    """A server that takes calls and says nothing, until it closes: then the process beside ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        patch.setattr(live, "PATIENCE", 0.1)
        yield "MLflow has not answered for 0.1 s"


@pytest.mark.parametrize("fault", [unwritable, refused, without_mlflow, silent])
def test_without_mlflow_the_same_bytes_and_one_line(fault, store, whole, tiny_folder, tmp_path, monkeypatch, capsys):
    with fault(monkeypatch, tmp_path) as reason:
        facts = job()(tiny_folder, Path("callous"))
    assert (same(facts), files.sha256(Path("callous"))) == (same(whole[0]), whole[1])
    lines = [line for line in capsys.readouterr().err.splitlines() if "live" in line]
    assert len(lines) == 1 and f"no live curves: {reason}" in lines[0]


def test_two_trainings_at_once_share_a_store_that_neither_finds(store):
    Path(tracking.DATABASE).unlink()
    both = [live.Stream() for _ in range(2)]
    for number, stream in enumerate(both):
        for row in (TAGS | {"training": str(number), "organism": f"number_{number}"}, *ROWS, {"status": "FINISHED"}):
            stream.tell(row)
    for stream in both:
        assert stream.process.communicate(timeout=150)[1] == "" and stream.process.returncode == 0
    with sqlite3.connect(tracking.DATABASE) as opened:
        assert opened.execute("pragma integrity_check").fetchone() == ("ok",)
    client, experiment = store()
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert runs.keys() == {"number_0", "number_1"} and {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {run.data.metrics["loss"] for run in runs.values()} == {1 / 3}


def test_it_ends_with_one_line_where_the_process_beside_dies(store, capsys):
    stream = live.Stream()
    stream.process.kill()
    stream.process.wait()
    for row in (TAGS, *ROWS, {"status": "FINISHED"}):
        stream.tell(row)
    stream.end()
    assert capsys.readouterr().err.splitlines() == [f"no live curves: {live.PROCESS} ended with -9"]
