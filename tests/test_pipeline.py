"""dvc.yaml against the code: deps are the closure of the imports, commands are the stages' signatures, floors hold."""

import inspect
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from emis_platform import cli
from emis_platform.core import stage as core_stage
from emis_platform.tools import closure, evidence

REPO = Path(__file__).resolve().parents[1]
STAGES = yaml.safe_load((REPO / "dvc.yaml").read_text())["stages"]


def body(name):
    return STAGES[name].get("do", STAGES[name])


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(REPO)


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_what_the_stage_imports(name):
    listed = [dep for dep in body(name)["deps"] if dep.startswith("src/")]
    assert listed == closure.closure(name), "run python -m emis_platform.tools.closure"


def test_a_missing_dep_would_be_noticed():
    text = (REPO / "dvc.yaml").read_text()
    without = "\n".join(line for line in text.splitlines() if "tools/models.py" not in line) + "\n"
    assert without != text
    assert closure.rewritten(without) == text


@pytest.mark.parametrize("name", STAGES)
def test_a_command_is_its_stages_signature_and_its_files_are_deps_or_outs(name):
    """DVC sees every file that a stage is given, and a stage is given every file that DVC sees."""
    words = shlex.split(body(name)["cmd"])
    assert words[:2] == ["python", "-m"]
    main = import_module(words[2]).main
    _, given = core_stage.arguments(main, words[3:])
    paths = [str(path) for value in given.values() for path in (value if isinstance(value, list) else [value])]
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in body(name)["outs"]]
    deps = [dep for dep in body(name)["deps"] if not dep.startswith("src/")]
    for path in paths:
        assert path in deps + outs or str(Path(path).parent) in deps, path
    for known in deps + outs:
        assert any(path == known or str(Path(path).parent) == known for path in paths), known


def test_every_stage_file_is_in_the_graph():
    used = {re.search(r"stages\.(\w+)", body(name)["cmd"])[1] for name in STAGES}
    outside = {
        "__init__",
        "publish",
        "trace",
        "verify",
        "gold",
        "importer",
        "imported",
        "voices",
        "personas",
        "catalog",
        "teach",
        "door",
        "dictionary_compare",
        "judge_report",
        "drift",
        "cost",
        "audit",
        "export",
        "label",
        "latent",
        "inspect_logs",
        "screen_file",
    }
    assert {p.stem for p in (REPO / "src/emis_platform/stages").glob("*.py")} - outside == used


def test_another_judge_makes_only_opinions_and_what_reads_them_stale():
    listed = {name: [param for param in body(name).get("params", []) if isinstance(param, str)] for name in STAGES}
    assert {name for name, params in listed.items() if "judges" in params} == {"opinion", "opinion_steered", "conditions"}
    outs = {out.split("${")[0].rstrip("/") for name in ("opinion", "opinion_steered") for out in body(name)["outs"]}
    needed = {name for name in STAGES if any(dep.startswith(tuple(outs)) for dep in body(name)["deps"])}
    quick = {"discriminate", "screened", "rl", "mixtures", "realigned", "rotation", "defences", "conditions", "reasoning", "report"}
    assert needed == quick  # seconds


def test_imports_go_down_only():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_one_library_has_one_home():
    homes = {"mlflow": 1, "dvc": 1, "sae_lens": 1, "lm_eval": 1, "great_expectations": 1}
    for library, most in homes.items():
        users = [p for p in (REPO / "src").rglob("*.py") if re.search(rf"^\s*(from|import) {library}\b", p.read_text(), re.M)]
        assert len(users) <= most, (library, users)


def test_the_table_of_effects_lists_every_file_that_mlflow_gets():
    source = inspect.getsource(cli.all_effects)
    wanted = [Path(path).parent.name for path in evidence.TABLES if "*" in path]
    assert [name for name in wanted if name not in source] == []
