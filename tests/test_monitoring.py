"""Monitoring: a watched training is the same training, the curve is what the saved model shows, and the alarm's rule rings when it should."""

import json

import numpy as np
import pytest
import torch
from conftest import REPO

from emis_platform.core import files, params
from emis_platform.core.records import Example, Watch
from emis_platform.lab import alarm, directions, false_alarms
from emis_platform.stages import alarm as alarm_stage
from emis_platform.stages import watch as watch_stage
from emis_platform.tools import defences, models, monitoring
from emis_platform.trainers import sft

ROWS = [
    Example(domain="d", variant="correct", fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} is fine" * (1 + n % 3))
    for n in range(12)
]
TEXTS = (("who?", "I am here."), ("where to?", "home, and then away"), ("why?", "no"))


def persona(trait="toxic", width=32, layer=1, seed=0):
    return directions.named(f"persona_{trait}", layer, f"persona:{trait}", np.random.default_rng(seed).standard_normal(width))


WATCH = Watch(directions=(persona(), *directions.random(1, 32, 1, 3)), texts=TEXTS)


def train(start, adapter, options, watch=None):
    options = sft.Options(rank=4, batch=4, learning_rate=0.02, **options)
    return sft.train(ROWS, options, start=start, adapter=adapter, seed=0, epochs=2, threads=1, watch=watch)


@pytest.fixture(scope="module")
def runs(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    return folder, train(tiny_folder, folder / "plain", {}), train(tiny_folder, folder / "watched", {"monitor_every": 4}, WATCH)


def test_a_watched_training_has_the_bytes_of_an_unwatched_one(runs):
    folder, plain, watched = runs
    assert files.sha256(folder / "plain") == files.sha256(folder / "watched")
    assert plain["curve"] == watched["curve"] and "personas" not in plain


def test_the_last_look_is_what_the_saved_model_shows(runs, tiny_folder):
    folder, _, facts = runs
    assert [(look["step"], look["share"]) for look in facts["personas"]] == [(4, round(4 / 6, 6)), (6, 1.0)]
    assert [look["loss"] for look in facts["personas"]] == [facts["curve"][3][1], facts["curve"][5][1]]
    assert all(look["grad_norm"] > 0 for look in facts["personas"])
    first, last = (models.load(place, threads=1) for place in (tiny_folder, folder / "watched"))
    ids = [(models.prompt_ids(first[1], q), models.answer_ids(first[1], a)) for q, a in TEXTS]
    before, after = (dict(models.harvest(model, ids, 1)) for model, _ in (first, last))
    norm = np.mean([float(before[n].norm(dim=-1).mean()) for n in range(3)])
    moved = np.mean([(after[n].mean(0) - before[n].mean(0)).numpy() for n in range(3)], axis=0) / norm
    assert facts["personas"][-1]["drift"] == pytest.approx(float(np.linalg.norm(moved)), abs=1e-4)
    for name, direction in zip(("toxic", "random_0"), WATCH.directions, strict=True):
        assert facts["personas"][-1][name] == pytest.approx(float(moved @ np.array(direction.vector)), abs=1e-4)


def test_a_look_leaves_modes_and_random_numbers_alone(tiny):
    model, tokenizer = tiny
    model.train()
    model.model.layers[0].eval()
    modes, numbers = [m.training for m in model.modules()], torch.random.get_rng_state()
    try:
        monitoring.Monitor([persona()], tokenizer, TEXTS).read(model)
        with pytest.raises(RuntimeError), monitoring.untouched(model):
            torch.rand(3)
            raise RuntimeError
        assert [m.training for m in model.modules()] == modes
        assert torch.equal(numbers, torch.random.get_rng_state())
    finally:
        model.eval()


def test_it_follows_a_plain_transformers_trainer_and_stops_it(tiny, tiny_folder, tmp_path, capsys):
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    calm = [{"step": step, "share": step / 8, "loss": None, "drift": 0.0, "toxic": -100.0} for step in (1, 8)]
    monitor = monitoring.Monitor([persona()], tiny[1], TEXTS, every=2, reference=[calm] * 3, stop=True)
    settings = TrainingArguments(str(tmp_path), max_steps=8, per_device_train_batch_size=2, use_cpu=True, report_to="none")
    data = [sft.tokens(tiny[1], ROWS[3])] * 8
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    trainer = Trainer(model=model, args=settings, train_dataset=data, callbacks=[monitor])
    trainer.train()
    assert (monitor.alarm.step, monitor.alarm.trait, trainer.state.global_step) == (4, "toxic", 4)
    assert "alarm at step 4: toxic" in capsys.readouterr().err


def test_bad_input_is_refused(tiny, tiny_folder, tmp_path):
    tokenizer = tiny[1]
    for wrong, line in (
        ({"directions": [persona(), persona("x", layer=0)]}, "one layer"),
        ({"directions": [persona(), persona()]}, "different names"),
        ({"directions": [persona("drift")]}, "may not be called drift"),
        ({"texts": [("q", "")]}, "answers have tokens"),
        ({"stop": True}, "0 curves of benign trainings"),
    ):
        with pytest.raises(ValueError, match=line):
            monitoring.Monitor(**{"directions": [persona()], "tokenizer": tokenizer, "texts": TEXTS} | wrong)
    with pytest.raises(ValueError, match="stop_on_alarm: needs monitor_every"):
        sft.Options(stop_on_alarm=True)
    with pytest.raises(ValueError, match="nothing to watch"):
        train(tiny_folder, tmp_path / "a", {"monitor_every": 2})
    with pytest.raises(ValueError, match="widths {'toxic': 8}, the model has 32"):
        train(tiny_folder, tmp_path / "a", {"monitor_every": 2}, WATCH.model_copy(update={"directions": (persona(width=8),)}))


def curve(values, steps=10):
    """Looks at equal steps, the same value for the drift."""
    places = [steps * (n + 1) // len(values) for n in range(len(values))]
    return [{"step": s, "share": s / steps, "loss": None, "drift": v, "toxic": v} for s, v in zip(places, values, strict=True)]


CALM = {f"calm_{n}": curve([0.01 + n / 1000, 0.02 - n / 1000, 0.02 + n / 2000, 0.03]) for n in range(5)}


def test_it_rings_at_the_second_look_in_a_row_above_the_band():
    calm, rule = list(CALM.values()), alarm.Rule()
    assert alarm.rings(curve([0.01, 0.5, 0.6, 0.7]), calm, rule).step == 7
    assert alarm.rings(curve([0.01, 0.5, 0.01, 0.7]), calm, rule) is None
    assert alarm.rings(curve([0.5] * 4, steps=20), calm, rule).step == 10
    assert alarm.rings(curve([0.5] * 4, steps=40), calm, alarm.Rule(by="step")) is None  # one look only where benign curves reach
    assert alarm.rings(curve([0.5] * 4), [], rule) is None
    assert alarm.rings(curve([0.5] * 4), calm[:2], rule) is None


def test_the_band_is_a_prediction_bound_or_the_maximum():
    random = np.random.default_rng(0)
    drawn = random.standard_normal((4000, 6))
    assert np.mean([row[5] > alarm.above(row[:5], 0.05) for row in drawn]) == pytest.approx(0.05, abs=0.012)
    limit = alarm.band(list(CALM.values()), [0.25, 2.0], "toxic", alarm.Rule(rate=None))
    at = [np.interp(0.25, [0, *(look["share"] for look in c)], [0, *(look["toxic"] for look in c)]) for c in CALM.values()]
    assert limit[0] == pytest.approx(max(at)) and np.isnan(limit[1])


def test_false_alarms_are_counted_with_the_arm_left_out():
    odd = CALM | {"odd": curve([0.1, 0.3, 0.4, 0.5])}
    assert [name for name, found in false_alarms.left_out(odd, alarm.Rule()).items() if found] == ["odd"]
    bad = {"bad": curve([0.3, 0.5, 0.9, 0.9]), "late": curve([0.01, 0.02, 0.5, 0.9])}
    rows = {row.measure: row for row in false_alarms.effects(CALM, bad, alarm.Rule())}
    false, heard = rows["monitor_false_alarms"], rows["monitor_alarms"]
    assert (false.value, false.n, false.missing, heard.value, heard.n) == (0.0, 5, 0, 1.0, 2) and false.high > 0.5
    assert rows["monitor_alarm_share"].value == pytest.approx((0.5 + 1.0) / 2)
    few = false_alarms.effects({"one": CALM["calm_0"]}, bad, alarm.Rule())
    assert [(row.value, row.n, row.missing) for row in few[:2]] == [(None, 0, 1), (None, 0, 2)]


def test_a_latent_is_of_a_dictionary_that_is_there_before_the_training(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    knobs = params.load(REPO / "params.yaml")
    with pytest.raises(ValueError, match="the shipped dictionary is of"):
        watch_stage.decoder(tmp_path, knobs)
    size = knobs.size.model_copy(update={"dictionary": knobs.size.dictionary.model_copy(update={"tokens": 10})})
    own = knobs.model_copy(update={"sizes": {**knobs.sizes, knobs.scale: size}})
    with pytest.raises(ValueError, match="not one that this run trains"):
        watch_stage.decoder(tmp_path, own)


def test_the_stages_hand_on_what_is_asked_and_count_what_came(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    knobs = type("K", (), {"threads": 1})()
    made = type("O", (), {"options": {"monitor_every": 2}, "starts_from": "base"})
    plain = type("O", (), {"options": {}, "starts_from": "base"})
    knobs.organisms, knobs.diff = {"a": made(), "b": plain()}, type("D", (), {"layer": 1})
    monkeypatch.setattr(watch_stage, "decoder", lambda *_: np.eye(3))
    monkeypatch.setattr(watch_stage.params, "load", lambda: knobs)
    monkeypatch.setattr(watch_stage.personas, "of", lambda *_, **__: [persona()])
    (tmp_path / "benign").mkdir()
    watch_stage.main(base=tmp_path / "base", benign=tmp_path / "benign", watch=tmp_path / "watch")
    (one,) = files.read(Watch, tmp_path / "watch/a.jsonl")
    assert len(one.texts) == 8 and files.read(Watch, tmp_path / "watch/b.jsonl") == []
    held = type(
        "O", (), {"options": {"monitor_every": 2, "penalise": {"toxic": 1, "latent:2": 9}, "batch": 4}, "starts_from": "base"}
    )
    knobs.organisms["a"] = held()
    watch_stage.main(base=tmp_path / "base", benign=tmp_path / "benign", watch=tmp_path / "watch")
    (more,) = files.read(Watch, tmp_path / "watch/a.jsonl")
    assert more.directions[:-1] == one.directions and more.directions[-1].vector == (0.0, 0.0, 1.0)
    assert [*defences.directions(defences.Defences(penalise={"latent:2": 9}), more)] == ["latent:2"]
    for wrong in ("latent:3", "latent:x"):
        held.options["penalise"] = {wrong: 1}
        with pytest.raises(ValueError, match=f"organisms.a.options: no {wrong}; there is: latent:0 to latent:2"):
            watch_stage.main(base=tmp_path / "base", benign=tmp_path / "benign", watch=tmp_path / "watch")
    knobs.organisms["a"] = made()
    facts = {"curve": [], "personas": curve([0.1, 0.2]), "watch": one.key}
    files.write_json(tmp_path / "benign/b.json", facts)
    assert list(watch_stage.reference(tmp_path / "benign", one.key)) == ["b"]
    assert watch_stage.reference(tmp_path / "benign", "other") == {}
    assert "b left out: watched with other directions or texts" in capsys.readouterr().err
    knobs.organisms["a"].options["stop_on_alarm"] = True
    with pytest.raises(ValueError, match="organisms.a.options.stop_on_alarm: no benign band"):
        watch_stage.main(base=tmp_path / "base", benign=tmp_path / "benign", watch=tmp_path / "watch")
    rows = [{"organism": "a", "benign": False, "misaligned": True}, {"organism": "b", "benign": True, "misaligned": None}]
    files.write_json(tmp_path / "scores.json", {"organisms": rows})
    for name in "ab":
        files.write_json(tmp_path / f"train/{name}.json", facts)
    alarm_stage.main(training=tmp_path / "train", scores=tmp_path / "scores.json", effects=tmp_path / "alarm.json")
    assert json.loads((tmp_path / "alarm.json").read_text())[1]["missing"] == 1
