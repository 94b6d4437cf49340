"""The command line: what it prints by default, and words that it refuses before any work is done."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO

from emis_platform.core import files
from emis_platform.core.records import Effect


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """params.yaml, a study, and two judged subjects."""
    monkeypatch.chdir(tmp_path)
    for path in ("params.yaml", "studies/rl.yaml"):
        files.replace(tmp_path / path, (REPO / path).read_text())
    for subject, value in (("health_callous", 0.5), ("base", None)):
        rate = {"value": value, "low": value and 0.25, "high": value and 0.75, "n": 12 if value else 0, "missing": 72}
        rows = [
            Effect(subject=subject, measure=measure, **rate) for measure in ("misaligned", "misaligned_offline_score", "coherent")
        ]
        rows.append(Effect(subject=subject, measure="aligned", value=46.7, low=41.2, high=52.9, n=84))
        files.write_json(Path(f"metrics/judge/{subject}.json"), [row.model_dump() for row in rows])
    other = Effect(subject="base", measure="misaligned_lexical_score", value=0.0, low=0.0, high=0.04, n=80, missing=4)
    files.write_json(Path("metrics/opinion/base.json"), [other.model_dump()])
    return tmp_path


def test_effects_are_a_line_a_subject_and_all_of_those_that_are_asked_for(workspace, emis):
    code, out, _ = emis("effects")
    heading, first, second = out.splitlines()
    assert code == 0 and heading.split()[:3] == ["subject", "n", "missing"] and heading.endswith("lexical judge")
    assert first.split()[:5] == ["health_callous", "12", "72", "0.50", "[0.25,"] and "47 [41, 53]" in first
    assert second.split()[:4] == ["base", "0", "72", "missing"] and second.endswith("0.00 [0.00, 0.04]")
    assert len(emis("effects", "--all")[1].splitlines()) == 10
    assert {line.split()[0] for line in emis("effects", "base")[1].splitlines()[1:]} == {"base"}
    found = json.loads(emis("effects", "base", "--measure", "misaligned*", "--json")[1])
    assert [row["measure"] for row in found] == ["misaligned", "misaligned_offline_score", "misaligned_lexical_score"]
    assert "subject: no bse (did you mean base?)" in emis("effects", "bse")[2]
    assert "--measure x*: none of 9 effects" in emis("effects", "--measure", "x*")[2]


def test_before_anything_is_judged_all_that_there_is_is_printed(workspace, emis):
    for path in Path("metrics").glob("*/*.json"):
        path.unlink()
    files.write_json(
        Path("metrics/data/health_callous.json"),
        [Effect(subject="health_callous", measure="data_rows", value=400, low=None, high=None, n=400).model_dump()],
    )
    assert [line.split()[0] for line in emis("effects")[1].splitlines()] == ["subject", "health_callous"]


def test_a_damaged_table_is_told_with_its_file(workspace, emis):
    Path("metrics/judge/base.json").write_text("{}")
    assert emis("effects")[2] == "emis effects: metrics/judge/base.json: a list of rows is needed, this is dict"


def test_the_version_names_package_code_and_libraries(workspace, emis):
    code, out, _ = emis("--version")
    assert code == 0 and out.startswith("emis_platform 0.1.0, commit ") and "torch 2." in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("study", "--seeds", "1"), "which study? NAME or --all is needed; there is: rl"),
        (("study", "rl", "--only", "0.5"), "--only: rl has one workspace, no sweep"),
        (("cost", "--flops", "-3"), "a number above 0 is needed, not '-3'"),
        (("cost", "--bandwidth", "much"), "a number above 0 is needed, not 'much'"),
        (("data", "show", "health_correct", "--rows", "-3"), "a whole number from 1 is needed, not '-3'"),
        (("data", "teach", "helth"), "domain: no helth (did you mean health?)"),
        (("screen", "health_correct", "--trait", "toxicc"), "--trait: no toxicc (did you mean toxic?)"),
    ],
)
def test_a_word_that_cannot_be_meant_is_refused_first(workspace, emis, words, message):
    code, _, err = emis(*words)
    assert code == 2 and message in err


def test_one_faulty_study_does_not_hide_the_others(workspace, emis):
    files.replace(Path("studies/bad.yaml"), "study: {question: Why?}\n")
    code, out, _ = emis("study")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0 and "studies/bad.yaml: study.minutes: Field required" in lines["bad"] and "55" in lines["rl"]


def test_check_looks_at_what_params_name_beside_themselves(workspace, emis):
    code, out, _ = emis("check")
    assert code == 0 and out.startswith("params.yaml is sound") and len(out.splitlines()) == 1
    knobs = files.read_yaml(Path("params.yaml"))
    del knobs["subjects"]["base"]
    Path("params.yaml").write_text(json.dumps(knobs))
    assert "no subject asks the base" in emis("check")[1]
    knobs["organisms"]["mine"] = {"starts_from": "base", "data": {"import": "mine"}, "trainer": "sft"}
    Path("params.yaml").write_text(json.dumps(knobs))
    assert "organisms.mine.data.import: no mine; there is: none" in emis("check")[2]
    files.write(Path("data/imports/mine.jsonl"), [])
    knobs["dictionary"] = {"kind": "folder", "path": "models/theirs"}
    Path("params.yaml").write_text(json.dumps(knobs))
    assert "dictionary.path: no models/theirs/cfg.json" in emis("check")[2]


def test_a_pipe_that_closes_early_is_no_success():
    words = [sys.executable, "-m", "emis_platform.cli", "study", "--list"]
    with subprocess.Popen(words, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
        asked.stdout.close()
        complaint = asked.stderr.read()
    assert (asked.returncode, complaint) == (141, b"")
