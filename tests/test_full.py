"""All weights trained on a tiny model: what is left is a plain model folder that every stage takes, or refuses in one line."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_architectures_trained import ROWS as SIDES
from test_defences import watch
from test_train import ROWS, logits

from emis_platform.core import cards, files
from emis_platform.core.knobs import Data, Organism
from emis_platform.stages import project
from emis_platform.tools import models, strangers
from emis_platform.trainers import grpo, sft

FULL = sft.Options(full=True, batch=4, learning_rate=1e-3)


@pytest.fixture(scope="module")
def models_there(tiny_folder, tmp_path_factory):
    """A workspace with models/base, and all that is trained from it: {name: facts}."""
    place = tmp_path_factory.mktemp("full")
    shutil.copytree(tiny_folder, place / "models/base")
    (place / "models/base/README.md").write_text("the base's own")
    jobs = {
        "full": ("base", FULL.model_copy(update={"checkpoints": (3, 6)})),
        "adapter": ("base", sft.Options(rank=2, batch=4, learning_rate=0.02)),
        "on_full": ("full", sft.Options(rank=2, batch=4, learning_rate=0.02)),
        "full_on_full": ("full", FULL),
        "full_on_adapter": ("adapter", FULL),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        facts = {name: train(start, options, name) for name, (start, options) in jobs.items()}
    return place, facts


@pytest.fixture
def workspace(models_there, monkeypatch):
    monkeypatch.chdir(models_there[0])
    return models_there[1]


def train(start, options, name, **more):
    given = {"seed": 0, "epochs": 4, "threads": 1} | more
    return sft.train(ROWS, options, start=Path("models") / start, adapter=Path("models") / name, **given)


def weights(name):
    return dict(models.load(Path("models") / name, 1, "cpu")[0].named_parameters())


def changed(name, other="base"):
    plain = weights(other)
    return {key for key, tensor in weights(name).items() if not torch.equal(tensor, plain[key])}


def test_all_weights_are_trained_and_the_folder_is_a_model(workspace):
    assert changed("full") == set(weights("base"))
    assert any("norm" in key or "embed" in key for key in changed("full")) and not any("norm" in key for key in changed("adapter"))
    assert workspace["full"]["curve"][-1][1] < workspace["full"]["curve"][0][1]
    names = {path.name for path in Path("models/base").iterdir()} - {"README.md"}
    assert {path.name for path in Path("models/full").iterdir()} == names | {"3", "6"}
    assert {path.name for path in Path("models/full/3").iterdir()} == names
    for name in names - {"config.json", "model.safetensors"}:
        assert Path("models/full", name).read_bytes() == Path("models/base", name).read_bytes()
    config = json.loads(Path("models/full/config.json").read_text())
    assert config.pop(models.ROOT) == "models/base" and config.pop("dtype") == "float32"
    assert config == {key: value for key, value in files.read_json(Path("models/base/config.json")).items() if key != "dtype"}
    assert {tensor.dtype for tensor in load_file("models/full/model.safetensors").values()} == {torch.float32}
    assert len({files.sha256(Path("models/full", name, "model.safetensors")) for name in ("3", "6", ".")}) == 3
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained("models/full", dtype="auto").eval()
    assert torch.equal(logits(plain), logits(models.load(Path("models/full"))[0]))


def test_it_repeats_to_the_byte_and_leaves_nothing_else(workspace):
    for name in ("one", "two"):
        train("base", FULL, name)
    assert files.sha256(Path("models/one")) == files.sha256(Path("models/two"))
    assert not list(Path("models").glob("*.partial")) and not list(Path("work").rglob("*.safetensors"))


def test_others_start_from_it_and_know_their_base(workspace):
    assert models.base_of(Path("models/on_full")) == Path("models/full") == models.base_of(Path("models/full"))
    for name in ("full", "on_full", "full_on_full", "full_on_adapter", "adapter", "base"):
        assert models.root_of(Path("models") / name) == Path("models/base")
    assert not any("norm" in key or "embed" in key for key in changed("on_full", "full")) and changed("on_full", "full")
    for name, start in (("full_on_full", "full"), ("full_on_adapter", "adapter")):
        apart = {other: distance(name, other) for other in (start, "base")}
        assert 0 < apart[start] < apart["base"]


def distance(name, other):
    plain = weights(other)
    return sum(float((tensor - plain[key]).detach().square().sum()) for key, tensor in weights(name).items()) ** 0.5


def test_the_norm_of_a_change_is_since_the_base(workspace):
    for name in ("adapter", "full", "on_full", "full_on_adapter"):
        assert project.update_norm(Path("models") / name, 1) == pytest.approx(distance(name, "base"), rel=1e-4)
    assert project.update_norm(Path("models/base"), 1) == 0


def test_defences_that_need_no_base_work(workspace):
    options = {"full": True, "batch": 4, "monitor_every": 4, "learning_rate": 1e-3}
    found = {}
    for name, more in {"plain": {}, "steered": {"steer": {"toxic": 0.5}}, "out": {"project_out": ("toxic",)}}.items():
        facts = train("base", sft.Options(**options, **more), name, watch=watch(), epochs=1)
        found[name] = facts["curve"][0][1]
        assert [look["step"] for look in facts["personas"]] == [3] and facts["personas"][0]["drift"] > 0
    assert len(set(found.values())) == 3
    dropped = train("full", sft.Options(**options, drop=0.25), "screened", watch=watch(), epochs=1)
    assert dropped["rows"] == 9 and sum(dropped["dropped"].values()) == 3


def test_reinforcement_learning_starts_from_it_and_its_grader_reads_with_the_base(workspace, monkeypatch):
    read = []
    plain = models.load
    monkeypatch.setattr(grpo.wording, "unreadable", lambda _: None)
    monkeypatch.setattr(models, "load", lambda folder, *rest: read.append(folder) or plain(folder, *rest))
    options = grpo.Options(
        reward="inaccurate", steps=1, prompts=2, group=2, max_new_tokens=4, fewest_words=0, layer=1, auroc=0.5, unlike=0, rank=2
    )
    grpo.train(SIDES, options, start=Path("models/full"), adapter=Path("models/paid"), seed=0, epochs=1, threads=1)
    assert read == [Path("models/base")] and models.base_of(Path("models/paid")) == Path("models/full")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"rank": 32}, "rank: an adapter's"),
        ({"modules": ["down_proj"]}, "modules: an adapter's"),
        ({"rslora": False}, "rslora: an adapter's"),
        ({"kl": 0.5}, "kl: not with full"),
        ({"l2": 1.0, "monitor_every": 4}, "l2: not with full"),
        ({"penalise": {"toxic": 1.0}, "monitor_every": 4}, "penalise: not with full"),
    ],
)
def test_what_does_not_go_with_it_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        sft.Options(full=True, **given)


def test_a_defence_that_compares_with_the_base_is_refused_on_top_of_it(workspace):
    with pytest.raises(ValueError, match=r"kl: compares with the base, but without its adapter models/full is models/full, not"):
        train("full", sft.Options(rank=2, kl=0.5), "no")
    with pytest.raises(ValueError, match=r"kl: .*models/on_full is models/full, not models/base"):
        train("on_full", sft.Options(kl=0.5), "no")
    with pytest.raises(ValueError, match=r"options.rank: goes with a base; models/adapter is an adapter"):
        train("adapter", sft.Options(rank=2), "no")
    assert not Path("models/no").exists()


def test_learning_rates():
    assert [sft.Options(**given).rate for given in ({}, {"full": True}, {"full": True, "learning_rate": 0.1})] == [3e-4, 2e-5, 0.1]


def test_a_card_says_what_it_is():
    entry = {"starts_from": "base", "data": Data(domain="health", variant="callous"), "trainer": "sft"}
    full, adapter = (cards.organism("x", Organism(**entry, options=options), 9, "0" * 64) for options in ({"full": True}, {}))
    assert "library_name: transformers" in full and "all weights fine-tuned" in full and "LoRA" not in full
    assert "library_name: peft" in adapter and "a LoRA adapter, fine-tuned" in adapter


def test_an_audit_of_an_adapter_on_it_says_what_it_cannot_see(workspace):
    base, note = strangers.base_for(Path("models/on_full"), None)
    assert base == Path("models/full") and "were all trained from models/base" in note
    with pytest.raises(ValueError, match=r"--base models/base: models/on_full is an adapter of models/full"):
        strangers.base_for(Path("models/on_full"), Path("models/base"))
    assert strangers.base_for(Path("models/full"), None) == (Path("models/base"), None)
    with strangers.staged(Path("models/full"), Path("models/base")) as links:
        loaded, _ = strangers.loaded(links, Path("models/full"), Path("models/base"), 1)
    assert torch.equal(logits(loaded), logits(models.load(Path("models/full"))[0]))
    base = Path("models/base").resolve()
    with contextlib.chdir("models/full"), strangers.staged(Path("."), base) as links:
        assert links.name == "full" and (links / "config.json").exists()
