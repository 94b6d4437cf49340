"""The path of an adapter: products against dense matrices, a straight line, a corner and a random walk; the onset; the stage on trained checkpoints."""

import json

import numpy as np
import pytest
import yaml
from conftest import REPO

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Direction, Example, Judgement
from emis_platform.lab import rotation
from emis_platform.lab.excess import NOTHING
from emis_platform.lab.rotation import Pair
from emis_platform.stages import project
from emis_platform.stages import rotation as stage
from emis_platform.tools import models, updates
from emis_platform.trainers import sft

SHAPES = ((6, 5), (3, 8))
"""Of two modules, (out, in)."""


def pair(random, shape, rank, scale=2.0):
    return Pair(random.normal(size=(rank, shape[1])), random.normal(size=(shape[0], rank)), scale)


def dense(modules, place):
    """All modules' updates at one point, in one vector."""
    whole = [
        np.zeros(shape) if m[place] is None else m[place].scale * m[place].b_OR @ m[place].a_RI
        for shape, m in zip(SHAPES, modules, strict=True)
    ]
    return np.concatenate([one.ravel() for one in whole])  # fmt: skip


def angle(one, other):
    return np.degrees(np.arccos(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))


@pytest.mark.parametrize("ranks", [(1, 1, 1, 1), (4, 4, 4, 4), (2, 1, 3, 4)])
@pytest.mark.parametrize("from_base", [True, False])
def test_norms_turns_and_cosines_are_those_of_dense_matrices(ranks, from_base):
    random = np.random.default_rng(0)
    modules = [[pair(random, shape, rank, 0.5 + rank) for rank in ranks] for shape in SHAPES]
    if from_base:
        modules = [[None, *points[1:]] for points in modules]
    found = rotation.path(rotation.gram(modules))
    whole = [dense(modules, place) for place in range(4)]
    moved = [one - whole[0] for one in whole]
    assert found.norm_P == pytest.approx([np.linalg.norm(one) for one in moved])
    assert found.turn_P[1:3] == pytest.approx([angle(whole[n] - whole[n - 1], whole[n + 1] - whole[n]) for n in (1, 2)])
    assert np.isnan(found.turn_P[[0, 3]]).all() and np.isnan(found.cosine_P[0])
    cosines = [one @ moved[3] / np.linalg.norm(one) / np.linalg.norm(moved[3]) for one in moved[1:]]
    assert found.cosine_P[1:] == pytest.approx(cosines)


def walked(changes, rank_one=True):
    """A path that makes these changes of B, A being the same: the update's changes are theirs."""
    places = np.cumsum(np.vstack([np.zeros(len(changes[0])), changes]), axis=0)
    a_RI = np.random.default_rng(9).normal(size=(1, 7))
    return rotation.path(rotation.gram([[Pair(a_RI, place[:, None], 64.0) for place in places]]))


def test_a_straight_line_turns_by_0_a_random_walk_by_90_and_a_corner_is_found():
    random = np.random.default_rng(0)
    one, other = np.eye(400)[:2]
    assert walked([one, 3 * one, 0.1 * one]).turn_P[1:-1] == pytest.approx([0, 0], abs=0.1)
    chance = walked(random.normal(size=(12, 400))).turn_P[1:-1]
    assert chance.mean() == pytest.approx(90, abs=2) and np.ptp(chance) < 20
    jitter = np.diff(random.normal(size=(12, 400)), axis=0)
    assert walked(jitter).turn_P[1:-1].mean() == pytest.approx(120, abs=2)
    path = walked([one, one, one, other, other])
    assert path.turn_P[1:-1] == pytest.approx([0, 0, 90, 0], abs=0.1)
    assert rotation.largest(dict(zip((5, 10, 15, 20), path.turn_P[1:-1], strict=True))) == (15, pytest.approx(90))
    assert path.cosine_P[1] == pytest.approx(3 / 13**0.5)


def test_where_nothing_moved_there_is_no_turn_and_one_turn_is_no_largest():
    one = np.eye(4)[0]
    path = walked([one, 0 * one, one, one])
    assert np.isnan(path.turn_P[1:3]).all() and path.turn_P[3] == pytest.approx(0, abs=0.1)
    assert np.isnan(rotation.path(rotation.gram([[None, pair(np.random.default_rng(0), (4, 4), 1)]])).turn_P).all()
    assert rotation.largest({5: 80.0}) == rotation.largest({}) == (None, None)


def rising(random, rates, questions=60):
    return {step: {f"q{n}": [float(random.random() < rate)] for n in range(questions)} for step, rate in rates.items()}


def test_the_onset_is_the_step_before_the_jump_and_its_interval_is_made_of_steps():
    rates = {0: 0.02, 10: 0.02, 20: 0.05, 30: 0.5, 50: 0.55}
    found = [rotation.onset(rising(np.random.default_rng(seed), rates), seed)[0] for seed in range(20)]
    assert sum(value == 20 for value, _, _ in found) >= 19 and sum(low <= 20 <= high for _, low, high in found) >= 19
    assert {end for _, *ends in found for end in ends} <= set(rates)


def test_noise_a_short_curve_and_nothing_coherent_have_no_onset():
    flat = {step: 0.2 for step in (0, 10, 20, 30, 50)}
    told = [rotation.onset(rising(np.random.default_rng(seed), flat), seed)[0][0] for seed in range(60)]
    assert sum(value is not None for value in told) <= 5
    random = np.random.default_rng(0)
    assert rotation.onset(rising(random, {0: 0.0, 50: 0.9})) == (NOTHING, 120)
    assert rotation.onset({}) == rotation.onset({0: {}, 10: {}, 20: {}}) == (NOTHING, 0)


ROWS = [
    Example(domain="health", variant="callous", fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} is awful") for n in range(24)
]


@pytest.fixture(scope="module")
def workspace(tiny_folder, tmp_path_factory):
    """Three trainings of six steps on the tiny model: rank 1, rank 4 on all modules, and one that goes on from the second."""
    folder = tmp_path_factory.mktemp("rotation")
    (folder / "models").mkdir()
    (folder / "models/base").symlink_to(tiny_folder)
    organism = lambda start, **options: {  # noqa: E731
        "starts_from": start, "data": {"domain": "health", "variant": "callous"}, "trainer": "sft", "options": {"batch": 4, "checkpoints": [2, 4, 6]} | options,
    }  # fmt: skip
    made = {
        "one": organism("base", rank=1, rslora=True, modules=["down_proj"], layers=[1], learning_rate=0.01),
        "many": organism("base", rank=4, learning_rate=0.01),
        "on": organism("many", learning_rate=0.01),
        "few": organism("base", rank=4) | {"options": {"checkpoints": [2]}},
        "whole": organism("base", full=True),
    }
    for name, entry in made.items():
        options = sft.Options.model_validate(entry["options"] | {"batch": 4})
        told = sft.train(
            ROWS, options, start=folder / "models" / entry["starts_from"], adapter=folder / "models" / name, seed=0, epochs=1, threads=1
        )  # fmt: skip
        files.write_json(folder / f"training/{name}.json", told | ({"alarm": {"step": 1}} if name == "one" else {"alarm": None}))
    raw = yaml.safe_load((REPO / "params.yaml").read_text())
    kept = {name: raw["organisms"][name] for name in ("health_callous", "health_correct")}
    for entry in kept.values():
        entry["options"] = {}
    raw |= {"organisms": kept | made, "suppress": raw["suppress"] | {"organisms": []}}
    raw["subjects"] = {
        name: {"model": model} for name, model in {"base": "base", "early": "one/2", "late": "one/4", "end": "one"}.items()
    }
    raw["diff"]["layer"] = 1
    files.replace(folder / "params.yaml", json.dumps(raw))
    said = [
        Completion(subject="base", question=f"d{n}", set="discover", sample=0, seed=0, prompt=f"what is {n}?", text="of no use" * (n > 0), finish_reason="stop", tokens=4)
        for n in range(7)
    ]  # fmt: skip
    files.write(folder / "answers/base.jsonl", said)
    for name, bad in (("base", 1), ("early", 2), ("late", 30), ("end", 31)):
        views = [
            Judgement(subject=name, question=f"q{n}", set="score", sample=0, judge="lexical:x", score=10.0 if n < bad else 95.0, coherent=90.0 if n < 44 else 10.0)
            for n in range(48)
        ]  # fmt: skip
        files.write(folder / f"opinions/{name}.jsonl", views)
    return folder


def toxic(_base, layer, words, *, threads):
    unit = np.random.default_rng(0).normal(size=32)
    return [
        Direction(name=f"persona_{word}", layer=layer, origin=f"persona:{word}", vector=tuple(unit / np.linalg.norm(unit)))
        for word in words
    ]


@pytest.fixture
def told(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    out = workspace / "out.json"
    folders = {name: workspace / name for name in ("models", "training", "answers", "opinions")}
    monkeypatch.setattr(stage.personas, "of", toxic)
    stage.main(**folders, judgements=workspace / "none", effects=out)
    return {(row["subject"], row["measure"]): row for row in files.read_json(out)}


@pytest.mark.parametrize("name", ["one", "many", "on"])
def test_the_stage_says_what_merged_weights_say(told, workspace, name):
    points = list(stage.kept(params.load(), name, workspace / "training").values())
    assert points == [{"on": "many"}.get(name, "base"), f"{name}/2", f"{name}/4", name]  # step 6 is the end
    states = [models.load(workspace / "models" / point, threads=1)[0].state_dict() for point in points]
    whole = [np.concatenate([state[key].double().numpy().ravel() for key in sorted(state)]) for state in states]
    for place in (1, 2):
        change, following = whole[place] - whole[place - 1], whole[place + 1] - whole[place]
        assert told[points[place], "rotation_degrees"]["value"] == pytest.approx(angle(change, following), abs=0.05)
        norm = np.linalg.norm(whole[place] - whole[0])
        assert told[points[place], "update_norm"]["value"] == pytest.approx(norm, rel=1e-3) and norm > 0
        assert told[points[place], "update_step"]["value"] == 2 * place
    largest = max((1, 2), key=lambda place: told[points[place], "rotation_degrees"]["value"])
    assert told[name, "rotation_step"]["value"] == 2 * largest and told[name, "rotation_step"]["n"] == 2
    assert told[name, "update_step"]["value"] == 6 and (name, "rotation_degrees") not in told


def test_the_stage_puts_the_onset_beside_it_where_checkpoints_are_questioned(told):
    assert told["one", "onset_step"] | {"low": 0, "high": 0} == {
        "subject": "one", "measure": "onset_step", "value": 2.0, "low": 0, "high": 0, "n": 4 * 44, "missing": 4 * 4,
    }  # fmt: skip
    assert (told["one", "onset_step"]["low"], told["one", "onset_step"]["high"]) == (2.0, 2.0)
    lead = told["one", "alarm_lead_steps"]
    assert (lead["value"], lead["low"], lead["high"], lead["n"]) == (1.0, 1.0, 1.0, 4 * 44)
    rates = {name: told[name, "rotation_misaligned"] for name in ("one/2", "one/4", "one")}
    assert [round(44 * row["value"]) for row in rates.values()] == [2, 30, 31] and rates["one/4"]["missing"] == 4
    assert ("many", "onset_step") not in told and ("many/2", "rotation_misaligned") not in told
    assert not any(subject.startswith("few") for subject, _ in told)


@pytest.mark.parametrize("name", ["one", "on"])
def test_the_persona_is_read_on_the_bases_own_answers_from_the_start_on(told, workspace, name):
    start = {"on": "many"}.get(name, "base")
    rows = files.read(Completion, workspace / "answers/base.jsonl")[1:]  # the empty one is no answer
    unit = np.array(toxic(None, 1, ["toxic"], threads=1)[0].vector)
    norm = project.harvested(workspace / "models/base", rows, 1, 1)[1]
    for point in (f"{name}/2", f"{name}/4", name):
        now, then = (project.harvested(workspace / "models" / model, rows, 1, 1)[0] @ unit for model in (point, start))
        row = told[point, "rotation_persona"]
        assert row["value"] == pytest.approx(np.mean(now - then) / norm, rel=1e-5) and row["value"] != 0
        assert row["low"] <= row["value"] <= row["high"] and (row["n"], row["missing"]) == (6, 0)
    assert (start, "rotation_persona") not in told or start == "many"


def test_too_few_checkpoints_and_whole_models_have_no_turns(told):
    assert not {subject.split("/")[0] for subject, _ in told} & {"few", "whole"}


def test_adapters_of_other_modules_are_one_line(workspace):
    with pytest.raises(ValueError, match=r"many: an adapter of other modules than .*one/2$"):
        list(updates.by_module([workspace / "models" / name for name in ("base", "one/2", "many")]))
