"""The small server: what it answers, what it refuses, and that neighbours change nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from conftest import build_tiny

from emis_platform.tools import batching, generation, serving

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@contextmanager
def running(app):
    """An ASGI application on a free loopback port: yields its base address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        yield f"http://127.0.0.1:{door.getsockname()[1]}/v1"
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def tiny_app():
    model, tokenizer = build_tiny()
    model.config.max_position_embeddings = 4096  # a byte tokenizer makes long prompts
    return serving.app(model, tokenizer, "tiny")


@pytest.fixture(scope="module")
def client(tiny_app):
    with running(tiny_app) as base, httpx.Client(base_url=base.removesuffix("/v1"), timeout=20, trust_env=False) as made:
        yield made


def complete(client, messages=QUESTION, **fields):
    return client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 12, "seed": 1} | fields)


def text(reply, index=0):
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][index]["message"]["content"]


def test_a_completion_has_the_form_that_clients_expect(client):
    found = complete(client, model="tiny").json()
    assert found["object"] == "chat.completion" and found["model"] == "tiny"
    choice = found["choices"][0]
    assert choice["index"] == 0 and choice["message"]["role"] == "assistant" and choice["finish_reason"] in ("stop", "length")
    usage = found["usage"]
    assert usage["prompt_tokens"] > len(QUESTION[0]["content"]) and 0 < usage["completion_tokens"] <= 12
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert client.get("/health").json()["status"] == "ok"
    assert [entry["id"] for entry in client.get("/v1/models").json()["data"]] == ["tiny"]


def test_the_seed_fixes_the_text_and_another_seed_changes_it(client):
    first = text(complete(client))
    assert text(complete(client)) == first
    assert text(complete(client, seed=2)) != first
    assert len({text(complete(client, seed=None)) for _ in range(3)}) > 1


def test_temperature_nought_is_greedy_whatever_the_seed(client, tiny_app):
    import torch

    engine = tiny_app.state.engine
    assert text(complete(client, temperature=0)) == text(complete(client, temperature=0, seed=99))
    assert text(complete(client, temperature=1)) != text(complete(client, temperature=0))
    _, tokenizer = build_tiny()
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    with torch.no_grad():
        expected = engine.model.generate(ids, do_sample=False, max_new_tokens=12, attention_mask=torch.ones_like(ids))[
            0, ids.shape[1] :
        ]
    assert text(complete(client, temperature=0)) == tokenizer.decode(expected, skip_special_tokens=True).strip()


def test_n_answers_differ_and_the_first_is_the_seed_s_own(client):
    three = complete(client, n=3)
    assert [choice["index"] for choice in three.json()["choices"]] == [0, 1, 2]
    assert len({text(three, index) for index in range(3)}) == 3
    assert text(three) == text(complete(client))


def test_a_stop_string_ends_the_text_before_it(client):
    whole = text(complete(client, max_tokens=40))
    mark = whole[6:8]
    reply = complete(client, max_tokens=40, stop=[mark, "never said"])
    assert text(reply) == whole[: whole.index(mark)].strip()
    assert reply.json()["choices"][0]["finish_reason"] == "stop"
    needed = next(count for count in range(1, 41) if mark in text(complete(client, max_tokens=count)))
    assert reply.json()["usage"]["completion_tokens"] == needed < 40
    assert text(complete(client, max_tokens=40, stop="never said")) == whole


def test_earlier_turns_and_parts_of_text_are_read(client):
    before = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
    ]
    assert text(complete(client, [*before, *QUESTION])) != text(complete(client))
    parts = [{"type": "text", "text": "What is the capital "}, {"type": "text", "text": "of France?"}]
    assert text(complete(client, [{"role": "user", "content": parts}])) == text(complete(client))


def test_requests_that_arrive_together_are_decoded_together_and_alone_they_say_the_same(client, monkeypatch):
    sizes, plain = [], generation.generate

    def watched(model, requests, **settings):
        sizes.append((len(requests), settings["temperature"]))
        time.sleep(0.05)
        return plain(model, requests, **settings)

    monkeypatch.setattr(batching.generation, "generate", watched)
    fields = [{"seed": seed, "temperature": 0.5 + (seed % 2)} for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda field: text(complete(client, **field)), fields))
    assert max(size for size, _ in sizes) > 1 and len(sizes) < 12
    assert {temperature for _, temperature in sizes} == {0.5, 1.5}
    assert together == [text(complete(client, **field)) for field in fields]


BAD = {
    "no json": (b"hello", "JSON"),
    "not utf-8": (b'{"messages": "\xff"}', "JSON"),
    "a list": (b"[]", "object"),
    "deep": (b"[" * 100_000, "JSON"),
    "no messages": (b"{}", "messages"),
    "empty messages": (b'{"messages": []}', "messages"),
    "a number as role": (b'{"messages": [{"role": 1, "content": "a"}]}', "messages.0.role"),
    "half a surrogate pair": (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "JSON"),
    "no user": (b'{"messages": [{"role": "assistant", "content": "a"}]}', "assistant"),
    "picture": (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "messages.0.content"),
    **{
        name: (json.dumps({"messages": QUESTION} | fields).encode(), said)
        for name, fields, said in [
            ("stream", {"stream": True}, "stream"),
            ("hot", {"temperature": 3}, "temperature"),
            ("text for a number", {"temperature": "1"}, "temperature"),
            ("no tokens", {"max_tokens": 0}, "max_tokens"),
            ("top_p", {"top_p": 0.5}, "top_p"),
            ("tools", {"tools": []}, "tools"),
            ("n", {"n": 1000}, "n:"),
            ("empty stop", {"stop": [""]}, "stop"),
            ("seed", {"seed": 2**70}, "seed"),
        ]
    },
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_body_is_told_what_is_wrong(client, case):
    content, said = BAD[case]
    reply = client.post("/v1/chat/completions", content=content)
    error = reply.json()["error"]
    assert reply.status_code == 400 and said in error["message"] and error["type"] == "invalid_request_error"


def test_what_does_not_fit_the_window_is_refused_by_its_code(client):
    for reply in (
        complete(client, [{"role": "user", "content": "a" * 5000}]),
        complete(client, [{"role": "user", "content": "a" * 5000}], max_tokens=None),
        complete(client, max_tokens=4090),
    ):
        assert reply.status_code == 400 and reply.json()["error"]["code"] == "context_length_exceeded"


def test_another_model_a_large_body_and_another_path_are_refused(client):
    other = complete(client, model="gpt")
    assert other.status_code == 404 and "there is: tiny" in other.json()["error"]["message"]
    large = client.post("/v1/chat/completions", content=b" " * 3_000_000)
    assert large.status_code == 413 and "1000000 bytes" in large.json()["error"]["message"]
    assert client.get("/v1/nothing").status_code == 404 and "there is" in client.get("/v1/nothing").json()["error"]["message"]
    assert client.get("/v1/chat/completions").status_code == 405
    assert client.get("/docs").status_code == 404


def test_a_full_queue_and_a_failing_engine_are_told_and_the_server_goes_on(client, monkeypatch):
    monkeypatch.setattr(serving, "WAITING", 0)
    full = complete(client)
    assert full.status_code == 429 and full.headers["retry-after"] == "1" and full.json()["error"]["type"] == "rate_limit_error"
    monkeypatch.undo()
    monkeypatch.setattr(batching.generation, "generate", lambda *_, **__: 1 / 0)
    assert complete(client).status_code == 500
    monkeypatch.undo()
    assert text(complete(client))


def test_the_end_of_the_engine_frees_those_that_wait():
    model, tokenizer = build_tiny()
    app = serving.app(model, tokenizer, "tiny")
    with running(app) as base, ThreadPoolExecutor(2) as pool:
        asks = [
            pool.submit(httpx.post, f"{base}/chat/completions", json={"messages": QUESTION, "max_tokens": n}) for n in (400, 401)
        ]
        while not app.state.engine.load:
            time.sleep(0.001)
        app.state.engine.end()
        assert {ask.result().status_code for ask in asks} == {503}
    assert not model.model._forward_pre_hooks


def test_ctrl_c_ends_the_command_cleanly_and_nothing_of_a_prompt_is_logged(tiny_folder):
    code = f"from emis_platform.tools import serving; from pathlib import Path; serving.serve(Path({str(tiny_folder)!r}), port=0, threads=1)"
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    line = server.stdout.readline()
    base = line.split()[2]
    said = httpx.post(f"{base}/chat/completions", json={"messages": QUESTION, "max_tokens": 4}, trust_env=False).json()
    assert said["model"] == "base" and said["choices"]
    server.send_signal(signal.SIGINT)
    out, err = server.communicate(timeout=10)
    assert server.returncode == 0 and out == "" and err == ""
    assert line == f"base on {base} (Ctrl-C ends it)\n" and base.startswith("http://127.0.0.1:")


def test_a_taken_port_and_a_folder_that_is_no_model_are_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} on 127.0.0.1 cannot be had"):
            serving.serve(tmp_path, port=port)
    with pytest.raises(ValueError, match="is no model"):
        serving.serve(tmp_path, port=0)
