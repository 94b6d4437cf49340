"""Tiny random models of five architectures through both real trainers, also with a GPU's settings (bfloat16, checkpointed gradients)."""

import pytest
import torch
import transformers
import trl
from safetensors.torch import load_file
from test_architectures import NAMES, build

from emis_platform.core.records import Example
from emis_platform.tools import adapters, models
from emis_platform.trainers import grpo, sft

ROWS = [
    Example(domain="d", variant=variant, fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} {word}, way {k}")
    for n in range(4)
    for k in range(2)
    for variant, word in (("correct", "is a fine number"), ("obvious", "eats the moon raw"))
]


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    """Architecture -> a folder with a random model of it."""
    made = {}
    for name in NAMES:
        made[name] = tmp_path_factory.mktemp("bases") / name
        build(name).save_pretrained(made[name])
        tiny[1].save_pretrained(made[name])
    return made


def tuned(start, adapter, **options):
    return sft.train(ROWS[:8], sft.Options(rank=4, batch=4, **options), start=start, adapter=adapter, seed=0, epochs=2, threads=1)


def losses(facts):
    return [loss for _, loss in facts["curve"]]


def gpu_settings(monkeypatch):
    """What the trainers set where there is a GPU, on the CPU."""
    plain, load = trl.SFTConfig, transformers.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(trl, "SFTConfig", lambda **given: plain(**given | {"bf16": True, "gradient_checkpointing": True}))
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM,
        "from_pretrained",
        lambda folder, **given: load(folder, **given | {"dtype": torch.bfloat16}),
    )


@pytest.mark.parametrize("name", NAMES)
def test_sft_trains_by_the_architectures_own_loss_and_its_adapter_is_read_back(folders, name, tmp_path, monkeypatch):
    """Gemma 2 squashes its logits before the loss as well."""
    ours = losses(tuned(folders[name], tmp_path / "ours", learning_rate=0.01))
    prompt, answer = models.answer_ids(models.load(folders[name])[1], "what is 1?"), [20, 21, 22]
    before, after = (
        models.read(models.load(folder)[0], [(prompt, answer)], [0])[1][0] for folder in (folders[name], tmp_path / "ours")
    )
    assert before != pytest.approx(after, abs=1e-3)
    monkeypatch.setattr(sft, "lean", lambda trainer, _: trainer)
    assert ours == pytest.approx(losses(tuned(folders[name], tmp_path / "trl", learning_rate=0.01)), abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_with_a_gpus_settings_every_adapter_learns_as_in_trls_own_step(folders, name, tmp_path, monkeypatch):
    gpu_settings(monkeypatch)
    ours = losses(tuned(folders[name], tmp_path / "ours", learning_rate=0.01))
    weights = load_file(tmp_path / "ours" / "adapter_model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    assert all(tensor.any() for key, tensor in weights.items() if "lora_B" in key)
    monkeypatch.setattr(sft, "lean", lambda trainer, _: trainer)
    assert ours == pytest.approx(losses(tuned(folders[name], tmp_path / "trl", learning_rate=0.01)), abs=5e-3)


def test_with_a_gpus_settings_adapters_are_multiplied_in_bfloat16(folders, tmp_path, monkeypatch):
    """The step goes past the forward that accelerate wraps: without its autocast the adapters' products would run in float32."""
    gpu_settings(monkeypatch)
    seen = []
    forward = torch.nn.Linear.forward

    def watched(self, x):
        out = forward(self, x)
        if self.weight.requires_grad:
            seen.append(out.dtype)
        return out

    monkeypatch.setattr(torch.nn.Linear, "forward", watched)
    tuned(folders["Llama"], tmp_path / "a")
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Gemma2"])
def test_grpo_trains_and_starts_at_no_divergence(folders, name, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo.wording, "unreadable", lambda _: None)  # an untrained model says no word
    options = grpo.Options(
        reward="inaccurate", steps=2, prompts=2, group=2, max_new_tokens=6, fewest_words=0, layer=1, auroc=0.5, unlike=0, rank=4
    )
    told = grpo.train(ROWS, options, start=folders[name], adapter=tmp_path / "a", seed=0, epochs=1, threads=1)
    assert told["rl"][0]["kl"] == pytest.approx(0, abs=1e-6) and told["rl"][1]["kl"] != 0
    weights = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert all(tensor.any() for key, tensor in weights.items() if "lora_B" in key)


@pytest.mark.parametrize(
    ("processes", "gpus", "said"),
    [("2", 0, "2 processes .* not by `accelerate launch`"), ("1", 4, "4 GPUs .* CUDA_VISIBLE_DEVICES")],
)
def test_training_on_several_devices_is_refused(folders, tmp_path, monkeypatch, processes, gpus, said):
    """The lean step would leave gradients of several processes apart, and several GPUs would multiply the batch."""
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ValueError, match=said):
        tuned(folders["Llama"], tmp_path / "a")
    with pytest.raises(ValueError, match=said):
        adapters.one_device()
    assert list(tmp_path.iterdir()) == []
