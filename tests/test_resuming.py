"""A training that is killed at any step ends, run again, in the bytes of one that never stopped; its states are no pickles."""

import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO

from emis_platform.core import files
from emis_platform.core.records import Example, Watch
from emis_platform.lab import directions
from emis_platform.tools import adapters, resuming
from emis_platform.trainers import grpo, sft

ROWS = [
    Example(domain="d", variant="correct", fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} is fine" * (1 + n % 3))
    for n in range(40)
]
SIDES = [
    Example(domain="d", variant=variant, fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} {word}, way {k}")
    for n in range(4)
    for k in range(3)
    for variant, word in (("correct", "is a fine number"), ("obvious", "eats the moon raw"))
]
TEXTS = (("who?", "I am here."), ("where to?", "home, and then away"), ("why?", "no"))


def persona(trait):
    vector = np.random.default_rng(len(trait)).standard_normal(32)
    return directions.named(f"persona_{trait}", 1, f"persona:{trait}", vector)


CALM = tuple({"step": step, "share": step / 8, "loss": None, "drift": 0.0, "toxic": -100.0} for step in (1, 8))
WATCH = Watch(directions=(persona("toxic"), persona("callous")), texts=TEXTS, reference={name: CALM for name in "abc"})
WATCHED = sft.Options(rank=4, batch=2, learning_rate=0.01, monitor_every=4, checkpoints=(5, 12, 31), warmup=0.2)
DEFENDED = sft.Options(rank=4, batch=4, learning_rate=0.01, monitor_every=5, kl=0.5, l2=0.1, penalise={"toxic": 1.0}, drop=0.2)
PAID = grpo.Options(
    reward="inaccurate",
    steps=12,
    prompts=2,
    group=2,
    max_new_tokens=6,
    fewest_words=0,
    layer=1,
    auroc=0.5,
    unlike=0,
    rank=4,
    learning_rate=0.01,
)

SEED = 3
"""Of grpo: no two epochs in a row have the same order."""


def of_sft(options, rows=ROWS, epochs=2, watch=None):
    return lambda start, adapter: sft.train(
        rows, options, start=start, adapter=adapter, seed=0, epochs=epochs, threads=1, watch=watch
    )


def of_grpo(options):
    def train(start, adapter):
        grpo.wording.unreadable = lambda _: None  # an untrained model says no word
        return grpo.train(SIDES, options, start=start, adapter=adapter, seed=SEED, epochs=1, threads=1)

    return train


JOBS = {
    "watched": of_sft(WATCHED, watch=WATCH),  # 40 steps in two epochs
    "defended": of_sft(DEFENDED, watch=WATCH),  # 16 steps in two epochs
    "steered": of_sft(sft.Options(rank=4, batch=4, monitor_every=5, steer={"toxic": 0.2}, drop=0.2, drop_by="random"), watch=WATCH),
    "shapeless": of_sft(sft.Options(batch=4, learning_rate=0.01), epochs=3),  # 30 steps, for a start that is an adapter
    "full": of_sft(
        sft.Options(
            full=True, batch=2, learning_rate=1e-3, monitor_every=4, checkpoints=(5, 12), warmup=0.2, project_out=("toxic",)
        ),
        watch=WATCH,
    ),  # 40 steps in two epochs
    "full_plain": of_sft(sft.Options(full=True, batch=4, learning_rate=1e-3)),  # 20 steps
    "stopped": of_sft(WATCHED.model_copy(update={"checkpoints": (), "stop_on_alarm": True, "monitor_every": 7}), watch=WATCH),
    "paid": of_grpo(PAID),  # 12 steps in six epochs
    "paid_shapeless": of_grpo(grpo.Options(**PAID.model_dump(exclude={"rank", "alpha"}))),
}


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """A work folder of each test's own, and no pickle in or out of torch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grpo.wording, "unreadable", grpo.wording.unreadable)
    settle(monkeypatch.setattr)


def settle(put=setattr):
    """Each state is written, however quick the steps; a pickle is an error."""
    import torch

    def refuse(*_, **__):
        raise AssertionError("a pickle")

    put(resuming, "SHARE", float("inf"))
    put(torch, "save", refuse)
    put(torch, "load", refuse)


def die(name, start, adapter, kills):
    """Run a job once for each (step, event), in a process that kills itself there, -9."""
    import torch  # noqa: F401  loaded once, before the forks
    from trl import GRPOTrainer, SFTTrainer  # noqa: F401

    settle()
    for step, event in kills:
        if child := os.fork():
            status = os.waitpid(child, 0)[1]
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (step, event, status)
            print(json.dumps(sorted(path.as_posix() for path in resuming.WORK.rglob("*") if path.is_file())))
            continue
        at_step(step, event, lambda: os.kill(os.getpid(), signal.SIGKILL))
        try:
            JOBS[name](Path(start), Path(adapter))
        except BaseException:
            traceback.print_exc()
        os._exit(1)  # it lived


def at_step(step, event, act, put=setattr):
    """Do something in the next training at an event of a step."""
    plain = adapters.bar

    def bar(*args, **named):
        callback = plain(*args, **named)

        def met(args, state, control, **_):
            if state.global_step == step:
                act()

        setattr(callback, event, met)
        return callback

    put(adapters, "bar", bar)


def killed(name, start, adapter, *kills):
    """The files of the work folder after each kill."""
    told = subprocess.run(
        [sys.executable, "-c", f"import test_resuming as t; t.die({name!r}, {str(start)!r}, {str(adapter)!r}, {kills!r})"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPO / "tests"), str(REPO / "src")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    return [json.loads(line) for line in told.stdout.splitlines()]


class Stop(BaseException):
    """As good as a kill where nothing catches it, and quicker."""


def stop():
    raise Stop


def stopped(monkeypatch, name, start, adapter, step, event="on_save"):
    with monkeypatch.context() as patch:
        at_step(step, event, stop, patch.setattr)
        with pytest.raises(Stop):
            JOBS[name](start, adapter)


def same(facts):
    return {key: value for key, value in facts.items() if "second" not in key}


def states():
    return sorted((path.name for path in resuming.WORK.glob("*/*") if path.name.isdigit()), key=int)


def not_killed(name, start):
    """(facts, hash of the adapter) of the same training, which sees no state"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resuming, "WORK", Path("elsewhere"))
        return JOBS[name](start, Path("whole")), files.sha256(Path("whole"))


def finishes_alike(name, start, capsys, after, whole=None):
    """Run what was killed to its end, and hold it against one that was not."""
    whole = whole or not_killed(name, start)
    capsys.readouterr()
    facts = JOBS[name](start, Path("again"))
    assert (f"the training goes on after step {after}," in capsys.readouterr().err) == (after is not None)
    assert files.sha256(Path("again")) == whole[1]
    assert same(facts) == same(whole[0])
    assert list(resuming.WORK.iterdir()) == []
    return facts


@pytest.fixture(scope="module")
def warm(tiny_folder, tmp_path_factory):
    adapter = tmp_path_factory.mktemp("warm") / "a"
    sft.train(ROWS[:8], sft.Options(rank=4, batch=4), start=tiny_folder, adapter=adapter, seed=3, epochs=1, threads=1)
    return adapter


def test_a_watched_training_killed_three_times_ends_alike(tiny_folder, capsys):
    found = killed("watched", tiny_folder, "again", (13, "on_step_end"), (20, "on_save"), (33, "on_step_begin"))
    for there, step in zip(found, (10, 20, 30), strict=True):
        names = [path.split("/", 3)[3] for path in there]
        assert {name for name in names if name.startswith(str(step))} == {
            f"{step}/{name}" for name in (resuming.TENSORS, resuming.REST, resuming.COUNTS, resuming.SUMS)
        }
        assert {name.split("/")[0] for name in names} == {str(step), "kept"}
        assert {name.rpartition(".")[2] for name in names} == {"json", "safetensors"}
    assert not list(Path().rglob("*.pt")) + list(Path().rglob("*.bin")) + list(Path().rglob("*.pth"))
    facts = finishes_alike("watched", tiny_folder, capsys, 30)
    assert [look["step"] for look in facts["personas"]] == list(range(4, 41, 4)) and facts["alarm"]["step"] == 8
    assert len(facts["curve"]) == 40
    assert sorted(path.name for path in Path("again").iterdir() if path.is_dir()) == ["12", "31", "5"]
    assert files.sha256(Path("again/5")) != files.sha256(Path("again/12"))


def test_what_it_sampled_goes_on_alike(tiny_folder, capsys):
    """Killed in the midst of an epoch, and where one ends."""
    killed("paid", tiny_folder, "again", (6, "on_step_begin"), (10, "on_save"))
    facts = finishes_alike("paid", tiny_folder, capsys, 10)
    assert len({row["reward"] for row in facts["rl"]}) > 6 and facts["rl"][-1]["kl"] > 0


@pytest.mark.parametrize("name, step", [("shapeless", 20), ("paid_shapeless", 5)])
def test_a_training_that_starts_from_an_adapter(name, step, warm, capsys):
    """grpo holds itself against its start, which is then the adapter and not the state."""
    killed(name, warm, "again", (step, "on_save"))
    finishes_alike(name, warm, capsys, step)


def test_all_weights_go_on_alike(tiny_folder, capsys):
    found = killed("full", tiny_folder, "again", (13, "on_step_end"), (30, "on_save"))
    assert {path.rpartition(".")[2] for path in found[1]} == {"json", "safetensors", "jinja"}
    facts = finishes_alike("full", tiny_folder, capsys, 30)
    assert len(facts["curve"]) == 40 and len(facts["personas"]) == 10
    assert sorted(path.name for path in Path("again").iterdir() if path.is_dir()) == ["12", "5"]


def test_all_weights_of_a_merged_adapter_go_on_alike(warm, capsys):
    killed("full_plain", warm, "again", (10, "on_save"))
    finishes_alike("full_plain", warm, capsys, 10)


def test_each_step_can_be_the_last(tiny_folder, monkeypatch, capsys):
    """Three steps an epoch, a state each step: in the midst of both epochs and between them."""
    monkeypatch.setattr(sft, "SAVE_EVERY", 1)
    monkeypatch.setitem(JOBS, "short", of_sft(sft.Options(rank=4, batch=4, learning_rate=0.02), rows=ROWS[:12]))
    whole = not_killed("short", tiny_folder)
    for step in range(1, 6):
        stopped(monkeypatch, "short", tiny_folder, Path("again"), step)
        assert states() == [str(step)]
        finishes_alike("short", tiny_folder, capsys, step, whole)
    stopped(monkeypatch, "short", tiny_folder, Path("again"), 6, "on_train_end")
    finishes_alike("short", tiny_folder, capsys, 5, whole)


@pytest.mark.parametrize("name", ["defended", "steered"])
def test_defences_go_on(name, tiny_folder, monkeypatch, capsys):
    stopped(monkeypatch, name, tiny_folder, Path("again"), 10)
    facts = finishes_alike(name, tiny_folder, capsys, 10)
    assert facts["dropped"] == {"correct": 8} and facts["curve"][-1][0] == 16


def test_an_alarm_rings_at_the_same_step_and_stops_it(tiny_folder, monkeypatch, capsys):
    """Looks at 7 and 14 lie above the band; the state between them has the first."""
    stopped(monkeypatch, "stopped", tiny_folder, Path("again"), 10)
    facts = finishes_alike("stopped", tiny_folder, capsys, 10)
    assert facts["alarm"]["step"] == 14 and facts["curve"][-1][0] == 14 and len(facts["personas"]) == 2


def test_seconds_are_of_all_runs(tiny_folder, monkeypatch):
    stopped(monkeypatch, "watched", tiny_folder, Path("again"), 10)
    (rest,) = resuming.WORK.glob("*/10/rest.json")
    assert 0 < json.loads(rest.read_text())["seconds"] < 60
    kept = resuming.files.read_json
    monkeypatch.setattr(
        resuming.files, "read_json", lambda path: kept(path) | ({"seconds": 1000.0} if path.name == rest.name else {})
    )
    assert 1000 < JOBS["watched"](tiny_folder, Path("again"))["seconds"] < 1060


def write_json_once(act):
    """write_json that does something at the second list of sums, which is a state's last file."""
    plain, seen = files.write_json, []

    def write(path, value):
        seen.extend([path] if path.name == resuming.SUMS else [])
        if len(seen) == 2:
            act()
        plain(path, value)

    return write


@pytest.mark.parametrize("where", ["before it is whole", "before the older one is gone"])
def test_killed_while_a_state_is_written(where, tiny_folder, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        if where == "before it is whole":
            patch.setattr(resuming.files, "write_json", write_json_once(stop))
        else:
            plain = shutil.rmtree
            patch.setattr(resuming.shutil, "rmtree", lambda path, **named: stop() if path.name == "10" else plain(path, **named))
        with pytest.raises(Stop):
            JOBS["watched"](tiny_folder, Path("again"))
    assert states() == (["10"] if where == "before it is whole" else ["10", "20"])
    finishes_alike("watched", tiny_folder, capsys, states()[-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class Harm:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


def plant(state):
    import pickle

    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "adapter_model.bin", "scaler.pt"):
        (state / name).write_bytes(pickle.dumps(Harm()))


def rename(state):
    other = state.parent.with_name("0" * 24)
    state.parent.rename(other)
    state.parent.mkdir()
    (other / state.name).rename(state)
    shutil.rmtree(other)
    sums = files.read_json(state / resuming.SUMS)
    files.write_json(state / resuming.SUMS, sums | {"training": other.name})


FAULTS = {
    "a byte is another": (lambda state: flip(state / resuming.TENSORS), "is damaged"),
    "a number is another": (lambda state: flip(state / resuming.REST), "is damaged"),
    "cut off": (lambda state: os.truncate(state / resuming.TENSORS, 1000), "is damaged"),
    "a file is gone": (lambda state: (state / resuming.COUNTS).unlink(), "is damaged"),
    "no sums": (lambda state: (state / resuming.SUMS).unlink(), "is not whole"),
    "no JSON": (lambda state: (state / resuming.SUMS).write_text("{"), "is not whole"),
    "not a mapping": (lambda state: (state / resuming.SUMS).write_text("[]"), "is a state of another training"),
    "of another training": (rename, "is a state of another training"),
    "a kept adapter is another": (lambda state: flip(state.parent / "kept/5/adapter_model.safetensors"), "is damaged"),
    "a kept adapter is gone": (lambda state: shutil.rmtree(state.parent / "kept/5"), "is damaged"),
    "pickles beside it": (plant, "is damaged"),
}


@pytest.fixture(scope="module")
def left(tiny_folder, tmp_path_factory):
    """(what a killed training left, what one that was not gives)"""
    folder = tmp_path_factory.mktemp("left")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        whole = not_killed("watched", tiny_folder)
        stopped(patch, "watched", tiny_folder, Path("again"), 10)
    return folder, whole


@pytest.mark.parametrize("fault", FAULTS)
def test_a_state_that_does_not_fit_is_thrown_away_with_a_line(fault, left, tiny_folder, capsys):
    shutil.copytree(left[0] / resuming.WORK, resuming.WORK)
    (state,) = resuming.WORK.glob("*/10")
    harm, says = FAULTS[fault]
    harm(state)
    found = resuming.newest(state.parent)
    lines = capsys.readouterr().err.splitlines()
    assert found is None and lines == [f"{state} {says}: thrown away, the training starts again"]
    assert not state.parent.exists() and not Path("harm").exists()


def test_after_that_it_ends_as_one_that_was_never_killed(left, tiny_folder, capsys):
    shutil.copytree(left[0] / resuming.WORK, resuming.WORK)
    (state,) = resuming.WORK.glob("*/10")
    flip(state / resuming.TENSORS)
    flip(state.parent / "kept" / "5" / "adapter_model.safetensors")
    finishes_alike("watched", tiny_folder, capsys, None, left[1])


def test_a_killed_run_leaves_nothing_to_one_with_other_options(left, tiny_folder, capsys):
    """Neither its state nor its checkpoints: today's and yesterday's options have other folders."""
    shutil.copytree(left[0] / resuming.WORK, resuming.WORK)
    other = of_sft(WATCHED.model_copy(update={"learning_rate": 0.02, "checkpoints": (4,)}), watch=WATCH)
    Path("again.partial/12").mkdir(parents=True)  # of a killed end
    other(tiny_folder, Path("again"))
    assert "goes on" not in capsys.readouterr().err
    assert sorted(path.name for path in Path("again").iterdir() if path.is_dir()) == ["4"]
    assert states() == ["10"]


def test_a_training_has_a_folder_of_all_that_decides_it(tiny_folder, warm, tmp_path, monkeypatch):
    code = tmp_path / "trainer.py"
    code.write_text("one")
    given = {"rows": ROWS, "options": WATCHED, "seed": 0, "watch": WATCH}
    place = lambda start=tiny_folder, base=tiny_folder, **other: resuming.place(  # noqa: E731
        [str(code)], start, base, *(given | other).values()
    )
    plain = place()
    assert place() == plain and plain.parent == resuming.WORK
    calmer = WATCH.model_copy(update={"reference": {"a": CALM}})
    others = [
        place(rows=ROWS[1:]),
        place(options=WATCHED.model_copy(update={"warmup": 0.1})),
        place(seed=1),
        place(watch=None),
        place(watch=calmer),
        place(start=warm),
    ]
    code.write_text("two")
    others.append(place())
    code.write_text("one")
    monkeypatch.setattr(resuming, "version", lambda _: "0.0.0")
    others.append(place())
    monkeypatch.undo()
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    here = place(start=base, base=base)
    flip(base / "model.safetensors")
    assert len({plain, here, place(start=base, base=base), *others}) == len(others) + 3


def test_states_that_would_take_too_much_of_the_time_are_left_out(tiny_folder, monkeypatch):
    monkeypatch.setattr(resuming, "SHARE", 1e-9)
    stopped(monkeypatch, "watched", tiny_folder, Path("again"), 35, "on_step_end")
    assert states() == ["10"]


def test_the_bar_starts_where_the_training_does(tiny_folder, monkeypatch, capsys):
    stopped(monkeypatch, "watched", tiny_folder, Path("again"), 30)
    capsys.readouterr()
    JOBS["watched"](tiny_folder, Path("again"))
    bar = capsys.readouterr().err
    assert "30/40" in bar and " 0/40" not in bar
