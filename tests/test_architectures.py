"""Tiny random models of five architectures through every tool that reads, steers or samples a model."""

import math

import numpy as np
import pytest
import torch
import transformers

from emis_platform.stages import diff
from emis_platform.tools import generation, models, steering
from emis_platform.tools.edits import Edits

SHAPE = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = SHAPE | {"num_key_value_heads": 2, "head_dim": 8}
GEMMA = GROUPED | {"query_pre_attn_scalar": 8, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
CAPPED = {"final_logit_softcapping": 3.0}
BUILT = {
    "Llama": GROUPED,
    "Qwen2": SHAPE | {"num_key_value_heads": 2},
    "Gemma2": GEMMA | CAPPED | {"attn_logit_softcapping": 5.0},
    "Gemma3": GEMMA,
    "GPTNeoX": SHAPE | {"attention_bias": True},
}
NAMES = list(BUILT)


def build(name, **more):
    """A random model of an architecture, its norms and biases random too, in eval mode on the CPU."""
    config = getattr(transformers, f"{name}TextConfig" if name == "Gemma3" else f"{name}Config")
    torch.manual_seed(0)
    settings = {"initializer_range": 0.2, "eos_token_id": 257, "bos_token_id": None, "pad_token_id": None}
    made = getattr(transformers, f"{name}ForCausalLM")(config(**settings | BUILT[name] | more))
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))
    return made.eval()


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return build(request.param)


PAIRS = [([5, 6, 7], [9, 10, 11, 12]), ([30, 31, 32, 33, 34, 35, 36, 37], [40, 41]), ([9], [60, 61, 62])]


def states(model, ids):
    """The output of each layer, by a plain pass."""
    caught = []
    hooks = [layer.register_forward_hook(lambda _m, _a, out: caught.append(out)) for layer in models.decoder(model).layers]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    for hook in hooks:
        hook.remove()
    return [out[0] if isinstance(out, tuple) else out for out in caught], logits


def test_the_stack_of_layers_is_found(model):
    assert len(models.decoder(model).layers) == 2 and models.width(model) == 32


@pytest.mark.parametrize("layer", [0, 1])
def test_harvest_reads_the_layers_output(model, layer):
    for index, found in list(models.harvest(model, PAIRS, layer)):
        prompt, answer = PAIRS[index]
        torch.testing.assert_close(found, states(model, prompt + answer)[0][layer][0, len(prompt) :], atol=1e-5, rtol=1e-4)


def test_read_gives_means_and_the_models_own_likelihood(model):
    means, values = models.read(model, PAIRS, [0, 1])
    for (prompt, answer), mean, value in zip(PAIRS, means, values, strict=True):
        layers, logits = states(model, prompt + answer)
        torch.testing.assert_close(mean[1], layers[1][0, len(prompt) :].mean(0), atol=1e-5, rtol=1e-4)
        plain = logits[len(prompt) - 1 : -1].log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).mean()
        assert value == pytest.approx(float(plain), abs=1e-5)


def test_the_logit_lens_is_the_models_own_reading_of_a_direction(model, tiny):
    direction = torch.randn(32, generator=torch.Generator().manual_seed(2))
    direction -= direction.mean()  # a LayerNorm takes it out
    inner = models.decoder(model)
    norm = inner.norm if hasattr(inner, "norm") else inner.final_layer_norm
    with torch.no_grad():
        plain = models.head(model, norm(direction) - getattr(norm, "bias", torch.zeros(32)))
    told = diff.logit_lens(model, tiny[1], most=5)(direction)
    assert list(told["logit_lens_up"]) == [tiny[1].decode([int(token)]) for token in plain.topk(5).indices]


def test_a_zero_push_is_the_identity_and_another_is_not(model):
    ids, layer = [5, 6, 7, 8], models.decoder(model).layers[0]
    plain = states(model, ids)[1]
    with models.pushed(layer, torch.zeros(32)):
        assert torch.equal(states(model, ids)[1], plain)
    with models.pushed(layer, torch.linspace(-1, 1, 32)):
        assert (states(model, ids)[1] - plain).abs().max() > 1e-3


def test_continuations_are_scored_as_in_a_pass_of_their_own(model, tiny):
    vector = torch.randn(32, generator=torch.Generator().manual_seed(1)).numpy()
    pairs = [steering.Pair("q", "Hello?", "Hi.", "Go away."), steering.Pair("r", "Who are you, and why?", "A model.", "None.")]
    push = np.stack([0 * vector, vector])
    plain, edited = steering.log_likelihoods(model, tiny[1], pairs, Edits({0: push}))
    np.testing.assert_allclose(edited[0], plain, atol=1e-5)
    for row, pair in enumerate(pairs):
        for column, text in enumerate((pair.misaligned, pair.aligned)):
            prompt, answer = models.prompt_ids(tiny[1], pair.prompt), models.answer_ids(tiny[1], text)
            for found, added in ((plain, push[0]), (edited[1], push[1])):
                with models.pushed(models.decoder(model).layers[0], torch.tensor(added)):
                    assert found[row, column] == pytest.approx(models.read(model, [(prompt, answer)], [1])[1][0], abs=1e-4)
    assert math.isfinite(steering.residual_norm(model, tiny[1], ["Hello?", "Who?"], 0))


def test_cold_sampling_is_the_architectures_own_greedy_decoding(model):
    requests = [generation.Request(tuple(prompt), seed) for seed, (prompt, _) in enumerate(PAIRS)]
    replies = generation.generate(model, requests, stop={257}, max_new_tokens=12, temperature=1e-4, slots=2)
    for request, reply in zip(requests, replies, strict=True):
        ids = list(request.prompt)
        for token in reply.ids:
            assert token == int(states(model, ids)[1][-1].argmax())
            ids.append(token)


def test_first_tokens_are_drawn_from_the_capped_logits():
    """Gemma 2 squashes its logits before the softmax: whoever skips that samples from another distribution."""
    model = build("Gemma2", initializer_range=1.0)
    replies = generation.generate(
        model, [generation.Request((5, 6, 7), seed) for seed in range(600)], stop={257}, max_new_tokens=1, temperature=1.0
    )
    likely = states(model, [5, 6, 7])[1][-1].softmax(-1)
    ids = [reply.ids[0] if reply.ids else 257 for reply in replies]
    seen = sum(float(likely[token]) for token in ids) / len(ids)
    assert seen == pytest.approx(float((likely**2).sum()), rel=0.15)
