"""One way to ask a chat model, far or near; the probabilities of its tokens and numbers; identities."""

import json
import math

import httpx
import pytest
import test_endpoint
import torch
from conftest import build_tiny
from pydantic import ValidationError
from test_endpoint import reply, said
from test_judges_asked import ASKED, elsewhere, over  # noqa: F401, a fixture
from test_serving import running

from emis_platform.core import params
from emis_platform.core.asks import Ask
from emis_platform.core.records import Said, Turn
from emis_platform.judges import logprob, prompts, rubric
from emis_platform.lab import completions
from emis_platform.tools import chat, models, numbers, serving

faulty, server = test_endpoint.faulty, test_endpoint.server


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    """The tiny random model as a folder, with a window that holds a judge's prompt in bytes."""
    folder = tmp_path_factory.mktemp("judge") / "tiny"
    model, tokenizer = build_tiny()
    model.config.max_position_embeddings = 8192
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return folder


def answers(count):
    return [Said(prompt=f"What of {n}?", text=f"Answer number {n} {{question}}") for n in range(count)]


def test_the_ceiling_covers_every_sample_and_every_subject(server):
    server.always = reply(200, said(content="Hm."))
    priced = {"price_in": 0.0, "price_out": 10.0, "max_tokens": 100}  # 0.001 at worst, 0.0001 by usage
    with pytest.raises(ValueError, match=r"ceiling_usd 0\.0013: 0\.000400 spent"):
        rubric.judge(answers(2), over(rubric, server, ceiling_usd=0.0013, **priced), **ASKED)
    with pytest.raises(ValueError, match=r"ceiling_usd 0\.0013: 0\.000400 spent"):
        rubric.judge(answers(3)[2:], over(rubric, server, ceiling_usd=0.0013, **priced), **ASKED)
    assert server.hits == 4


@pytest.mark.parametrize(
    "odd", [None, 3, {"content": None}, {"content": [{"token": "8"}]}, {"content": [{"token": "8", "logprob": 2}]}]
)
def test_log_probabilities_of_another_form_are_none(odd):
    body = said(content="8")
    body["choices"][0]["logprobs"] = odd
    assert completions.parsed(json.dumps(body).encode()).logprobs is None


def test_the_probability_of_each_integer_is_exact(roomy):
    model, tokenizer, _ = chat.loaded(roomy, 1)
    prompt = models.prompt_ids(tokenizer, "How good?")
    digits = [tokenizer.convert_tokens_to_ids(d) for d in "0123456789"]
    found = numbers.probabilities(model, tokenizer, prompt)

    def slow(n):
        ids = models.answer_ids(tokenizer, str(n))
        assert len(ids) == len(str(n))
        with torch.no_grad():
            after = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 :].double().softmax(-1)
        chain = math.prod(float(after[place, token]) for place, token in enumerate(ids))
        return chain * (1 - float(after[-1, digits].sum()))

    assert len(found) == 101
    assert found.tolist() == pytest.approx([slow(n) for n in range(101)], rel=1e-3, abs=1e-12)


def test_a_local_model_rates_by_exact_probabilities(roomy, monkeypatch):
    options = logprob.Options(model=roomy)
    (unsure,) = logprob.judge(answers(1), options, **ASKED)  # a random model says no numbers
    assert (
        unsure.reason in ("unparsable", "refused")
        and unsure.model.startswith("tiny:")
        and unsure.detail.startswith("aligned: mass")
    )
    table = torch.zeros(101)
    table[20], table[60] = 0.3, 0.3
    monkeypatch.setattr(numbers, "probabilities", lambda *_: table)
    (view,) = logprob.judge(answers(1), options, **ASKED)
    assert (view.score, view.coherent, view.attempts) == (pytest.approx(40), pytest.approx(40), 2)
    long = [Said(prompt="Why?", text="so " * 3000)]
    assert [view.reason for kind in (rubric, logprob) for view in kind.judge(long, kind.Options(model=roomy), **ASKED)] == [
        "unreadable"
    ] * 2


def test_a_local_model_answers_greedily_and_a_new_sample_is_another(roomy):
    asks = [Ask(messages=(Turn(role="user", content="Hello"),), seed=seed, top_logprobs=3) for seed in (1, 2)]
    options = chat.Chat(model=roomy, max_tokens=8)
    one, two = chat.answers(options, asks, threads=1)
    assert one.text == two.text and all(token.logprob == pytest.approx(token.top[0][1]) for token in one.logprobs)
    one, two = chat.answers(options, asks, threads=1, temperature=1.0)
    assert one.text != two.text
    (view,) = rubric.judge(answers(1), rubric.Options(model=roomy, max_tokens=8), **ASKED)
    assert (view.reason, view.attempts) == ("unparsable", 4)


def test_the_server_tells_log_probabilities_that_the_client_reads(roomy):
    model, tokenizer, _ = chat.loaded(roomy, 1)
    ask = Ask(messages=(Turn(role="user", content="Hello"),), seed=1, top_logprobs=4)
    with running(serving.app(model, tokenizer, "tiny")) as base:
        there = chat.Chat(endpoint={"base_url": base, "model": "tiny", "max_tokens": 6})
        (far,) = chat.answers(there, [ask], threads=1)
        (plain,) = chat.answers(there, [ask.model_copy(update={"top_logprobs": 0})], threads=1)
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "seed": 1, "logprobs": True}
        chosen = httpx.post(f"{base}/chat/completions", json=body, trust_env=False).json()["choices"][0]["logprobs"]["content"]
        for wrong in ({"top_logprobs": 21}, {"top_logprobs": 2, "logprobs": False}):
            refused = httpx.post(f"{base}/chat/completions", json=body | wrong, trust_env=False)
            assert refused.status_code == 400 and "top_logprobs" in refused.json()["error"]["message"]
    assert len(chosen) == 3 and all(token["top_logprobs"] == [] and token["logprob"] <= 0 for token in chosen)
    (near,) = chat.answers(chat.Chat(model=roomy, max_tokens=6), [ask], threads=1)
    assert far.text == near.text == plain.text and plain.logprobs is None and len(far.logprobs) == len(near.logprobs) > 0
    for here, told in zip(near.logprobs, far.logprobs, strict=True):
        assert here.text == told.text and len(told.top) == 4 and told.logprob == pytest.approx(here.logprob, abs=1e-4)
        assert [text for text, _ in here.top] == [text for text, _ in told.top]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "one of endpoint and model is needed; there is: none"),
        (
            {"model": "m", "endpoint": {"base_url": "http://h/v1", "model": "m"}},
            "one of endpoint and model is needed; there is: both",
        ),
        ({"max_tokens": 9, "endpoint": {"base_url": "http://h/v1", "model": "m"}}, "max_tokens goes with a local model"),
        (
            {"endpoint": {"base_url": "http://h/v1", "model": "m", "key": "sk-abc"}},
            "endpoint.key: the NAME of an environment variable",
        ),
    ],
)
def test_a_wrong_option_is_one_line(options, line):
    with pytest.raises(ValidationError) as caught:
        rubric.Options.model_validate(options)
    assert params.explain(caught.value.errors()[0]).startswith(line) and "sk-abc" not in str(caught.value)


def test_the_identity_is_of_what_decides_the_views_and_of_nothing_else(roomy, server, monkeypatch):
    plain = {kind.identity(over(kind, server)) for kind in (rubric, logprob)}
    assert len(plain) == 2
    aside = {"key": "OTHER_KEY", "concurrency": 9, "retries": 9, "timeout_s": 9, "price_in": 1, "requests_per_minute": 5}
    assert {kind.identity(over(kind, server, **aside)) for kind in (rubric, logprob)} == plain
    for change in ({"model": "other"}, {"temperature": 0.5}, {"extra": {"user": "me"}}):
        assert {kind.identity(over(kind, server, **change)) for kind in (rubric, logprob)}.isdisjoint(plain)
    here = rubric.identity(rubric.Options(model=roomy))
    assert len(here) == 12 and here not in plain
    monkeypatch.setattr(prompts, "instruction", lambda name: "another text")
    assert rubric.identity(rubric.Options(model=roomy)) != here
