"""What a run will cost: counts by hand on a tiny model, a published 7B, activations against what autograd really keeps, `emis cost`."""

import json

import pytest
import torch
import yaml
from conftest import REPO
from test_architectures import GROUPED, build

from emis_platform import cli
from emis_platform.core import params
from emis_platform.lab import cost
from emis_platform.stages import cost as stage
from emis_platform.tools import models, shapes

TINY = GROUPED | {"model_type": "llama"}  # width 32, 2 layers, 4 heads and 2 of keys of 8, inner 80, vocabulary 258
QWEN7 = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip
BODY = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 80)


@pytest.fixture(scope="module")
def tiny_shape():
    return shapes.counted(TINY, "here")


def test_a_tiny_model_is_counted_as_by_hand(tiny_shape):
    assert tiny_shape.body == BODY and tiny_shape.parameters == BODY + 2 * 258 * 32 + 5 * 32
    assert cost.adapter(tiny_shape, 3).parameters == 3 * 2 * (2 * 64 + 2 * 48 + 3 * 112)
    assert cost.adapter(tiny_shape, 1, ["down_proj"], [1]).parameters == 112
    with pytest.raises(ValueError, match="none of up in 2 layers; there is: q_proj, k_proj"):
        cost.adapter(tiny_shape, 1, ["up"])


def test_flops_are_counted_as_by_hand(tiny_shape):
    lora = cost.adapter(tiny_shape, 3)
    attention = 2 * 2 * 10 * 32  # 2 L n q
    assert cost.forward_flops(tiny_shape, 100, 10) == 100 * (2 * BODY + attention)
    assert cost.forward_flops(tiny_shape, 100, 10, depth=0.5, scored=7) == 50 * (2 * BODY + attention) + 7 * 2 * 258 * 32
    plain, again = (cost.train_flops(tiny_shape, lora, 100, 10, 40, checkpointed=c) for c in (False, True))
    assert plain == 100 * (4 * BODY + 3 * attention + 6 * lora.parameters) + 40 * 4 * 258 * 32
    assert again - plain == 100 * (2 * BODY + attention + 2 * lora.parameters)
    whole = cost.train_flops(tiny_shape, None, 100, 10, 40, checkpointed=False)
    assert whole == 100 * (6 * BODY + 3 * attention) + 40 * 6 * 258 * 32


def test_a_step_of_decoding_waits_for_the_slower_of_memory_and_arithmetic(tiny_shape):
    weights, cache = 2 * (BODY + 258 * 32), 2 * 2 * 16 * 2
    slow = cost.decode_seconds(tiny_shape, 80, 10, 8, "bfloat16", flops=1e30, bandwidth=1e6)
    assert slow == pytest.approx(10 * (weights + 8 * 10 * cache) / 1e6)
    assert cost.decode_seconds(tiny_shape, 80, 10, 8, "bfloat16", flops=1e6, bandwidth=1e30) == pytest.approx(
        cost.forward_flops(tiny_shape, 80, 20, scored=80) / 1e6
    )


def test_a_published_7b_has_its_parameters():
    """Qwen2.5-7B: 7.61 B, of them 6.53 B without the embeddings, by its model card."""
    found = shapes.counted(QWEN7, "here")
    assert found.parameters == 7_615_616_512
    assert found.parameters - 2 * 152064 * 3584 == pytest.approx(6.53e9, rel=2e-3)
    assert cost.cache_bytes(found, "bfloat16") == 57_344


def kept(name, dtype, layers, full=False):
    """Bytes a token that autograd keeps of a model's layers for the backward pass of LoRA, or of all weights, each tensor once, weights and
    their copies left out."""
    from peft import LoraConfig, get_peft_model

    tokens, config = 24, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    plain = build(name, num_hidden_layers=layers)
    model = plain.train() if full else get_peft_model(plain.to(dtype), config).train()
    small = {(4, 32), (32, 4), (4, 16), (16, 4), (80, 4), (4, 80)}  # an adapter's matrices in bfloat16
    if full:
        small = {shape for weight in plain.parameters() if weight.dim() == 2 for shape in (weight.shape, weight.T.shape)}
    ours = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    found = {}

    def pack(tensor):
        copied = tensor.shape in small and tensor.dtype == (torch.bfloat16 if full else tensor.dtype)
        if tensor.untyped_storage().data_ptr() not in ours and not copied:
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.arange(tokens).reshape(2, -1)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
    with autocast, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        models.decoder(model)(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values()) / tokens


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["Llama", "Qwen2"])
def test_activations_are_what_autograd_keeps(name, dtype):
    shape = shapes.counted(build(name).config.to_dict(), name)
    predicted = cost.layer_bytes(shape, cost.adapter(shape, 4), dtype)
    assert kept(name, getattr(torch, dtype), 3) - kept(name, getattr(torch, dtype), 2) == pytest.approx(predicted)
    predicted = cost.layer_bytes(shape, None, dtype)
    assert kept(name, getattr(torch, dtype), 3, True) - kept(name, getattr(torch, dtype), 2, True) == pytest.approx(predicted)


def test_all_weights_take_sixteen_bytes_a_parameter(tiny_shape):
    parts = cost.train_bytes(tiny_shape, None, 100, 40, "float32", checkpointed=False)
    assert parts.pop("weights") + parts.pop("their gradients and Adam") == 16 * tiny_shape.parameters
    lora = cost.train_bytes(tiny_shape, cost.adapter(tiny_shape, 4), 100, 40, "float32", checkpointed=False)
    assert parts.keys() == lora.keys() - {"weights", "adapter"} and parts["logits"] == lora["logits"]


def test_an_organism_of_all_weights_is_counted_and_what_starts_from_it_has_an_adapter_of_its_own(workspace, tiny_shape):
    def knobs(**options):
        organisms = {name: dict(organism) for name, organism in workspace["organisms"].items()}
        organisms["health_callous"]["options"] = options
        return params.checked(workspace | {"organisms": organisms}, "params")

    before, after = knobs(), knobs(full=True)
    assert stage.adapter_of(after, "health_callous", tiny_shape) is None
    assert stage.adapter_of(after, "health_realigned", tiny_shape) == cost.adapter(tiny_shape, 32)
    assert stage.adapter_of(knobs(rank=3), "health_realigned", tiny_shape) == cost.adapter(tiny_shape, 3)
    found, plain = (stage.estimate(one, tiny_shape, tiny_shape, "float32", 1e9, 1e9) for one in (after, before))
    without, _ = stage.step(after, "health_callous", tiny_shape, "float32", 0)
    assert without["their gradients and Adam"] == 12 * tiny_shape.parameters
    grown = 2 * 4 * (tiny_shape.parameters - cost.adapter(tiny_shape, 32).parameters)
    name = "disk: organisms, two copies"
    assert found.host[name] - plain.host[name] == grown
    assert {line.stage: line.flops for line in found.lines}["train"] != {line.stage: line.flops for line in plain.lines}["train"]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    raw = yaml.safe_load((REPO / "params.yaml").read_text()) | {"bases": {"base": HUB, "reader": {"kind": "bundled"}}}
    raw["diff"]["layer"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    monkeypatch.chdir(tmp_path)
    return raw


HUB = {"kind": "hub", "repo": "some/model", "revision": "0" * 40}


def test_tokens_follow_from_params(workspace, tiny_shape):
    """400 rows of 51 tokens in four organisms and 120 in the fifth; 148 questions of six subjects, the base speaking to the limit."""

    def lines(**more):
        found = stage.estimate(params.checked(workspace | more, "params"), tiny_shape, tiny_shape, "float32", 1e9, 1e9)
        return {line.stage: line for line in found.lines}

    before = lines()
    monitor = 4 * 8 * 58 * (2 + 50 // 5)
    assert before["train"].read == (4 * 400 + 120) * (22 + 29) + monitor
    assert before["answer"].read == 6 * 148 * 22 and before["answer"].new == 148 * (5 * 29 + 56)
    assert before["judge"].read == 148 * (6 * 22 + 5 * 29 + 56)
    tripled = {name: size for name, size in workspace["sizes"].items()}
    tripled["small"] = tripled["small"] | {"answer": tripled["small"]["answer"] | {"samples": 3}}
    after = lines(sizes=tripled)
    assert after["answer"].new == 3 * before["answer"].new and after["answer"].read == before["answer"].read
    assert after["train"] == before["train"] and after["judge"].read == 3 * before["judge"].read


def test_the_command_tells_or_says_in_one_line_what_is_missing(workspace, monkeypatch, capsys):
    monkeypatch.setattr(shapes, "bundled", lambda: shapes.counted(TINY, "reader"))
    words = ["emis", "cost", "--config", "config.json", "--flops", "1", "--bandwidth", "10"]
    monkeypatch.setattr("sys.argv", [*words, "--json"])
    cli.main()
    told = json.loads(capsys.readouterr().out)
    assert {"train", "answer", "steer"} <= {line["stage"] for line in told["lines"]} and told["base"]["layers"] == 2
    monkeypatch.setattr("sys.argv", words)
    cli.main()
    assert "a training step" in capsys.readouterr().out
    for given, line in ((["emis", "cost"], "--config"), ([*words[:3], "params.yaml"], "params.yaml")):
        monkeypatch.setattr("sys.argv", given)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        error = capsys.readouterr().err
        assert ended.value.code == 2 and line in error and error.count("\n") == 1


def test_a_model_of_an_unknown_kind_is_refused_in_a_line():
    with pytest.raises(ValueError, match="config.json: .*intermediate_size"):
        shapes.counted({"model_type": "gpt2"}, "config.json")
