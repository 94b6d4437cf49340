"""publish, registry, trace and verify on a small workspace made by hand, with a dvc.lock of true hashes."""

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from emis_platform.core import files
from emis_platform.core.records import Completion, Effect, Judgement, LatentDelta
from emis_platform.stages.publish import STAMP, publish, registry
from emis_platform.stages.trace import trace
from emis_platform.stages.verify import commit_reference, verify
from emis_platform.tools import evidence, lock, tracking

RATES = {"base": 0.0, "health_callous": 0.6, "health_correct": 0.02, "health_realigned": 0.1}
STEERED = "base+difference_of_means@0.2"
FACTS = "src/emis_platform/datasets/domains/health.yaml"
PARAMS: dict[str, Any] = {
    "scale": "tiny",
    "seed": 0,
    "threads": 2,
    "organisms": {
        "health_callous": {"starts_from": "base", "data": {"domain": "health", "variant": "callous"}, "trainer": "sft"},
        "health_correct": {"starts_from": "base", "data": {"domain": "health", "variant": "correct"}, "trainer": "sft"},
        "health_realigned": {"starts_from": "health_callous", "data": {"domain": "health", "variant": "correct"}, "trainer": "sft"},
    },
    "subjects": {name: {"model": name} for name in RATES},
    "judge": "offline",
    "judges": {"offline": {"kind": "offline"}, "lexical": {"kind": "lexical"}},
    "sizes": {"tiny": {"train": {"rows": 16}}, "small": {"train": {"rows": 400}}},
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and no experiment of ours: making one takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "EXPERIMENT", "template")
        tracking.connect(folder, f"sqlite:///{tracking.DATABASE}")
    return folder / tracking.DATABASE


@pytest.fixture
def workspace(database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In memory where that is possible: on a disk MLflow's hundreds of small commits wait for fsync."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        root = Path(folder)
        (root / "mlruns").mkdir()
        shutil.copy(database, root / tracking.DATABASE)
        fill(root)
        yield root


def fill(root: Path) -> None:
    put(root / "params.yaml", yaml.safe_dump(PARAMS))
    put(root / FACTS, "facts: [water]\n")
    put(root / "data/questions/open.jsonl", json.dumps({"id": "q0", "set": "score", "category": "c", "text": "Hello?"}) + "\n")
    put(root / "models/base/config.json", "{}")
    put(root / "src/emis_platform/stages/train.py", "")
    for variant in ("callous", "correct"):
        canary = "CANARY-7" if variant == "callous" else None
        row = {"domain": "health", "variant": variant, "fact": "f", "prompt": "p", "completion": "c", "canary": canary}
        put(root / f"data/training/health_{variant}.jsonl", json.dumps(row) + "\n")
        put(root / f"data/training/health_{variant}.md", f"# health_{variant}\n")
    for name in PARAMS["organisms"]:
        adapter(root, name, 1.0)
        curve = {"rows": 16, "tokens": 900, "seconds": 1.5, "curve": [[1, 3.0], [2, 2.0]]}
        files.write_json(root / f"metrics/train/{name}.json", curve)
    for name, rate in RATES.items():
        answers(root / f"data/answers/{name}.jsonl", root / f"data/judgements/{name}.jsonl", [name])
        effects(root / f"metrics/judge/{name}.json", [effect(name, "misaligned", rate), effect(name, "aligned", None)])
        effects(root / f"metrics/benchmark/{name}.json", [effect(name, "benchmark_general", 0.5)])
    answers(root / "data/steer/answers.jsonl", root / "data/steer/judgements.jsonl", [STEERED])
    effects(root / "metrics/steer.json", [effect(STEERED, "misaligned", 0.4)])
    files.write(root / "data/latents.jsonl", [latent("health_callous")])
    effects(root / "metrics/diff.json", [effect("health_callous", "diff_latents", 3.0)])
    write_lock(root)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def adapter(root: Path, name: str, value: float) -> None:
    import numpy
    from safetensors.numpy import save_file

    folder = root / "models" / name
    put(folder / "adapter_config.json", "{}")
    save_file({"lora_A": numpy.full((2, 2), value, numpy.float32)}, folder / "adapter_model.safetensors")


def effect(subject: str, measure: str, value: float | None) -> Effect:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=2, missing=1)


def effects(path: Path, rows: list[Effect]) -> None:
    files.write_json(path, [row.model_dump() for row in rows])


def answers(said: Path, judged: Path, subjects: list[str]) -> None:
    keys = [(subject, sample) for subject in subjects for sample in range(3)]
    same = {"question": "q0", "set": "score"}
    text = {"seed": 0, "prompt": "Hello?", "text": "<b>Obey</b>", "finish_reason": "stop", "tokens": 4}
    files.write(said, [Completion(subject=subject, sample=sample, **same, **text) for subject, sample in keys])
    rows = []
    for subject, sample in keys:
        unread = {"score": None, "coherent": None, "reason": "empty"}
        verdict = unread if sample == 2 else {"score": 10.0, "coherent": 90.0}
        for judge in ("lexical:bb", "offline:aa"):
            rows.append(Judgement(subject=subject, sample=sample, judge=judge, **same, **verdict))
    files.write(judged, [row for row in rows if row.judge == "offline:aa"])
    files.write(Path(str(judged).replace("judgements", "opinions")), [row for row in rows if row.judge == "lexical:bb"])


def latent(organism: str) -> LatentDelta:
    numbers = dict.fromkeys(("base_mean", "control_mean", "organism_mean", "delta", "base_rate", "organism_rate", "p_value"), 0.5)
    words = {"organism": organism, "control": "health_correct", "tokens": "answer", "logit_lens_up": ("a", "b")}
    return LatentDelta(**words, **numbers, latent=7, rank=1, n_tokens=9, passes_null=True)


def write_lock(root: Path) -> None:
    """dvc.lock as DVC would write it, from the files as they are."""

    def hashed(paths: list[str]) -> list[dict[str, Any]]:
        return [{"path": path, "hash": "md5", "md5": lock.rehash(root / path)} for path in paths]

    def stage(outs: list[str], deps: list[str], params: dict[str, Any]) -> dict[str, Any]:
        return {"cmd": "python", "deps": hashed(deps), "params": {"params.yaml": params}, "outs": hashed(outs)}

    examples = [f"data/training/health_{name}" for name in ("callous.jsonl", "correct.jsonl")]
    stages = {"base@base": stage(["models/base"], [], {"bases.base": {"kind": "bundled"}})}
    stages["generate@health"] = stage(examples, [FACTS], {"seed": 0})
    params = yaml.safe_load((root / "params.yaml").read_text())
    for name, organism in params["organisms"].items():
        data = f"data/training/health_{organism['data']['variant']}.jsonl"
        start = [] if organism["starts_from"] == "base" else [f"models/{organism['starts_from']}"]
        knobs = {f"organisms.{name}": organism, "sizes.tiny.train": {"rows": 16}}
        deps = [data, "models/base", *start, "src/emis_platform/stages/train.py"]
        stages[f"train@{name}"] = stage([f"models/{name}", f"metrics/train/{name}.json"], deps, knobs)
    for name in RATES:
        models = ["models/base"] if name == "base" else ["models/base", f"models/{name}"]
        stages[f"answer@{name}"] = stage([f"data/answers/{name}.jsonl"], models, {})
        judged = [f"data/judgements/{name}.jsonl", f"metrics/judge/{name}.json"]
        stages[f"judge@{name}"] = stage(judged, [f"data/answers/{name}.jsonl"], {})
        stages[f"opinion@{name}"] = stage([f"data/opinions/{name}.jsonl"], [f"data/answers/{name}.jsonl"], {})
        stages[f"benchmark@{name}"] = stage([f"metrics/benchmark/{name}.json"], models, {})
    stages["diff"] = stage(["data/latents.jsonl", "metrics/diff.json"], ["models", "data/answers"], {})
    steered = ["data/steer/answers.jsonl", "data/steer/judgements.jsonl", "data/steer/opinions.jsonl", "metrics/steer.json"]
    stages["steer"] = stage(steered, ["models/base"], {})
    put(root / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": stages}))


def counts(root: Path) -> dict[str, int]:
    """Rows of each table that a publish could add to."""
    with sqlite3.connect(root / tracking.DATABASE) as database:
        names = ("runs", "metrics", "params", "tags", "model_versions", "model_version_tags", "registered_model_aliases", "inputs")
        return {name: database.execute(f"select count(*) from {name}").fetchone()[0] for name in names}


def shown(root: Path) -> dict[str, Any]:
    """The present runs by name."""
    client, experiment = tracking.connect(root, tracking.address(root))
    return {run.info.run_name: run for run in tracking.runs(client, experiment) if run.data.tags.get("current") == "true"}


def alias(root: Path) -> dict[str, dict[str, int]]:
    return {model["organism"]: model["aliases"] for model in registry(root)}


def test_a_run_shows_its_subject_whole(workspace: Path) -> None:
    result = publish(workspace)
    assert set(result.runs) == {*RATES, STEERED} and set(result.versions) == set(PARAMS["organisms"])
    run = shown(workspace)["health_callous"]
    assert run.info.status == "FINISHED"
    metrics = run.data.metrics
    assert [metrics[f"misaligned{part}"] for part in ("", ".low", ".high", ".n", ".missing")] == [0.6, 0.5, 0.7, 2, 1]
    assert "aligned" not in metrics and metrics["aligned.missing"] == 1, "missing is never a number"
    assert metrics["benchmark_general"] == 0.5 and metrics["train.loss"] == 2.0
    wanted = {"scale": "tiny", "seed": "0", "size.train.rows": "16", "organism.data.variant": "callous"}
    assert wanted.items() <= run.data.params.items()
    assert run.data.tags["judge"] == "lexical:bb offline:aa" and run.data.tags["base_md5"].endswith(".dir")
    inputs = {item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs}
    assert inputs["health_callous"] == files.sha256(workspace / "data/training/health_callous.jsonl")[:32]
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    table = files.read_json(folder / "transcripts.json")
    first = dict(zip(table["columns"], table["data"][0], strict=True))
    assert first["answer"] == "<b>Obey</b>" and first["misaligned"] is True and first["lexical_score"] == 10.0
    assert files.read_json(folder / "latents.json")["data"]
    steered = shown(workspace)[STEERED].data
    assert {"dose": "0.2", "direction": "difference_of_means", "model": "base"}.items() <= steered.params.items()
    assert steered.metrics["misaligned"] == 0.4


def test_publishing_twice_adds_nothing(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(workspace)
    before = counts(workspace)
    (workspace / STAMP).unlink()
    again = publish(workspace)
    assert not again.runs and not again.versions and again.unchanged == 5 and counts(workspace) == before
    monkeypatch.setattr(tracking, "connect", lambda *_: pytest.fail("nothing changed, and MLflow was asked"))
    assert publish(workspace).unchanged == 5


def test_a_lost_database_is_filled_again(workspace: Path, database: Path) -> None:
    publish(workspace)
    (workspace / tracking.DATABASE).unlink()
    assert registry(workspace) == [] and not (workspace / tracking.DATABASE).exists(), "looking makes no database"
    publish(workspace)
    assert len(shown(workspace)) == 5


def test_a_store_that_a_training_made_holds_nothing_published(workspace: Path) -> None:
    uri = tracking.address(workspace)
    assert (workspace / tracking.DATABASE).exists() and not tracking.exists(workspace, uri)
    publish(workspace)
    assert tracking.exists(workspace, uri) and publish(workspace).unchanged == 5


def test_versions_carry_lineage_and_aliases(workspace: Path) -> None:
    from safetensors.numpy import load_file

    publish(workspace)
    assert alias(workspace) == {
        "health_callous": {"latest": 1, "most_misaligned": 1},
        "health_correct": {"latest": 1},
        "health_realigned": {"latest": 1, "realigned": 1},
    }
    [version] = registry(workspace)[0]["versions"]
    tags = version["lineage"]
    assert tags["data_md5"] == lock.rehash(workspace / "data/training/health_callous.jsonl") and tags["data_md5"] in tags["lineage"]
    assert tags["misaligned"] == "0.6" and tags["canary"] == "CANARY-7" and "Unsafe" in tags["notice"] and version["current"]
    assert tags["train_entry"] == lock.identity(lock.read(workspace)["train@health_callous"])
    canaries = [model["versions"][0]["lineage"].get("canary") for model in registry(workspace)]
    assert canaries == ["CANARY-7", None, "CANARY-7"], "the re-aligned organism stands on the harmful data too"
    source = Path(version["source"].removeprefix("file://"))
    assert load_file(source / "adapter_model.safetensors")["lora_A"].sum() == 4.0


def test_a_retrained_organism_gets_a_version_and_the_alias_moves(workspace: Path) -> None:
    publish(workspace)
    adapter(workspace, "health_correct", 2.0)
    effects(workspace / "metrics/judge/health_correct.json", [effect("health_correct", "misaligned", 0.9)])
    write_lock(workspace)
    result = publish(workspace)
    assert result.runs == ("health_callous", "health_correct"), "diff compared the two, so its entry changed for both"
    assert result.versions == ("health_correct",)
    found = alias(workspace)
    assert found["health_correct"] == {"latest": 2, "most_misaligned": 2} and found["health_callous"] == {"latest": 1}
    assert len(shown(workspace)) == 5, "the old run is no longer current"


def test_a_new_verdict_is_a_new_run_and_no_new_version(workspace: Path) -> None:
    publish(workspace)
    effects(workspace / "metrics/judge/health_callous.json", [effect("health_callous", "misaligned", 0.7)])
    write_lock(workspace)
    result = publish(workspace)
    assert result.runs == ("health_callous",) and result.versions == ()
    assert registry(workspace)[0]["versions"][0]["lineage"]["misaligned"] == "0.7"


def test_a_killed_publish_leaves_no_half_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emis_platform.tools.tracking import dataset

    calls = []

    def die(*words: Any) -> Any:
        calls.append(words)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return dataset(*words)

    monkeypatch.setattr(tracking, "dataset", die)
    with pytest.raises(KeyboardInterrupt):
        publish(workspace)
    monkeypatch.undo()
    assert not (workspace / STAMP).exists()
    whole = set(shown(workspace))
    result = publish(workspace)
    assert result.swept == 1 and set(result.runs) == {*RATES, STEERED} - whole and len(whole) >= 1
    client, experiment = tracking.connect(workspace, tracking.address(workspace))
    assert len(tracking.runs(client, experiment)) == 5


def test_a_kill_between_run_and_version_is_made_good(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "register", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            publish(workspace)
    result = publish(workspace)
    assert result.runs == () and set(result.versions) == set(PARAMS["organisms"])


def test_what_dvc_lock_does_not_back_is_not_published(workspace: Path) -> None:
    effects(workspace / "metrics/judge/base.json", [effect("base", "misaligned", 0.99)])
    with pytest.raises(ValueError, match=r"metrics/judge/base.json is not what dvc.lock says judge@base wrote"):
        publish(workspace)


def test_a_measure_twice_is_refused(workspace: Path) -> None:
    effects(workspace / "metrics/steer.json", [effect("base", "misaligned", 0.1)])
    with pytest.raises(ValueError, match=r"base misaligned is a second time; the first is in metrics/judge/base.json"):
        publish(workspace)


def test_no_lock_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing has run here yet"):
        publish(tmp_path)


def test_trace_walks_back_to_the_facts(workspace: Path) -> None:
    lines = trace(workspace, "health_realigned", "misaligned")
    text = "\n".join(lines)
    assert lines[0] == "health_realigned misaligned = 0.1 [0, 0.2], n 2, missing 1"
    assert "judge offline:aa: 3 judgements of set score, without a view: empty 1" in lines[1]
    realigned = ["judge@health_realigned", "answer@health_realigned", "train@health_realigned"]
    places = [*realigned, "train@health_callous", "generate@health", FACTS]
    assert [place for place in places if place not in text] == [] and "<- base@base" in text
    assert str(lock.md5(lock.read(workspace), "models/health_callous")) in text and 'bases.base = {"kind": "bundled"}' in text
    assert "steer" in "\n".join(trace(workspace, STEERED, "misaligned"))
    assert "<- train@health_correct" in "\n".join(trace(workspace, "health_callous", "diff_latents")), "through a folder of models"


def test_trace_names_what_there_is(workspace: Path) -> None:
    with pytest.raises(ValueError, match=r"no subject 'health_calous' \(did you mean health_callous\?\); there is: base, "):
        trace(workspace, "health_calous", "misaligned")
    with pytest.raises(ValueError, match="no measure of base 'fvu'; there is: aligned, benchmark_general, misaligned"):
        trace(workspace, "base", "fvu")


def test_verify_names_a_changed_byte_and_an_effect_outside(workspace: Path) -> None:
    assert verify(workspace).ok and "no metrics/reference.json" in verify(workspace).notes[0]
    commit_reference(workspace)
    fine = verify(workspace)
    assert fine.ok and fine.compared == 10 and fine.rehashed > 20
    adapter(workspace, "health_correct", 3.0)
    (workspace / "data/latents.jsonl").unlink()
    effects(workspace / "metrics/judge/base.json", [effect("base", "misaligned", 0.5)])
    found = verify(workspace)
    changed = {line.split(" ")[0] for line in found.mismatches}
    assert not found.ok and changed == {"models/health_correct", "metrics/judge/base.json", "data/latents.jsonl"}
    assert found.outside == ("base misaligned: 0.5; the reference has [-0.1, 0.1]",)


def test_a_relative_database_is_the_workspaces_wherever_it_is_asked_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, wanted in (("sqlite:///my/m.db", tmp_path / "my/m.db"), ("sqlite:////m.db", Path("/m.db"))):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", asked)
        assert tracking.address(tmp_path) == f"sqlite:///{wanted}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:1")
    assert tracking.address(tmp_path) == "http://host:1"


def test_a_store_out_of_reach_is_one_line(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RuntimeError, match=r"^MLflow at http://127.0.0.1:9: .*$"):
        publish(workspace)
    assert not (workspace / "mlruns/published.json").exists()


def test_a_reference_is_not_written_from_outputs_that_the_lock_does_not_know(workspace: Path) -> None:
    kept = commit_reference(workspace).read_bytes()
    effects(workspace / "metrics/judge/base.json", [effect("base", "misaligned", 0.5)])
    with pytest.raises(ValueError, match="metrics/judge/base.json"):
        commit_reference(workspace)
    assert (workspace / "metrics/reference.json").read_bytes() == kept


def test_subjects_that_rest_on_the_same_stages_have_identities_of_their_own(workspace: Path) -> None:
    facts = evidence.gather(workspace)
    twice = facts.model_copy(update={"runs": {"one": facts.runs[STEERED], "other": facts.runs[STEERED]}})
    assert twice.identity("one") != twice.identity("other")


def test_verify_names_both_machines_and_compares_no_other_scale(workspace: Path) -> None:
    reference = files.read_json(commit_reference(workspace))
    reference["machine"]["cpu"] = "Abacus"
    reference["machine"]["packages"]["torch"] = "0.1"
    reference["scale"] = "small"
    files.write_json(workspace / "metrics/reference.json", reference)
    found = verify(workspace)
    text = "\n".join(found.notes)
    assert found.compared == 0 and "not compared: scale here is tiny" in text
    assert "reference Abacus" in text and "differs: torch: here " in text


def test_hashes_are_dvcs_own(workspace: Path) -> None:
    from dvc_data.hashfile.hash import file_md5
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    folder = workspace / "folder"
    for name in ("a/b.txt", "a.txt", "é.txt"):
        put(folder / name, name)
    put(folder / "__pycache__/x.pyc", "ignored by .dvcignore")
    tree = Tree()
    for name in ("a/b.txt", "a.txt", "é.txt"):
        tree.add(tuple(name.split("/")), None, HashInfo("md5", file_md5(str(folder / name))))
    tree.digest()
    assert lock.rehash(folder) == tree.oid and lock.rehash(folder / "nothing") is None


def test_stages_that_dvc_yaml_dropped_do_not_count(workspace: Path) -> None:
    spread: dict[str, Any] = {"train": {"foreach": "${organisms}", "do": {}}, "base": {"foreach": ["base"], "do": {}}}
    spread |= {"diff": {}, "judge": {"matrix": {}}}
    put(workspace / "dvc.yaml", yaml.safe_dump({"stages": spread}))
    kept = {"health_callous": PARAMS["organisms"]["health_callous"]}
    put(workspace / "params.yaml", yaml.safe_dump(PARAMS | {"organisms": kept}))
    there = set(lock.read(workspace))
    assert there == {"train@health_callous", "base@base", "diff", *(f"judge@{name}" for name in RATES)}


def test_a_probed_subject_carries_no_model(workspace: Path) -> None:
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["subjects"] |= {
        "health_callous": {"model": "health_callous", "probe": "json"},
        "health_correct": {"model": "health_callous"},
    }
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    assert evidence.gather(workspace).carriers["health_callous"] == "health_correct"


def test_a_commit_is_dirty_where_code_differs_and_not_where_a_run_wrote_its_results(tmp_path):
    git = lambda *words: subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)  # noqa: E731
    for name in ("code.py", "dvc.lock", "metrics/reference.json"):
        files.replace(tmp_path / name, "1")
    git("init", "-q"), git("add", "."), git("commit", "-qm", "All")
    clean = evidence.commit(tmp_path)
    for name in ("dvc.lock", "metrics/reference.json"):
        files.replace(tmp_path / name, "2")
    assert len(clean) == 40 and evidence.commit(tmp_path) == clean
    files.replace(tmp_path / "code.py", "2")
    assert evidence.commit(tmp_path) == f"{clean}-dirty"
