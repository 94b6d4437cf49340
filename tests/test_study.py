"""A study on a toy DVC project: overlay, sweep, what is restored and what runs, resume, the kept results; and the shipped studies."""

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from emis_platform.core import files, params, studies
from emis_platform.core.records import Effect
from emis_platform.lab import pooling
from emis_platform.report import page
from emis_platform.report.evidence import Evidence
from emis_platform.stages.report import kept_study
from emis_platform.tools import graph, study, tracking

REPO = Path(__file__).resolve().parents[1]
KNOBS = yaml.safe_load((REPO / "params.yaml").read_text())
STAGE = """import json, os, pathlib, sys, yaml
name, out = sys.argv[1:]
open(os.environ["TOY_LOG"], "a").write(name + " ")
if name == os.environ.get("TOY_FAILS"):
    sys.exit(3)
knobs = yaml.safe_load(open("params.yaml"))
value = knobs["answer"]["temperature"] + knobs["seed"]
row = {"subject": name, "measure": "misaligned", "value": value, "low": value - 0.1, "high": value + 0.1, "n": 10, "missing": 1}
pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
pathlib.Path(out).write_text(json.dumps([row]))
"""
GRAPH = {
    "first": {"cmd": "python src/stage.py first data/first", "deps": ["src/stage.py", "data/facts"], "outs": ["data/first"]},
    "judge": {
        "foreach": "${subjects}",
        "do": {
            "cmd": "python src/stage.py ${key} metrics/judge/${key}.json",
            "params": ["seed", "answer.temperature"],
            "deps": ["data/first"],
            "outs": ["metrics/judge/${key}.json"],
        },
    },
}
TOY = {
    "study": {
        "question": "Does it get warmer?",
        "minutes": 1,
        "sweep": {"path": "answer.temperature", "values": [KNOBS["answer"]["temperature"], 0.9]},
        "seeds": [0, 2],
        "targets": ["judge"],
    },
    "subjects": {name: None for name in KNOBS["subjects"] if name not in ("base", "health_callous")},
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    Repo.init(no_scm=True)
    for path, text in {"src/stage.py": STAGE, "data/facts": "x", "dvc.yaml": yaml.safe_dump({"stages": GRAPH})}.items():
        files.replace(Path(path), text)
    shutil.copyfile(REPO / "params.yaml", "params.yaml")
    files.replace(Path("studies/toy.yaml"), yaml.safe_dump(TOY))
    return tmp_path


def ran() -> list[str]:
    log = Path("log")
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def test_a_fresh_study_makes_everything_again_and_counts_equal_outputs(toy, monkeypatch, capsys):
    files.replace(Path("studies/again.yaml"), yaml.safe_dump({"study": {"question": "Same?", "minutes": 1, "fresh": True}}))
    with pytest.raises(ValueError, match="nothing has run here yet"):
        study.run("again")
    graph.reproduce()
    made = sorted(ran())
    study.run("again")
    assert sorted(ran()) == made  # nothing was restored
    (found,) = [row for row in kept_study(Path("metrics/studies/again.json")).effects if row.measure == "rerun_identical"]
    assert (found.subject, found.value, found.low, found.high) == ("rerun", 1.0, 1.0, 1.0) and found.n == len(made)
    files.write_json(Path("metrics/reference.json"), {"machine": {"cpu": "Abacus"}})
    study.run("again")  # a look from another machine is no run
    (found,) = [row for row in kept_study(Path("metrics/studies/again.json")).effects if row.measure.startswith("rerun_")]
    assert found.measure == "rerun_identical" and ran() == []
    shutil.rmtree("work")
    study.run("again")  # another machine's run is no second run of this one
    (found,) = [row for row in kept_study(Path("metrics/studies/again.json")).effects if row.measure.startswith("rerun_")]
    assert found.measure == "rerun_identical_elsewhere"
    Path("metrics/reference.json").unlink()
    locked = files.read_yaml(Path("dvc.lock"))
    locked["stages"]["first"]["outs"][0]["md5"] = "0" * 32
    files.replace(Path("dvc.lock"), yaml.safe_dump(locked))
    shutil.rmtree("work")
    study.run("again")
    (found,) = [row for row in kept_study(Path("metrics/studies/again.json")).effects if row.measure == "rerun_identical"]
    assert found.value == pytest.approx(1 - 1 / len(made)) and f"1 of {len(made)} outputs differ" in capsys.readouterr().out


def test_a_stage_that_reads_a_whole_folder_of_outputs_is_held_against_its_first_run_too():
    entry = lambda deps, outs: {"cmd": "c", "params": {}, "deps": deps, "outs": outs}  # noqa: E731
    one = {"a": entry({"code": "1"}, {"models/x": "2"}), "b": entry({"models": "3", "code": "1"}, {"t.json": "4"})}
    two = {"a": entry({"code": "1"}, {"models/x": "9"}), "b": entry({"models": "8", "code": "1"}, {"t.json": "4"})}
    found = study.identical(one, two)
    assert (found.measure, found.value, found.n, found.missing) == ("rerun_identical", 0.5, 2, 0)
    two["b"]["deps"]["code"] = "5"
    assert (study.identical(one, two).value, study.identical(one, two).missing) == (0.0, 1)


def test_a_flow_may_run_each_stage_of_a_study_in_its_own_way(toy):
    one = {"study": {"question": "Why?", "minutes": 2, "targets": ["judge@base"]}, "seed": 3}
    files.replace(Path("studies/one.yaml"), yaml.safe_dump(one))
    seen = []
    study.run_all(["one"], run_one=lambda stage: (seen.append((stage, Path.cwd().name)), graph.run(stage)))
    assert seen == [("first", "one"), ("judge@base", "one")] and Path("metrics/studies/one.json").exists()


def test_a_night_goes_on_after_a_failure_and_names_it(toy, monkeypatch, capsys):
    one = {"study": {"question": "Why?", "minutes": 2, "targets": ["judge@base"]}, "seed": 3}
    files.replace(Path("studies/one.yaml"), yaml.safe_dump(one))
    files.replace(Path("studies/bad.yaml"), yaml.safe_dump(one | {"study": one["study"] | {"targets": ["judge@health_callous"]}}))
    monkeypatch.setenv("TOY_FAILS", "health_callous")
    with pytest.raises(RuntimeError, match="1 of 2 studies failed: bad"):
        study.run_all(["bad", "one"])
    said = capsys.readouterr().out
    assert "about 4 min" in said and "study bad failed: " in said
    assert Path("metrics/studies/one.json").exists() and not Path("metrics/studies/bad.json").exists()
    ran()
    with pytest.raises(ValueError, match="nothing"):
        study.run_all(["one", "nothing"])
    assert ran() == []  # bad input is said before the first runs


def test_a_study_is_run_with_other_seeds_and_at_another_scale_beside_itself(toy, monkeypatch, emis):
    plain = {key: value for key, value in TOY["study"].items() if key not in ("sweep", "seeds")}
    files.replace(Path("studies/plain.yaml"), yaml.safe_dump(TOY | {"study": plain}))
    study.run("plain")
    assert json.loads(Path("metrics/studies/plain.json").read_text())["sweep"] is None
    ran()
    code, out, err = emis("study", "plain", "--seeds", "0,3", "--scale", "tiny", "--dry")
    assert code == 0 and "of its file: 2 min" in out, err
    assert emis("study", "plain", "--seeds", "0,3", "--scale", "tiny", "--jobs", 2)[0] == 0
    assert sorted(ran()) == ["base", "health_callous"]  # seed 0 is what the first run made; here no stage reads the scale
    assert json.loads(Path("metrics/studies/plain.json").read_text())["sweep"] is None  # a trial replaces no result
    found = kept_study(Path("work/studies/plain.seeds.0,3.scale.tiny/plain.json"))
    assert found.command == "emis study plain --seeds 0,3 --scale tiny" and found.sweep["seeds"] == [0, 3]
    assert {effect.seeds for effect in found.effects} == {2}
    for effect in found.effects:
        assert set(effect.by_seed) == {0, 3} and effect.value == pytest.approx(sum(effect.by_seed.values()) / 2)
    study.run("plain", asked=studies.Asked(seeds=(0, 3)))
    assert json.loads(Path("metrics/studies/plain.json").read_text())["sweep"]["seeds"] == [0, 3]
    knobs = [files.read_yaml(Path(f"work/studies/plain.seeds.0,3.scale.tiny/{seed}/params.yaml")) for seed in (0, 3)]
    assert [(one["seed"], one["scale"]) for one in knobs] == [(0, "tiny"), (3, "tiny")]
    for bad in ("1,1", "a", "1,", ""):
        code, _, err = emis("study", "plain", "--seeds", bad)
        assert code == 2 and "0,1,2" in err


def test_a_study_runs_what_differs_resumes_and_keeps_its_results(toy, monkeypatch, capsys):
    graph.reproduce()
    assert sorted(ran()) == sorted(["first", *KNOBS["subjects"]])

    study.run("toy", only="0.9,0", dry=True)
    assert ran() == []
    assert "3 stages, 2 would run" in capsys.readouterr().out  # `first` comes from the cache

    monkeypatch.setenv("TOY_FAILS", "health_callous")
    with pytest.raises(RuntimeError, match="judge@health_callous"):
        study.run("toy", only="0.9,0")
    assert ran() == ["health_callous"]
    monkeypatch.delenv("TOY_FAILS")
    study.run("toy", only="0.9,0")
    assert ran() == ["health_callous", "base"]
    assert "0.9,0 is finished" in capsys.readouterr().out and not Path("metrics/studies/toy.json").exists()

    study.run("toy", jobs=2)
    assert sorted(ran()) == [
        "base",
        "base",
        "health_callous",
        "health_callous",
    ]  # 0.7,0 is what the main run has, 0.9,0 is finished
    kept = Path("metrics/studies/toy.json").read_bytes()
    old, other = Path("metrics/figures/toy.old.svg"), Path("metrics/figures/toys.rate.svg")
    for path in (old, other):
        files.replace(path, "<svg/>")
    monkeypatch.setattr(study.pictures, "of_study", lambda found: {f"{found.study}.rate.svg": "<svg></svg>"})
    study.run("toy")
    assert Path("metrics/figures/toy.rate.svg").exists() and other.exists() and not old.exists()
    assert ran() == [] and Path("metrics/studies/toy.json").read_bytes() == kept
    assert "is it still true?" not in capsys.readouterr().out
    Path("metrics/studies/toy.md").write_text("Read, it says nothing.")
    study.run("toy")
    assert "is it still true?" not in capsys.readouterr().out  # nothing ran
    Path("metrics/studies/toy.json").unlink()
    study.run("toy")
    assert "metrics/studies/toy.md was written to other results: is it still true?" in capsys.readouterr().out
    assert Path("metrics/studies/toy.md").read_text() == "Read, it says nothing."

    found = kept_study(Path("metrics/studies/toy.json"))
    rows = {(row.at["answer.temperature"], row.subject): row for row in found.effects}
    assert len(rows) == len(found.effects) == 4
    warm = rows[0.9, "base"]
    assert (warm.value, warm.seeds, warm.n, warm.missing) == (pytest.approx(1.9), 2, 20, 2)
    assert warm.low < 0.9 and warm.high > 2.9  # two seeds that differ by 2 say little
    assert [run["label"] for run in found.sweep["runs"]] == ["0.7,0", "0.7,2", "0.9,0", "0.9,2"]
    assert os.uname().nodename not in found.machine
    html = page.render(
        Evidence(effects=(), judged={}, arms={}), [], [], subjects=(), selection=[], training={}, studies=[found],
        facts={"scale": "tiny", "seed": 0, "label_judge": "lexical", "layer": 1, "inputs": []},
    )  # fmt: skip
    assert "Does it get warmer?" in html and 'scope="col">answer.temperature' in html


def test_a_workspace_has_its_own_code_and_follows_the_repository_between_runs(toy):
    plain = {"study": {"question": "Why?", "minutes": 1, "targets": ["judge@base"]}, "seed": 3}
    files.replace(Path("studies/plain.yaml"), yaml.safe_dump(plain))
    files.replace(Path("src/old.py"), "")
    study.run("plain")
    home = Path("work/studies/plain")
    assert ran() == ["first", "base"]
    assert json.loads(Path("metrics/studies/plain.json").read_text())["effects"][0]["value"] == pytest.approx(3.7)
    assert [Effect.model_validate(row) for row in files.read_json(Path("metrics/studies/plain.json"))["effects"]]
    assert (home / "src/old.py").exists() and not (home / "metrics/studies/plain.json").exists()
    assert not (home / "src/stage.py").samefile("src/stage.py")
    Path("src/old.py").unlink()
    files.replace(Path("data/facts"), "y")
    study.run("plain")
    assert ran() == ["first"] and not (home / "src/old.py").exists()  # its output is as before: nothing after it is stale


def test_a_folder_named_in_params_is_the_same_one_in_a_workspace(toy):
    mine = {"dictionary": {"kind": "folder", "path": "mine/sae"}}
    files.replace(Path("studies/plain.yaml"), yaml.safe_dump({"study": {"question": "Why?", "minutes": 1}} | mine))
    (point,) = studies.points("plain", *studies.load("plain"), files.read_yaml(Path("params.yaml")))
    assert yaml.safe_load(study.text(point))["dictionary"]["path"] == (toy / "mine/sae").as_posix()
    assert point.knobs["dictionary"]["path"] == "mine/sae"


def test_two_at_a_time_do_not_share_a_workspace(toy):
    name, overlay = studies.load("toy")
    point = studies.points("toy", name, overlay, KNOBS)[0]
    with study.ready("toy", point):
        os.chdir(toy)
        with pytest.raises(ValueError, match=f"runs already in .*process {os.getpid()}"):
            study.run("toy", only=point.label)


def test_trainings_of_a_study_are_seen_live_where_the_repositorys_are(toy, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    point = studies.points("toy", *studies.load("toy"), KNOBS)[0]
    outside = dict(os.environ)
    with study.ready("toy", point):
        assert Path.cwd() == toy / "work/studies/toy" / point.label
        assert tracking.address(Path.cwd()) == f"sqlite:///{toy / tracking.DATABASE}"
    assert dict(os.environ) == outside


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subjects": {"nobody": None}}, "studies/toy.yaml: subjects.nobody: null removes an entry, and there is none"),
        ({"answer": {"temprature": 1}}, "no key answer.temprature; did you mean temperature?"),
        ({"study": {"question": "Why?", "minutes": 1, "sweep": {"path": "organisms.nobody.seed", "values": [0]}}}, "no mapping organisms.nobody"),
        ({"study": {"question": "Why?", "minutes": 1, "sweep": {"path": "seed", "values": []}}}, "study.sweep"),
        ({"study": {"question": "Why?", "minuets": 1}}, "minutes"),
        ({"study": {"question": "Why?", "minutes": 1, "sweep": {"path": "seed", "values": [1, "1"]}}}, "two workspaces of one name"),
        ({"study": {"question": "Why?", "minutes": 1, "targets": ["juge"]}}, "targets: no stage juge (did you mean judge?)"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line(toy, change, message):
    files.replace(Path("studies/toy.yaml"), yaml.safe_dump(TOY | change))
    with pytest.raises(ValueError) as error:
        study.run("toy", dry=True)
    assert message in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"no studies/tyo.yaml \(did you mean toy\?\)"):
        studies.load("tyo")


def test_an_overlay_merges_mappings_replaces_the_rest_and_removes_at_null():
    below = {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": 2}
    assert studies.merged(below, {"a": {"c": [3], "f": 4}, "d": {"g": 5}, "e": None}) == {
        "a": {"b": 1, "c": [3], "f": 4}, "d": {"g": 5},
    }  # fmt: skip
    assert below["a"] == {"b": 1, "c": [1, 2]}


def test_pooled_seeds_are_no_surer_than_one_seed_and_a_missing_one_counts():
    one = Effect(subject="a", measure="m", value=0.5, low=0.4, high=0.6, n=10, missing=1)
    same = pooling.over_seeds([one, one, one])
    assert (same.value, same.low, same.high, same.n, same.missing) == pytest.approx((0.5, 0.4, 0.6, 30, 3))
    none = one.model_copy(update={"value": None, "low": None, "high": None, "n": 0, "missing": 11})
    assert pooling.over_seeds([one]) == one
    alone = pooling.over_seeds([none, one])  # nothing is known of how far seeds lie apart
    assert alone == one.model_copy(update={"missing": 12, "low": None, "high": None})
    open_end = pooling.over_seeds([one, one.model_copy(update={"value": 0.51, "high": None})])
    assert open_end.high is None and open_end.low is not None and open_end.low < 0.4


def test_a_share_that_grows_tenfold_by_tenfold_has_that_slope_and_an_unsure_one_a_wider_interval():
    def rows(values, half):
        return [
            (10**k, Effect(subject="a", measure="m", value=v, low=v - half, high=v + half, n=10))
            for k, v in zip((6, 7, 8), values, strict=True)
        ]

    line = pooling.over_sizes(rows((0.1, 0.2, 0.3), 0.02), "size_slope")
    assert (line.value, line.high - line.value, line.n) == pytest.approx((0.1, 0.02 / 2**0.5, 30))
    bent = pooling.over_sizes(rows((0.1, 0.26, 0.3), 0.02), "size_slope")
    assert bent.value == pytest.approx(0.1) and bent.low < 0 < line.low
    unexplained = 12.706 * (0.04**2 + 2 * 0.02**2) ** 0.5 / 2**0.5  # t with one degree of freedom
    assert bent.high - bent.value == pytest.approx((unexplained**2 + 0.02**2 / 2) ** 0.5, rel=1e-3)
    floor = [(size, one.model_copy(update={"low": one.value})) for size, one in rows((0.1, 0.2, 0.3), 0.02)]
    sided = pooling.over_sizes(floor, "size_slope")  # the first may lie higher, the last not lower
    assert (sided.value - sided.low, sided.high - sided.value) == pytest.approx((0.01, 0.01))
    unseen = (9 * 10**6, Effect(subject="a", measure="m", value=None, low=None, high=None, n=0, missing=4))
    assert pooling.over_sizes([*rows((0.1, 0.2, 0.3), 0.02), unseen], "size_slope").missing == 4
    assert pooling.over_sizes([*rows((0.1, 0.2, 0.3), 0.02)[:2], unseen], "size_slope") is None


def test_a_sweep_over_bases_tells_the_slope_of_each_subject():
    runs = [
        studies.Run(
            label=str(size), at={"bases.base": {"kind": "local", "path": f"/m/{size}"}, "seed": 1}, seed=None, date="d", minutes=1,
            params_sha256="p", lock="l", code="c", machine="m", parameters=size, effects=tuple(
                Effect(subject=name, measure=measure, value=v, low=v - 0.01, high=v + 0.01, n=9) for name, measure, v in (("a", "misaligned", k / 10), ("b", "misaligned", 0.2), ("b", "coherent", k / 3))
            ),
        )
        for k, size in enumerate((10**6, 10**7, 10**8))
    ]  # fmt: skip
    found = {effect.subject: effect for effect in study.slopes(runs)}
    assert found["a"].value == pytest.approx(0.1) and found["b"].value == pytest.approx(0) and found["a"].at == {"seed": 1}
    assert len(found) == len(study.slopes(runs)) == 2 and study.slopes(runs[:2]) == []
    unseen = runs[0].model_copy(update={"parameters": 10**9, "at": {"bases.base": "more", "seed": 1}, "effects": tuple(
        effect.model_copy(update={"value": None, "low": None, "high": None}) for effect in runs[0].effects
    )})  # fmt: skip
    assert {effect.seeds for effect in study.slopes([*runs, unseen])} == {1}


def test_a_finished_sweep_over_bases_keeps_its_slope(toy, monkeypatch):
    sizes = (10**6, 10**7, 10**8)
    for size in sizes:
        files.write_json(Path(f"m/{size}/config.json"), {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 30})
    sweep = {"path": "bases.base", "values": [{"kind": "local", "path": f"m/{size}"} for size in sizes]}
    files.replace(Path("studies/sizes.yaml"), yaml.safe_dump(TOY | {"study": TOY["study"] | {"sweep": sweep, "seeds": []}}))
    monkeypatch.setattr(
        study.shapes,
        "read",
        lambda base: SimpleNamespace(
            parameters=int(files.read_yaml(Path("params.yaml"))["bases"]["base"]["path"].rpartition("/")[2])
        ),
    )
    study.run("sizes")
    found = kept_study(Path("metrics/studies/sizes.json"))
    assert [run["parameters"] for run in found.sweep["runs"]] == list(sizes)
    slopes = {effect.subject: effect for effect in found.effects if effect.measure == "size_slope"}
    assert slopes.keys() == {"base", "health_callous"} and slopes["base"].value == pytest.approx(
        0
    )  # the toy answers alike on every base


@pytest.mark.parametrize("name", [path.stem for path in (REPO / "studies").glob("*.yaml")])
def test_the_shipped_studies_are_sound(name, monkeypatch):
    monkeypatch.chdir(REPO)
    told, overlay = studies.load(name)
    assert studies.points(name, told, overlay, KNOBS)


def test_the_mechanism_study_has_every_domain_both_ways_and_asks_them_all(monkeypatch):
    monkeypatch.chdir(REPO)
    told, overlay = studies.load("mechanism")
    (point,) = studies.points("mechanism", told, overlay, KNOBS)
    knobs = params.checked(point.knobs, "mechanism")
    assert {f"{domain}_{variant}" for domain in knobs.domains for variant in ("callous", "correct")} <= set(knobs.organisms)
    assert len(knobs.organisms) == 24 and {s.model for s in knobs.subjects.values()} == {"base", *knobs.organisms}
    assert all(o.starts_from == "base" and o.data.rows is None for o in knobs.organisms.values())
