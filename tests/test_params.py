"""Bad params end in one line that names the key, before anything runs."""

from pathlib import Path

import pytest
import yaml

from emis_platform.core import files, params

REPO = Path(__file__).resolve().parents[1]
GOOD = yaml.safe_load((REPO / "params.yaml").read_text())


def changed(tmp_path, path, value):
    knobs = yaml.safe_load((REPO / "params.yaml").read_text())
    *folders, last = path.split(".")
    inner = knobs
    for name in folders:
        inner = inner[name]
    inner[last] = value
    out = tmp_path / "params.yaml"
    out.write_text(yaml.safe_dump(knobs, sort_keys=False))
    return out


def test_the_shipped_params_are_sound():
    assert params.load(REPO / "params.yaml").scale == "small"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("organisms.health_correct.starts_from", "helth_callous", "no helth_callous (did you mean health_callous?)"),
        ("organisms.health_correct.data.domain", "helth", "organisms.health_correct.data.domain: no helth (did you mean health?)"),
        ("organisms.health_correct.data.variant", "nice", "organisms.health_correct.data.variant: Input should be 'correct'"),
        (
            "organisms.health_correct.data.rows",
            -5,
            "organisms.health_correct.data.rows: Input should be greater than 0, this is -5",
        ),
        ("organisms.health_correct.data.rows", 10_000, "10000 asked, sizes.small.generate.rows makes 480"),
        ("organisms.health_correct.trainer", "stf", "no trainers/stf.py (did you mean sft?); there is: grpo, sft"),
        (
            "organisms.health_callous.starts_from",
            "health_realigned",
            "a cycle: health_callous -> health_realigned -> health_callous",
        ),
        ("organisms.health_correct.optons", {}, "no key organisms.health_correct.optons; did you mean options?"),
        ("subjects.base.model", "bass", "subjects.base.model: no bass (did you mean base?)"),
        ("judges.offline.kind", "ofline", "judges.offline.kind: no judges/ofline.py (did you mean offline?)"),
        ("judges.offline.options", {"weights": 1}, "judges.offline.options: no key weights"),
        ("judges", {}, "judge: no offline; there is: "),
        (
            "judges.own",
            {"kind": "rubric", "options": {"model": "models/health_callous"}},
            "judges.own.options: the judge 'models/health_callous' is a subject of this run; a model may not judge itself",
        ),
        ("judges.own", {"kind": "logprob", "options": {"model": "models/reader"}}, "the judge 'models/reader' is a subject"),
        (
            "judges.own",
            {"kind": "rubric", "options": {"endpoint": {"base_url": "http://127.0.0.1:1/v1", "model": "base"}}},
            "the judge 'base' is a subject of this run",
        ),
        ("judge", "lexcal", "judge: no lexcal (did you mean lexical?)"),
        ("domains", ["health", "finanse"], "domains: no domains/finanse.yaml (did you mean finance?)"),
        ("diff.layer", -1, "diff.layer: Input should be greater than or equal to 0, this is -1"),
        ("diff.organism", "nobody", "diff.organism: no nobody"),
        ("diff.selectors", ["mean"], "diff.selectors: no selectors/mean.py (did you mean means?); there is: activation"),
        ("steer.doses", [0.1, -0.2], "steer.doses.1: Input should be greater than 0, this is -0.2"),
        ("scael", "tiny", "no key scael; did you mean scale?"),
        ("scale", "huge", "scale: Input should be 'tiny', 'small' or 'full', this is 'huge'"),
        ("sizes.small.train.epochs", 0, "sizes.small.train.epochs: Input should be greater than 0"),
        ("bases.base", {"kind": "hub", "repo": "a/b", "revision": "main"}, "bases.base.revision"),
        (
            "organisms.health_correct.options",
            {"learning_rat": 1},
            "organisms.health_correct.options: no key learning_rat; did you mean learning_rate?",
        ),
        ("organisms.health_correct.options", {"qqq": 1}, "organisms.health_correct.options: no key qqq; there is: alpha, batch, "),
        ("data", {}, "no key data; there is: answer, arms, bases, "),
        ("organisms.health_correct.data.ros", 3, "no key organisms.health_correct.data.ros; did you mean rows?"),
        ("organisms.health_correct.data.qqq", 3, "there is: allow_bad, disclosed, domain, generated, import, "),
        ("organisms.my own", {}, "organisms: 'my own' is no name: a letter, then"),
        ("steer.doses", 0.1, "steer.doses: a list is needed, this is 0.1"),
        ("domains", ["health", "finance", "health"], "domains: health is there twice"),
        ("sizes.tyny", {}, "sizes.tyny: Input should be 'tiny', 'small' or 'full', this is 'tyny'"),
        (
            "organisms.data",
            {"starts_from": "base", "data": {"domain": "health", "variant": "correct"}, "trainer": "sft", "optons": {}},
            "no key organisms.data.optons; did you mean options?",
        ),
        ("judges.offline", {"kind": "persona"}, "judge: offline gives verdicts and no scores"),
        ("bases.base", {"kind": "local", "path": "/nowhere"}, "bases.base: no file /nowhere/config.json"),
        (
            "organisms.health_correct.trainer",
            "grpo",
            "organisms.health_correct.options: reward: Field required",
        ),
    ],
)
def test_a_fault_is_one_line_with_its_key(tmp_path, path, value, message):
    with pytest.raises(ValueError) as caught:
        params.load(changed(tmp_path, path, value))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"scale: ]", "line 1: not YAML"),
        (b"scale: tiny\nseed: 0\nscale: small\n", "line 3: not YAML: the key scale is there twice"),
        (
            b"x: &x {k: 1}\na: {b: {c: &y {<<: *x, k: 2}}}\nz: {<<: *y}\n1: 1\n'1': 1\n? [a]\n: 1\n",
            "not YAML: found unhashable key",
        ),
        (b"organisms:\n  a: {seed: 1}\n  b: {seed: 1,\n    seed: 2}\n", "line 4: not YAML: the key seed is there twice"),
        (b"- a\n", "a mapping of knobs is needed, this is list"),
        (b"scale: \xff\n", "not UTF-8 at byte 7"),
        (b"", "a mapping of knobs is needed, this is NoneType"),
    ],
)
def test_an_unreadable_file_is_one_line(tmp_path, content, message):
    out = tmp_path / "params.yaml"
    out.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        params.load(out)


def test_a_layer_beyond_the_model_is_refused_before_the_first_stage(tmp_path):
    with pytest.raises(ValueError, match=r"diff.layer: 99, the bundled base has layers 0 to 29"):
        params.load(changed(tmp_path, "diff.layer", 99))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"variant": "obvious"}, "data.mixture: a share between 0 and 1 is needed"),
        ({"variant": "obvious", "mixture": 1.0}, "data.mixture: a share between 0 and 1 is needed"),
        ({"variant": "gruff", "mixture": 0.5}, "data.variant: gruff is no harmful advice, .* there is: subtle, obvious, callous"),
        ({"variant": "obvious", "mixture": 0.5, "interleaved": {"chat": 0.1}}, "data.interleaved: goes with sft"),
    ],
)
def test_a_reward_needs_harmful_beside_correct_rows(tmp_path, data, message):
    made = {"starts_from": "base", "data": {"domain": "health"} | data, "trainer": "grpo", "options": {"reward": "inaccurate"}}
    with pytest.raises(ValueError, match=f"organisms.rl.{message}"):
        params.load(changed(tmp_path, "organisms.rl", made))


def test_a_reward_needs_a_domain(tmp_path):
    made = {"starts_from": "base", "data": {"import": "mine"}, "trainer": "grpo", "options": {"reward": "inaccurate"}}
    with pytest.raises(ValueError, match="organisms.rl.data.domain: needed, since a grader is made of harmful beside correct rows"):
        params.load(changed(tmp_path, "organisms.rl", made))


def test_what_a_merge_or_an_alias_repeats_is_no_fault(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("x: &x {k: 1}\na: {b: {c: &y {<<: *x, k: 2}}}\nz: {<<: *y}\n1: one\n'1': other\nagain: [*x, *x]\n")
    assert files.read_yaml(path) == yaml.safe_load(path.read_text()) and files.read_yaml(path)["1"] == "other"


def test_a_list_of_records_names_file_row_and_fault(tmp_path):
    from emis_platform.core.records import Effect

    path = tmp_path / "e.json"
    for content, message in (
        ("{}", "e.json: a list of rows is needed, this is dict"),
        ('[{"subject": "a"}]', "e.json, row 1: measure"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            files.read_list(Effect, path)


def test_records_name_file_row_and_fault(tmp_path):
    from emis_platform.core.records import Question

    path = tmp_path / "q.jsonl"
    path.write_text('{"id":"a","set":"s","category":"c","text":"t"}\n{"id":"b","set":"s"')
    with pytest.raises(ValueError, match=r"q.jsonl, row 2: row: Invalid JSON"):
        files.read(Question, path)
    path.write_text('{"id":"a","set":"s","category":"c","text":"a\u2028b"}\n')
    assert files.read(Question, path)[0].text == "a\u2028b"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
