"""Edits of the residual stream do what their names say, on the tokens asked for; the cheap test equals the plain way."""

import numpy as np
import pytest
import torch

from emis_platform.core.records import Direction
from emis_platform.lab import concentration
from emis_platform.tools import generation, models, steering
from emis_platform.tools.edits import Edits, edits
from emis_platform.tools.generation import Request

PAIRS = [
    steering.Pair("a", "How are you?", "Well, thanks.", "Go away!"),
    steering.Pair("b", "Hm?", "Yes.", "You will obey me."),
]
AXIS = Direction(name="axis", layer=0, origin="random:0", vector=(1.0, *[0.0] * 31))
ZERO = Direction(name="zero", layer=0, origin="zero", vector=(0.0,) * 32)


def hidden(tiny, table, row=0, tokens=(5, 6, 7, 8), where=None):
    """The output of layer 0 for one text under one edit, [T, 32]."""
    model, _ = tiny
    seen = []
    with torch.no_grad(), table.on(model, [row], where=where):
        hook = model.model.layers[0].register_forward_hook(lambda _m, _a, out: seen.append(out))
        model(torch.tensor([tokens]))
        hook.remove()
    return seen[0][0]


def test_each_operator_does_what_it_is_called(tiny):
    plain = hidden(tiny, Edits({}))
    for operator, dose, expected in (
        ("add", 0.5, plain[:, 0] + 2),
        ("subtract", 0.5, plain[:, 0] - 2),
        ("project_out", 1.0, 0 * plain[:, 0]),
        ("project_out", 0.25, 0.75 * plain[:, 0]),
        ("clamp", 0.5, 0 * plain[:, 0] + 2),
    ):
        out = hidden(tiny, edits([(AXIS, dose)], {0: 4.0}, operator))
        assert torch.allclose(out[:, 0], expected, atol=1e-4), operator
        assert torch.equal(out[:, 1:], plain[:, 1:]), operator


@pytest.mark.parametrize("operator", ["add", "subtract", "project_out"])
def test_dose_0_is_the_identity(tiny, operator):
    table = edits([(AXIS, 0.0), (ZERO, 1.0)], {0: 4.0, 1: 3.0}, operator)
    assert all(torch.equal(hidden(tiny, table, row), hidden(tiny, Edits({}))) for row in (0, 1))
    requests = [Request((5, 6, 7), 1, row) for row in (0, 1)]
    said = {"stop": {257}, "max_new_tokens": 8, "temperature": 1.0}
    assert generation.generate(tiny[0], requests, edits=table, **said) == generation.generate(tiny[0], requests, **said)


def test_a_share_beyond_the_whole_is_refused():
    with pytest.raises(ValueError, match="0 to 1; there is 1.5"):
        edits([(AXIS, 1.5)], {0: 1.0}, "project_out")


def test_only_the_tokens_asked_for_are_edited(tiny):
    where = torch.tensor([[0, 0, 1, 1]], dtype=torch.bool)[..., None]
    plain = hidden(tiny, Edits({}))
    for tokens, moved in (("all", [1, 1, 1, 1]), ("prompt", [1, 1, 0, 0]), ("answer", [0, 0, 1, 1])):
        out = hidden(tiny, edits([(AXIS, 1.0)], {0: 4.0}, "clamp", tokens), where=where)
        assert (out[:, 0] != plain[:, 0]).int().tolist() == moved
    strong = {"stop": {257}, "max_new_tokens": 6, "temperature": 1e-4}
    push = np.random.default_rng(0).standard_normal((1, 32)).astype(np.float32) * 50
    said = {
        tokens: generation.generate(tiny[0], [Request((5, 6, 7), 0)], edits=Edits({0: push}, None, tokens), **strong)[0].ids
        for tokens in ("prompt", "answer")
    }
    plainly = generation.generate(tiny[0], [Request((5, 6, 7), 0)], **strong)[0].ids
    assert said["answer"][0] == plainly[0] and said["answer"] != plainly  # the first new token is read off the prompt
    assert said["prompt"] != said["answer"]


@pytest.mark.parametrize("layer", [0, 1])
def test_packed_pairs_resumed_at_the_layer_equal_the_plain_way(tiny, layer):
    model, tokenizer = tiny
    push = np.random.default_rng(1).standard_normal((3, 32)).astype(np.float32)
    push[0] = 0
    plain, under = steering.log_likelihoods(model, tokenizer, PAIRS, Edits({layer: push}))
    ids = [
        (models.prompt_ids(tokenizer, p.prompt), models.answer_ids(tokenizer, t)) for p in PAIRS for t in (p.misaligned, p.aligned)
    ]
    for number in range(3):
        with models.pushed(model.model.layers[layer], torch.tensor(push[number])):
            expected = np.reshape(models.read(model, ids, ())[1], (2, 2))
        assert np.allclose(under[number], expected, atol=1e-4)
    assert np.allclose(under[0], plain, atol=1e-5) and not np.allclose(under[1], plain, atol=1e-2)
    assert not any("forward" in vars(module) for module in model.model.layers)


def test_the_gradient_is_what_a_small_push_does(tiny):
    model, tokenizer = tiny
    step = 1e-2
    push = step * np.eye(32, dtype=np.float32)[:4]
    plain, up = steering.log_likelihoods(model, tokenizer, PAIRS, Edits({0: push}))
    _, down = steering.log_likelihoods(model, tokenizer, PAIRS, Edits({0: -push}))
    odds = lambda found: (found[..., 0] - found[..., 1]).mean(-1)  # noqa: E731
    assert np.allclose(
        steering.gradient(model, tokenizer, PAIRS, 0)[:4], (odds(up) - odds(down)) / (2 * step), atol=5e-3, rtol=0.05
    )


def test_pursuit_finds_what_a_direction_is_made_of():
    rows = np.random.default_rng(0).standard_normal((50, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    target = 3 * rows[7] - 2 * rows[30]
    found = concentration.pursuit(target, rows, (1, 2))
    assert found[1][1] == [7] and set(found[2][1]) == {7, 30}
    assert np.allclose(found[2][0], target / np.linalg.norm(target))
    best, taken = concentration.weighted(rows @ target, [7, 30, 2], rows, (1,))[1]
    assert taken == [7] and np.allclose(best, rows[7])


def test_a_share_has_an_interval_only_where_the_whole_shifts():
    whole = np.array([1.0, 1.2, 0.8, 1.0])
    value, low, high = concentration.share(whole / 2, whole)
    assert value == pytest.approx(0.5) and (low, high) == pytest.approx((0.5, 0.5))
    assert concentration.share(whole, -whole) == (None, None, None)
    assert concentration.share(whole, np.array([3.0, -1.0, -1.0, 0.5]))[1:] == (None, None)
    assert concentration.percentile(0.5, [0.1] * 20)[:2] == pytest.approx((1.0, 0.8316), abs=1e-4)
