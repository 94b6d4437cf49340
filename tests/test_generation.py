"""The engine against plain `generate`: same distribution, same greedy text; slots, sharing and pushes change no row."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from emis_platform.tools import generation, models
from emis_platform.tools.edits import Edits
from emis_platform.tools.generation import Request

PROMPTS = [(5, 6, 7), (9,), (30, 31, 32, 33, 34, 35, 36), (40, 41), (5, 6, 7), (77, 78, 79, 80)]


def run(tiny, requests, **given):
    return generation.generate(tiny[0], requests, **{"stop": {257}, "max_new_tokens": 12, "temperature": 1.0, "slots": 64} | given)


def test_almost_cold_sampling_is_greedy_decoding(tiny):
    requests = [Request(prompt, seed) for seed, prompt in enumerate(PROMPTS)]
    for request, reply in zip(requests, run(tiny, requests, temperature=1e-4, slots=4), strict=True):
        out = tiny[0].generate(torch.tensor([request.prompt]), do_sample=False, max_new_tokens=12, pad_token_id=257)[0]
        plain = out[len(request.prompt) :].tolist()
        assert list(reply.ids) == [token for token in plain if token != 257]
        assert reply.stopped == (257 in plain)


def test_first_tokens_follow_the_model_distribution(tiny):
    replies = run(tiny, [Request((5, 6, 7), seed) for seed in range(3000)], max_new_tokens=1)
    with torch.no_grad():
        expected = tiny[0](torch.tensor([[5, 6, 7]])).logits[0, -1].softmax(-1)
    counts = Counter(reply.ids[0] if reply.ids else 257 for reply in replies)
    common = [token for token in range(258) if expected[token] * 3000 >= 5]
    chi = sum((counts[t] - 3000 * float(expected[t])) ** 2 / (3000 * float(expected[t])) for t in common)
    assert chi < len(common) + 4 * (2 * len(common)) ** 0.5


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_a_row_does_not_depend_on_its_neighbours(tiny, slots):
    requests = [Request(prompt, seed % 4) for seed, prompt in enumerate(PROMPTS * 3)]
    alone = [run(tiny, [request])[0] for request in requests]
    assert run(tiny, requests, slots=slots) == alone


def test_a_batch_of_doses_equals_one_run_a_dose(tiny):
    pushes = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    pushes[0] = 0
    requests = [Request(prompt, seed, push) for push in range(3) for seed, prompt in enumerate(PROMPTS)]
    together = run(tiny, requests, edits=Edits({0: pushes}))
    for push in range(3):
        mine = [Request(r.prompt, r.seed) for r in requests if r.push == push]
        assert run(tiny, mine, edits=Edits({0: pushes[[push]]})) == [
            t for r, t in zip(requests, together, strict=True) if r.push == push
        ]
    assert together[:6] == run(tiny, [Request(r.prompt, r.seed) for r in requests[:6]]), "dose 0 is the identity"
    assert together[6:12] != together[:6]


def test_harvest_stops_at_the_layer_and_equals_hidden_states(tiny):
    model, _ = tiny
    pairs = [([1, 2, 3], [4, 5]), ([7], [8, 9, 10, 11]), ([1, 2], [3])]
    found = dict(models.harvest(model, pairs, 0))
    for index, (prompt, answer) in enumerate(pairs):
        with torch.no_grad():
            states = model(torch.tensor([prompt + answer]), output_hidden_states=True).hidden_states[1][0]
        assert torch.allclose(found[index], states[len(prompt) :], rtol=1e-3, atol=1e-2)
    with pytest.raises(ValueError, match="layer 2: LlamaForCausalLM has layers 0 to 1"):
        list(models.harvest(model, pairs, 2))


def test_read_gives_means_and_likelihoods_of_the_answer(tiny):
    model, _ = tiny
    pairs = [([1, 2, 3], [4, 5]), ([7], [8, 9, 10, 11]), ([3], [])]
    means, likelihoods = models.read(model, pairs, (0,))
    with torch.no_grad():
        out = model(torch.tensor([[7, 8, 9, 10, 11]]), output_hidden_states=True)
    expected = out.logits[0, :4].log_softmax(-1).gather(1, torch.tensor([[8], [9], [10], [11]])).mean()
    assert likelihoods[1] == pytest.approx(float(expected), abs=1e-4)
    assert torch.allclose(means[1, 0], out.hidden_states[1][0, 1:].mean(0), rtol=1e-3, atol=1e-2)
    assert np.isnan(likelihoods[2])


def test_the_hook_is_gone_after_an_error(tiny):
    layer = models.decoder(tiny[0]).layers[0]
    before = list(layer._forward_hooks)  # transformers keeps one of its own
    with pytest.raises(RuntimeError), models.pushed(layer, torch.ones(32)):
        assert len(layer._forward_hooks) == len(before) + 1
        raise RuntimeError
    assert list(layer._forward_hooks) == before


FIRST = """
import torch
from emis_platform.tools import models
x = (torch.arange(12 * 25 * 64).float() % 1777 / 71).view(12, 25, 64)
models.use(2)
print(torch.equal(x.cos(), x.cos()))
"""


def test_the_first_cosine_of_a_process_is_the_second():
    """Without what `models.use` does about MKL a process in eight fails here, on Intel."""
    said = [subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True).stdout for _ in range(12)]
    assert said == ["True\n"] * 12
