"""The flows on a toy DVC project: order, staleness, retries, interruption, and a schedule that really fires."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from dvc.repo import Repo

from emis_platform.tools import graph, river, workspace

FLOWS = Path(__file__).resolve().parents[1] / "flows"
STAGE = """import pathlib, sys, time
source, target = map(pathlib.Path, sys.argv[1:])
pathlib.Path("log").open("a").write(target.name + " ")
target.write_text("half")
time.sleep(float(pathlib.Path("seconds").read_text()))
target.write_text(source.read_text()[:1])
sys.exit(int(pathlib.Path("code").read_text()))
"""
EDGES = {"d": "c", "c": "a", "b": "a", "a": "source"}  # what each stage reads; declared before what it needs


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / ".prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    subprocess.run(["git", "init", "-q"], check=True)
    Repo.init()
    for name, text in {"stage.py": STAGE, "source": "x", "code": "0", "seconds": "0"}.items():
        Path(name).write_text(text)
    stages = {to: {"cmd": f"python stage.py {of} {to}", "deps": [of, "stage.py"], "outs": [to]} for to, of in EDGES.items()}
    Path("dvc.yaml").write_text(json.dumps({"stages": stages}))
    return tmp_path


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FLOWS)
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        from prefect.testing.utilities import prefect_test_harness
        from reproduce import reproduce

        with prefect_test_harness(server_startup_timeout=300):
            yield reproduce


def ran() -> list[str]:
    log = Path("log")
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def test_the_first_wish_comes_first_and_what_did_not_change_is_left_alone(toy):
    assert graph.plan("b") == [("a", True), ("b", True), ("c", True), ("d", True)]
    assert graph.reproduce(first="b") == ran() == ["a", "b", "c", "d"]
    assert graph.reproduce() == ran() == []
    Path("c").unlink()
    assert [name for name, stale in graph.plan() if stale] == ["c", "d"]
    Path("source").write_text("xy")  # `a` reads it and comes out as before
    assert graph.reproduce() == ["a", "c"] and ran() == ["a"]  # `c` came back from DVC's cache


def test_a_flow_runs_stale_stages_as_tasks(toy, flow, capfd):
    flow(str(toy), stages_only=True)
    assert ran() == ["a", "c", "d", "b"]
    flow(str(toy), stages_only=True)
    assert ran() == []
    assert "4 stages, 0 to bring up to date" in capfd.readouterr().out


@pytest.mark.parametrize(("code", "error", "times"), [(2, ValueError, 1), (1, RuntimeError, 2)])
def test_bad_input_is_not_retried_and_other_failures_are_once(toy, flow, code, error, times):
    Path("code").write_text(str(code))
    with pytest.raises(error, match=r"^a: "):
        flow(str(toy), stages_only=True)
    assert ran() == ["a"] * times


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_finished_work_and_no_lock(toy, blow):
    graph.run("a")
    Path("seconds").write_text("60")
    ran()
    run = subprocess.Popen([sys.executable, "-c", "from emis_platform.tools import graph; graph.reproduce(first='b')"])
    wait_until(lambda: Path("b").exists())
    with pytest.raises(ValueError, match=f"process {run.pid}"):
        graph.reproduce()
    if blow is signal.SIGINT:  # Ctrl-C reaches all that runs in the terminal; with some shells a stage is two processes
        for process in reversed(workspace.stage_processes()):
            process.send_signal(blow)
    else:
        run.send_signal(blow)
    assert run.wait(20) == (-9 if blow is signal.SIGKILL else 130)
    assert bool(workspace.stage_processes()) == (blow is signal.SIGKILL)
    Path("seconds").write_text("0")
    ran()
    assert graph.reproduce() == ["c", "d", "b"] and ran() == ["c", "d", "b"]
    assert Path("b").read_text() == "x" and not workspace.stage_processes()


@pytest.mark.parametrize("left", ['{"wri', json.dumps({"write": {"a": {"pid": 1, "cmd": "dvc"}}, "read": {}})])
def test_a_lock_list_that_nobody_holds_is_dropped(toy, left):
    Path(".dvc/tmp/rwlock").write_text(left)
    os.utime(".dvc/tmp/rwlock", (1, 1))  # written before process 1 of now was born
    assert graph.reproduce() == ["a", "c", "d", "b"]


def test_the_first_rate_is_told_early_and_the_table_even_if_publishing_fails(toy, monkeypatch, capfd):
    monkeypatch.setattr(river, "preflight", lambda: SimpleNamespace(subjects={"bad": None, "base": None}))
    rate = {"subject": "bad", "measure": "misaligned", "value": 0.47, "low": 0.39, "high": 0.55, "n": 84, "missing": 2}
    Path("rates").write_text(json.dumps([rate]))
    judge = {"cmd": "mkdir -p metrics/judge && cp rates metrics/judge/${item}.json", "deps": ["rates"]}
    judge["outs"] = ["metrics/judge/${item}.json"]
    Path("dvc.yaml").write_text(json.dumps({"stages": {"judge": {"foreach": ["base", "bad"], "do": judge}}}))

    def publish(where: Path) -> None:
        raise ValueError("mlflow: unreachable")

    with pytest.raises(ValueError, match="unreachable"):
        river.reproduce_all(publish=publish, effects=lambda: "THE TABLE")
    told = capfd.readouterr().out
    order = ["judge@bad", "the first rate: bad misaligned 47% [39%, 55%], n 84, missing 2", "judge@base", "THE TABLE", "make ui"]
    assert sorted(order, key=told.index) == order


def test_a_full_disk_is_told_before_anything_runs(monkeypatch):
    monkeypatch.setattr(river, "checked", lambda: None)
    monkeypatch.setattr(river.shutil, "disk_usage", lambda path: SimpleNamespace(free=2.5e9))
    with pytest.raises(ValueError, match=r"^disk: 2\.5 GB free"):
        river.preflight()


def test_a_cycle_is_one_line(toy):
    Path("dvc.yaml").write_text(
        '{"stages": {"a": {"cmd": "x", "deps": ["b"], "outs": ["a"]}, "b": {"cmd": "x", "deps": ["a"], "outs": ["b"]}}}'
    )
    with pytest.raises(ValueError, match=r"^dvc\.yaml: [^\n]+$"):
        graph.reproduce()


@pytest.mark.parametrize("script", ["reproduce.py", "schedule.py"])
def test_a_study_that_is_not_there_is_one_line_before_a_server_starts(script):
    command = [sys.executable, str(FLOWS / script), "--studies", "mixtures", "nothing"]
    done = subprocess.run(command, cwd=FLOWS.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "nothing" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_schedule_fires_twice_and_the_second_finds_nothing_to_do(toy):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(FLOWS / "schedule.py"), "--every", "5", "--port", str(port), "--stages-only"]
    environment = {**os.environ, "PREFECT_RUNNER_POLL_FREQUENCY": "1", "PYTHONUNBUFFERED": "1"}
    clock = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    alarm = threading.Timer(300, clock.terminate)  # about 30 s where nothing else runs
    seen = []
    try:
        seen.append(clock.stdout.readline())  # the server is up
        alarm.start()
        for line in clock.stdout:
            seen.append(line)
            if sum("Finished in state Completed" in line and "Flow run" in line for line in seen) == 2:
                break
        clock.terminate()
        rest = clock.communicate(timeout=300)[0]  # a third run may have begun: it is let finish
    finally:
        alarm.cancel()
        clock.kill()
    assert "All deployments have been paused" in rest and "Traceback" not in rest, rest
    assert [line.strip() for line in seen if "to bring up to date" in line] == [
        f"4 stages, {n} to bring up to date" for n in (4, 0)
    ], seen
    assert ran() == ["a", "c", "d", "b"]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0  # the server went with it


def wait_until(true, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
