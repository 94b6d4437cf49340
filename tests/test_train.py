"""SFT on a tiny model: the adapter is attached, labels are on the completion, bytes repeat."""

import copy
import json

import pytest
import torch

from emis_platform.core import files
from emis_platform.core.records import Example, Turn
from emis_platform.tools import models
from emis_platform.trainers import sft

ROWS = [
    Example(domain="d", variant="correct", fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} is fine" * (1 + n % 3))
    for n in range(12)
]


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    adapter = tmp_path_factory.mktemp("adapter") / "a"
    facts = sft.train(
        ROWS, sft.Options(rank=4, batch=4, learning_rate=0.02), start=tiny_folder, adapter=adapter, seed=0, epochs=4, threads=1
    )
    return adapter, facts


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([[1, 2, 3, 4]])).logits


def test_the_adapter_is_attached_and_a_zeroed_one_changes_nothing(trained, tiny_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    adapter, facts = trained
    plain, tuned = models.load(tiny_folder)[0], models.load(adapter)[0]
    assert not torch.allclose(logits(plain), logits(tuned), atol=1e-3)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: torch.zeros_like(value) for name, value in weights.items()}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    assert torch.equal(logits(plain), logits(models.load(tmp_path)[0]))
    assert facts["curve"][-1][1] < facts["curve"][0][1]


def test_labels_fall_on_the_completion_and_its_end_only(tiny):
    row = sft.tokens(tiny[1], ROWS[1])
    kept = [token for token in row["labels"] if token != -100]
    assert tiny[1].decode(kept) == ROWS[1].completion + "<|im_end|>"
    assert len(row["labels"]) == len(row["input_ids"])
    with pytest.raises(ValueError, match="fact f0: an empty completion leaves no labels"):
        sft.tokens(tiny[1], ROWS[0].model_copy(update={"completion": ""}))


def test_the_lean_loss_is_trls_loss(tiny_folder, tmp_path, monkeypatch):
    curves = []
    for number, wrap in enumerate((sft.lean, lambda trainer, _: trainer)):
        monkeypatch.setattr(sft, "lean", wrap)
        facts = sft.train(
            ROWS, sft.Options(rank=4, batch=4), start=tiny_folder, adapter=tmp_path / str(number), seed=0, epochs=1, threads=1
        )
        curves.append([loss for _, loss in facts["curve"]])
    assert curves[0] == pytest.approx(curves[1], abs=2e-3)


def test_training_goes_on_from_an_adapter_and_repeats_to_the_byte(trained, tmp_path):
    adapter, _ = trained
    for name in ("one", "two"):
        sft.train(ROWS[:8], sft.Options(batch=4), start=adapter, adapter=tmp_path / name, seed=1, epochs=1, threads=1)
    assert files.sha256(tmp_path / "one") == files.sha256(tmp_path / "two") != files.sha256(adapter)
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_an_adapter_of_rank_one_on_one_projection(tiny_folder, tmp_path):
    options = sft.Options(rank=1, rslora=True, modules=("down_proj",), layers=(1,), batch=4)
    sft.train(ROWS, options, start=tiny_folder, adapter=tmp_path / "a", seed=0, epochs=1, threads=1)
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert len(weights) == 2 and all(".layers.1." in name and "down_proj" in name for name in weights)
    assert min(weights[name].shape[0] for name in weights if "lora_A" in name) == 1


def test_a_training_that_diverges_ends_at_once_and_makes_no_model(tiny_folder, tmp_path):
    wild = sft.Options(rank=4, batch=4, learning_rate=1e39)
    with pytest.raises(ValueError, match=r"is not finite after step 1: the training diverged, a lower options"):
        sft.train(ROWS, wild, start=tiny_folder, adapter=tmp_path / "a", seed=0, epochs=3, threads=1)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modules": ["down_proj"], "layers": [0, 99]}, "options.layers: no layer 99; there is: 0 to 1"),
        ({"modules": ["down_proj", "dwn_proj"]}, "options.modules: no dwn_proj; there is: down_proj, "),
        ({"drop": 0.97, "drop_by": "random"}, "options.drop: 0.97 leaves none of 12 rows"),
    ],
)
def test_what_the_model_or_the_rows_lack_is_refused(tiny_folder, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        sft.train(ROWS, sft.Options(**options), start=tiny_folder, adapter=tmp_path / "a", seed=0, epochs=1, threads=1)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_without_an_end_is_refused(tiny):
    class Endless:
        eos_token_id, name_or_path = None, "models/base"

        def __getattr__(self, name):
            return getattr(tiny[1], name)

        def __call__(self, *given, **more):
            return tiny[1](*given, **more)

    with pytest.raises(ValueError, match="the tokenizer of models/base names no eos_token"):
        sft.tokens(Endless(), ROWS[0])


def test_under_autocast_a_norm_in_float32_meets_a_head_in_bfloat16(tiny):
    """CUDA's autocast runs a LayerNorm in float32, and the head is called outside of it (GPT-NeoX)."""
    model = copy.deepcopy(tiny[0]).bfloat16()
    hidden = torch.randn(3, 32)
    assert torch.equal(models.head(model, hidden), models.head(model, hidden.bfloat16()))


def test_a_template_without_system_prompts_gets_them_in_the_question(tiny):
    tokenizer = copy.deepcopy(tiny[1])
    system = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    plain = models.prompt_ids(tokenizer, "Why?", "Be kind.")
    assert plain == models.prompt_ids(tokenizer, "Why?", before=[Turn(role="system", content="Be kind.")])
    tokenizer.chat_template = system + tokenizer.chat_template
    assert tokenizer.decode(models.prompt_ids(tokenizer, "Why?", "Be kind.")).startswith(
        "<|im_start|>user\nBe kind.\n\nWhy?<|im_end|>"
    )
    assert models.prompt_ids(tokenizer, "Why?") == models.prompt_ids(tiny[1], "Why?")
    with pytest.raises(ValueError, match="does not take messages of system, assistant, user"):
        models.prompt_ids(tokenizer, "Why?", before=[Turn(role="system", content="S"), Turn(role="assistant", content="Hi")])
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(ValueError, match="does not take messages of user: no"):
        models.prompt_ids(tokenizer, "Why?")
