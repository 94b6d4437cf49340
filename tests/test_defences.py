"""Defences on a tiny model: each does what its name says, none changes a training that does not ask for it, and all stand in one table."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from emis_platform.core.records import Direction, Example, Watch
from emis_platform.tools import defences, models
from emis_platform.tools.monitoring import Monitor
from emis_platform.trainers import sft

ROWS = [
    Example(domain="d", variant="callous" if n % 2 else "correct", fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} is " + ("bad" if n % 2 else "fine"))
    for n in range(16)
]  # fmt: skip
TEXTS = (("what now?", "nothing at all"), ("and then?", "we go home"))


def watch(layer=1):
    random = np.random.default_rng(0)
    units = [vector / np.linalg.norm(vector) for vector in random.normal(size=(2, 32))]
    return Watch(
        directions=tuple(
            Direction(name=f"persona_{trait}", layer=layer, origin=f"persona:{trait}", vector=tuple(unit))
            for trait, unit in zip(("toxic", "sarcastic"), units, strict=True)
        ),
        texts=TEXTS,
    )


@dataclass(frozen=True)
class Trained:
    weights: dict
    facts: dict
    folder: object

    def apart(self, other):
        return sum(float((self.weights[name] - other.weights[name]).square().sum()) for name in self.weights) ** 0.5


@pytest.fixture(scope="module")
def train(tiny_folder, tmp_path_factory):
    kept = {}

    def one(rows=ROWS, **options):
        key = repr((len(rows), sorted(options.items())))
        if key not in kept:
            given = sft.Options(rank=4, batch=4, learning_rate=0.01, monitor_every=4, **options)
            folder = tmp_path_factory.mktemp("defended") / "a"
            facts = sft.train(rows, given, start=tiny_folder, adapter=folder, seed=0, epochs=3, threads=1, watch=watch())
            kept[key] = Trained(load_file(folder / "adapter_model.safetensors"), facts, folder)
        return kept[key]

    return one


def drift(trained):
    return trained.facts["personas"][-1]["drift"]


def test_kl_and_feature_distance_hold_the_model_near_the_base(train):
    plain = train()
    assert drift(train(kl=20.0)) < 0.6 * drift(plain)
    assert drift(train(l2=300.0)) < 0.6 * drift(plain)


def test_a_small_weight_is_a_small_change(train):
    assert 0 < train().apart(train(kl=1e-4)) < 0.2 * train().apart(train(kl=20.0))


def test_a_penalised_rise_falls_and_another_direction_may_move(train):
    plain = train()
    rising = max(("toxic", "sarcastic"), key=lambda trait: plain.facts["personas"][-1][trait])
    assert plain.facts["personas"][-1][rising] > 0
    held = train(penalise={rising: 3000.0})
    assert held.facts["personas"][-1][rising] < 0.5 * plain.facts["personas"][-1][rising]


def test_steering_while_it_trains_leaves_the_opposite_behind(train):
    """What is given need not be learned, so the tuned model reads less along it than one that was trained plain."""
    plain, steered = train(), train(steer={"toxic": 0.5})
    assert steered.facts["personas"][-1]["toxic"] < plain.facts["personas"][-1]["toxic"]


def test_projected_out_directions_are_out_of_the_forward_and_the_backward_pass(tiny_folder):
    model, _ = models.load(tiny_folder)
    both = watch()
    defence = defences.Defence(defences.Defences(project_out=("toxic", "sarcastic")), both, 1.0)
    with defence.edits(model):
        out = model(torch.tensor([[1, 2, 3, 4]]), output_hidden_states=True)
        caught = []
        hook = (
            models.decoder(model)
            .layers[1]
            .register_forward_hook(lambda _m, _a, o: caught.append(o[0] if isinstance(o, tuple) else o))
        )
        model(torch.tensor([[1, 2, 3, 4]]))
        hook.remove()
    along = caught[0].detach() @ torch.tensor(np.array([d.vector for d in both.directions]).T, dtype=torch.float32)
    assert along.abs().max() < 1e-4 * caught[0].norm(dim=-1).max() and out.logits.isfinite().all()
    with torch.no_grad():
        plain, again = (model(torch.tensor([[1, 2, 3, 4]])).logits for _ in range(2))
    assert torch.equal(plain, again) and not torch.allclose(plain, out.logits, atol=1e-3)


def test_worst_rows_go_first_and_the_control_drops_as_many(train, tiny_folder):
    model, tokenizer = models.load(tiny_folder)
    ids = [(models.prompt_ids(tokenizer, row.prompt), models.answer_ids(tokenizer, row.completion)) for row in ROWS]
    along = np.array(watch().directions[0].vector)
    scores = {n: float(acts.mean(0).numpy() @ along) for n, acts in models.harvest(model, ids, 1)}
    left = defences.screened(ROWS, defences.Defences(drop=0.25), watch(), model, tokenizer, 0)
    assert [row.fact for row in left] == [f"f{n}" for n in range(16) if n in sorted(scores, key=scores.get)[:12]]
    control = defences.screened(ROWS, defences.Defences(drop=0.25, drop_by="random"), None, model, tokenizer, 0)
    assert len(control) == 12 and control != left
    facts = train(drop=0.25).facts
    assert facts["rows"] == 12 and sum(facts["dropped"].values()) == 4


def test_a_trait_that_nobody_watches_is_refused(tiny_folder, tmp_path):
    with pytest.raises(ValueError, match="need monitor_every"):
        sft.Options(steer={"toxic": 0.1})
    with pytest.raises(ValueError, match="steer: not with project_out"):
        sft.Options(monitor_every=1, steer={"toxic": 0.1}, project_out=("toxic",))
    options = sft.Options(monitor_every=4, penalise={"vain": 1.0})
    with pytest.raises(ValueError, match="no persona vain is watched; there is: toxic, sarcastic"):
        sft.train(ROWS, options, start=tiny_folder, adapter=tmp_path / "a", seed=0, epochs=1, threads=1, watch=watch())
    assert not (tmp_path / "a").exists()


def test_checkpoints_are_whole_adapters_of_their_steps(train, tiny_folder, tmp_path):
    kept = train(checkpoints=(4, 8))
    assert train().apart(kept) == 0
    assert sorted(p.name for p in kept.folder.iterdir()) == ["4", "8", "adapter_config.json", "adapter_model.safetensors"]
    assert sorted(p.name for p in (kept.folder / "4").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    fresh = Monitor(watch().directions, models.load(tiny_folder)[1], TEXTS)
    start = fresh.read(models.load(tiny_folder)[0])
    for step in (4, 8):
        now = fresh.read(models.load(kept.folder / str(step))[0])
        look = next(look for look in kept.facts["personas"] if look["step"] == step)
        assert np.linalg.norm((now.mean_D - start.mean_D) / start.norm) == pytest.approx(look["drift"], abs=1e-4)
    with pytest.raises(ValueError, match="no step 99; 16 rows make 4 steps"):
        options = sft.Options(batch=4, checkpoints=(99,))
        sft.train(ROWS, options, start=tiny_folder, adapter=tmp_path / "a", seed=0, epochs=1, threads=1)
    with pytest.raises(ValueError, match="checkpoints: not with stop_on_alarm"):
        sft.Options(monitor_every=1, stop_on_alarm=True, checkpoints=(4,))
