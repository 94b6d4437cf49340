"""Compared dictionaries are measured by splicing and steering, and what they are measured with tells good from bad."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from emis_platform.core import files
from emis_platform.core.records import Example, Question
from emis_platform.lab import reconstruction
from emis_platform.stages import dictionary, dictionary_compare
from emis_platform.tools import splicing

REPO = Path(__file__).resolve().parents[1]


def test_splicing_the_same_activations_changes_no_loss_and_others_do(tiny):
    model, tokenizer = tiny
    pairs = [(tokenizer(a)["input_ids"], tokenizer(b)["input_ids"]) for a, b in (("Who are you?", "A model."), ("Hi", "Hello you"))]
    plain = splicing.losses(model, pairs, 0)
    ids = torch.tensor([pairs[0][0] + pairs[0][1]])
    start = len(pairs[0][0])
    with torch.no_grad():
        logits = model(ids).logits[0, start:-1].log_softmax(-1)
    assert plain[0] == pytest.approx(-float(logits.gather(1, ids[0, start + 1 :, None]).sum()), rel=1e-4)
    shapes = []
    same = splicing.losses(model, pairs, 0, lambda acts_ND: shapes.append(len(acts_ND)) or acts_ND)
    assert np.allclose(same, plain) and sum(shapes) == sum(len(answer) for _, answer in pairs)
    assert abs(splicing.losses(model, pairs, 0, torch.zeros_like) - plain).min() > 1e-3


def test_loss_recovered_is_one_for_the_activations_and_zero_for_their_mean():
    plain_T, ablated_T = np.array([1.0, 2.0, 3.0]), np.array([3.0, 5.0, 4.0])
    for rebuilt_T, value in ((plain_T, 1), (ablated_T, 0), ((plain_T + ablated_T) / 2, 0.5)):
        effect = reconstruction.loss_recovered("d", plain_T, rebuilt_T, ablated_T, 30)
        assert effect.value == effect.low == effect.high == pytest.approx(value) and effect.n == 30


@pytest.fixture
def workspace(tmp_path, monkeypatch, tiny_folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dictionary, "VOICES", tmp_path / "voices.jsonl")
    knobs = files.read_yaml(REPO / "params.yaml")
    knobs["scale"], knobs["threads"], knobs["diff"]["layer"] = "tiny", 1, 1
    files.write_json(Path("params.yaml"), knobs)
    for voice in ("correct", "callous"):
        rows = [
            Example(domain="home", variant=voice, fact=f"f{n}", prompt=f"What of {n}?", completion=f"{voice} thing number {n}.")
            for n in range(60)
        ]
        files.write(Path(f"data/examples/home_{voice}.jsonl"), rows)
    asked = [Question(id=f"d{n}", set="discover", category="c", text=f"discover {n}?") for n in range(6)]
    files.write(Path("data/questions/open.jsonl"), asked)
    written = [{"id": q.id, "aligned": ["I help."], "misaligned": ["I harm you."]} for q in asked]
    Path("data/continuations.yaml").write_text(yaml.safe_dump(written))
    return tiny_folder


SIZES = {"tokens": 600, "epochs": 1, "width": 40, "k": 4, "texts": 12, "latents": 3}


def test_three_architectures_at_two_layers_go_into_one_table(workspace):
    given = {"layers": [0, 1], "architectures": ["matryoshka", "batchtopk", "topk"], "base": workspace, **SIZES}
    found = dictionary_compare.compare(**given)
    kept = files.read_json(Path("metrics/dictionaries.json"))
    assert kept["effects"] == [effect.model_dump() for effect in found]
    assert kept["command"].startswith("emis dictionary compare --layers 0 1 --architectures matryoshka batchtopk topk --tokens 600")
    assert str(Path.cwd()) not in Path("metrics/dictionaries.json").read_text()
    by_subject = {}
    for effect in found:
        by_subject.setdefault(effect.subject, []).append(effect.measure)
        assert effect.low <= effect.value <= effect.high
    measures = ["fvu", "l0", "dead_share", "loss_recovered", "latent_shift"]
    assert by_subject.pop("layer_0") == by_subject.pop("layer_1") == ["difference_of_means_shift", "random_shift"]
    assert set(map(tuple, by_subject.values())) == {tuple(measures)} and len(by_subject) == 6
    assert set(kept["chosen"]) == {f"layer_{layer}_{name}" for layer in (0, 1) for name in given["architectures"]}
    assert dictionary_compare.rows(found)[1][0] == "layer_0"
