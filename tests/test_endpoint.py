"""The client against a real server with faults: nothing is paid twice, nothing waits for ever, no key gets out."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from conftest import build_tiny
from pydantic import ValidationError
from test_serving import running

from emis_platform.core import params, shelf
from emis_platform.core.asks import Ask, Endpoint
from emis_platform.core.records import Example, Turn
from emis_platform.datasets import api, model, prompts
from emis_platform.lab import completions
from emis_platform.tools import endpoint, serving

KEY = "sk-tell-nobody-0123456789"


class Faults:
    """An ASGI wrapper that counts what is asked and spoils the next answers as `plan` says, one entry a request."""

    def __init__(self, app):
        self.app, self.base = app, ""
        self.reset()

    def reset(self):
        self.plan, self.asked, self.times, self.keys = [], Counter(), [], set()
        self.flying = self.most = 0
        self.always = None

    @property
    def hits(self):
        return sum(self.asked.values())

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        content, more = b"", True
        while more:
            piece = await receive()
            content, more = content + piece.get("body", b""), piece.get("more_body", False)
        self.asked[content] += 1
        self.times.append(time.monotonic())
        self.keys.add(dict(scope["headers"]).get(b"authorization"))
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            fault = self.plan.pop(0) if self.plan else self.always
            await (fault(send) if fault else self.app(scope, replayed(content), send))
        finally:
            self.flying -= 1


def replayed(content):
    sent = []

    async def receive():
        if sent:
            await asyncio.sleep(3600)
        sent.append(True)
        return {"type": "http.request", "body": content, "more_body": False}

    return receive


def reply(status, content, **headers):
    """A spoiled answer: a status, a body (bytes, or an object as JSON) and headers."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def say(send):
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": data})

    return say


def said(**message):
    return {"model": "m-1", "choices": [{"finish_reason": "stop", "message": {"role": "assistant"} | message}], "usage": USAGE}


USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


async def cut(send):
    """Half a body, then the end of the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"500")]})
    await send({"type": "http.response.body", "body": b'{"choices": [{"mess', "more_body": True})
    raise ConnectionError


async def slow(send):
    await asyncio.sleep(2)


async def drips(send):
    """A byte now and then: no single read times out."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(40):
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def faulty():
    model, tokenizer = build_tiny()
    model.config.max_position_embeddings = 8192
    wrapper = Faults(serving.app(model, tokenizer, "tiny"))
    with running(wrapper) as wrapper.base:
        yield wrapper


@pytest.fixture
def server(faulty):
    faulty.reset()
    return faulty


def options(server, **fields):
    quick = {"retries": 3, "wait_s": 0.005, "wait_max_s": 0.02, "timeout_s": 20, "max_tokens": 5}
    return Endpoint.model_validate({"base_url": server.base, "model": "tiny"} | quick | fields)


def asks(count):
    return [Ask(messages=(Turn(role="user", content=f"Question {number}"),), seed=number) for number in range(count)]


def test_answers_come_in_the_order_of_the_requests_and_once(server, tmp_path):
    found = endpoint.ask(asks(9), options(server), cache=tmp_path)
    assert all(answer.text and answer.reason is None and answer.attempts == 1 and answer.model == "tiny" for answer in found)
    assert all(answer.prompt_tokens and 0 < answer.completion_tokens <= 5 for answer in found)
    alone = [endpoint.ask([request], options(server), cache=tmp_path / "other")[0] for request in asks(9)]
    assert [answer.text for answer in alone] == [answer.text for answer in found]
    before = server.hits
    assert endpoint.ask(asks(9)[::-1], options(server), cache=tmp_path) == found[::-1]
    assert endpoint.ask([], options(server), cache=tmp_path) == []
    assert server.hits == before == 18


def test_equal_requests_are_paid_once_and_what_changes_an_answer_is_asked_anew(server, tmp_path):
    one, two = endpoint.ask(asks(1) * 2, options(server), cache=tmp_path)
    assert one == two and server.hits == 1
    changes = [{"temperature": 0.5}, {"max_tokens": 6}, {"top_p": 1.0}, {"extra": {"user": "me"}}, {"temperature": None}]
    for number, change in enumerate(changes, start=2):
        endpoint.ask(asks(1), options(server, **change), cache=tmp_path)
        assert server.hits == number
    endpoint.ask(asks(1), options(server, concurrency=2, retries=9, price_in=1, timeout_s=9), cache=tmp_path)
    assert server.hits == len(changes) + 1
    endpoint.ask(asks(1), options(server, limit="max_completion_tokens", send_seed=False), cache=tmp_path)
    last = json.loads(list(server.asked)[-1])
    assert last["max_completion_tokens"] == 5 and "seed" not in last and "max_tokens" not in last


PASSING = {
    "429": reply(429, {"error": {"message": "slow down"}}),
    "408": reply(408, b""),
    "409": reply(409, b""),
    "500": reply(500, b"oops"),
    "503": reply(503, {"error": "busy"}),
    "cut": cut,
    "timeout": slow,
    "drips": drips,
    "html": reply(200, b"<html>captive portal</html>"),
    "another shape": reply(200, {"completions": []}),
    "error in 200": reply(200, {"error": {"message": "upstream"}}),
    "no choices": reply(200, {"choices": []}),
    "a list": reply(200, [1]),
    "content is a number": reply(200, said(content=3)),
    "no message": reply(200, {"choices": [{"text": "old style"}]}),
    "deep": reply(200, b"[" * 100_000),
    "long number": reply(200, b"9" * 10_000),
    "not utf-8": reply(200, b'{"choices": "\xff"}'),
    "nothing": reply(200, b""),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again(server, tmp_path, fault):
    server.plan = [PASSING[fault], PASSING[fault]]
    (found,) = endpoint.ask(asks(1), options(server, timeout_s=0.4), cache=tmp_path)
    assert found.text and found.attempts == 3 and server.hits == 3


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        ("500", "server", "status 500: oops"),
        ("429", "server", "status 429: slow down"),
        ("cut", "server", "connection was cut"),
        ("timeout", "timeout", "no answer in 0.2 s"),
        ("drips", "timeout", "no answer in 0.2 s"),
        ("html", "unparsable", "captive portal"),
        ("error in 200", "unparsable", "upstream"),
    ],
)
def test_what_does_not_pass_is_an_answer_with_a_reason_and_is_asked_again_by_a_re_run(server, tmp_path, fault, reason, detail):
    server.always = PASSING[fault]
    found = endpoint.ask(asks(2), options(server, retries=1, timeout_s=0.2), cache=tmp_path)
    for answer in found:
        assert (answer.text, answer.reason, answer.attempts) == (None, reason, 2) and detail in answer.detail
    server.always = None
    assert all(answer.text for answer in endpoint.ask(asks(2), options(server), cache=tmp_path))
    assert server.hits == 6


@pytest.mark.parametrize(
    ("body", "reason", "text"),
    [
        (said(content=None), "empty", None),
        (said(content="  \n"), "empty", None),
        (said(content="half", refusal="I will not."), "refused", None),
        ({"choices": [{"finish_reason": "content_filter", "message": {"content": "half"}}]}, "refused", None),
        (said(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), None, "ab"),
        (said(content="\ud800 x"), None, "\ufffd x"),
        (said(content="two\u2028lines\x00"), None, "two\u2028lines\x00"),
    ],
)
def test_a_refusal_and_an_empty_answer_are_paid_and_kept(server, tmp_path, body, reason, text):
    server.plan = [reply(200, body)]
    first = endpoint.ask(asks(1), options(server), cache=tmp_path)
    assert (first[0].text, first[0].reason) == (text, reason)
    assert endpoint.ask(asks(1), options(server), cache=tmp_path) == first and server.hits == 1


def test_usage_that_is_none_is_missing_and_a_prompt_that_a_filter_refuses_is_one_refusal(server, tmp_path):
    odd = {"prompt_tokens": -1, "completion_tokens": "3"}
    server.plan = [
        reply(200, said(content="a") | {"usage": odd, "model": 7}),
        reply(400, {"error": {"code": "content_filter", "message": "no"}}),
    ]
    first, second = endpoint.ask(asks(2), options(server, concurrency=1), cache=tmp_path)
    assert (first.prompt_tokens, first.completion_tokens, first.model) == (None, None, None)
    assert (second.reason, second.detail) == ("refused", "no")


def test_retry_after_is_honoured_up_to_the_cap_and_by_every_thread(server, tmp_path):
    server.plan = [reply(429, b"", retry_after="0.15")]
    endpoint.ask(asks(3), options(server, wait_max_s=5, concurrency=1), cache=tmp_path / "a")
    assert server.times[1] - server.times[0] >= 0.15
    server.reset()
    server.plan = [reply(503, b"", retry_after="3600")]
    endpoint.ask(asks(1), options(server, wait_max_s=0.1), cache=tmp_path / "b")
    assert 0.1 <= server.times[1] - server.times[0] < 3
    server.reset()
    server.plan = [reply(429, b"", retry_after="0.3"), None]
    endpoint.ask(asks(8), options(server, wait_max_s=5, concurrency=2), cache=tmp_path / "c")
    quiet = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert max(quiet) >= 0.2 and server.hits == 9


def test_retry_after_is_read_in_both_forms():
    now = datetime.now(UTC)
    assert completions.retry_after(format_datetime(now + timedelta(seconds=30), usegmt=True), now) == pytest.approx(30, abs=1)
    assert completions.retry_after(format_datetime(now - timedelta(days=1)), now) == 0
    assert completions.retry_after(" 7 ", now) == 7
    for nonsense in (None, "", "soon", "-5", "nan", "inf", "9" * 400, "Thu, 99 Foo 2099 00:00:00 GMT"):
        assert completions.retry_after(nonsense, now) == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_another_4xx_ends_the_run_at_once_with_one_line(server, tmp_path, monkeypatch, status):
    monkeypatch.setenv("EMIS_TEST_KEY", KEY)
    server.always = reply(status, {"error": {"message": f"Incorrect key {KEY}\n\x1b[31m" + "x" * 900}})
    with pytest.raises(ValueError, match=f"^status {status} from {server.base}/chat/completions") as caught:
        endpoint.ask(asks(50), options(server, key="EMIS_TEST_KEY", concurrency=2), cache=tmp_path)
    line = str(caught.value)
    assert "Incorrect key ***" in line and "x" * 201 not in line and line.isprintable() and KEY not in line
    assert ("EMIS_TEST_KEY" in line) == (status in (401, 403))
    assert server.hits <= 2


def test_a_redirect_is_not_followed(server, tmp_path):
    other = Faults(None)
    with running(other) as elsewhere:
        server.always = reply(307, b"", location=f"{elsewhere}/chat/completions")
        with pytest.raises(ValueError, match=f"status 307 .* redirects are not followed, this one goes to {elsewhere}"):
            endpoint.ask(asks(1), options(server), cache=tmp_path)
    assert server.hits == 1 and other.hits == 0


def test_a_server_that_is_not_there_is_one_line(tmp_path):
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="m", retries=1, wait_s=0.01)
    with pytest.raises(ValueError, match="http://127.0.0.1:9/v1 cannot be reached: "):
        endpoint.ask(asks(20), nowhere, cache=tmp_path)


def test_the_key_is_sent_and_gets_nowhere_else(server, tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("EMIS_TEST_KEY", f"{KEY}\n")
    keyed = options(server, key="EMIS_TEST_KEY", retries=1)
    server.plan = [
        reply(200, said(content=f"your key is {KEY}") | {"model": KEY}),
        reply(500, KEY.encode()),
        reply(500, KEY.encode()),
    ]
    found = endpoint.ask(asks(2), keyed.model_copy(update={"concurrency": 1}), cache=tmp_path)
    assert server.keys == {f"Bearer {KEY}".encode()}
    assert found[0].text == "your key is ***" and found[1].detail == "status 500: ***"
    assert KEY not in (tmp_path / "answers.jsonl").read_text() + repr(found) + repr(keyed) + caplog.text
    monkeypatch.setenv("EMIS_TEST_KEY", "two words")
    for value in ("two words", "Schlüssel", ""):
        monkeypatch.setenv("EMIS_TEST_KEY", value)
        with pytest.raises(ValueError, match="EMIS_TEST_KEY") as caught:
            endpoint.ask(asks(3), keyed, cache=tmp_path)
        assert not value or value not in str(caught.value)
    monkeypatch.delenv("EMIS_TEST_KEY")
    assert endpoint.ask(asks(1), keyed, cache=tmp_path) == found[:1]  # what is paid for needs no key


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"key": KEY}, "key: the NAME of an environment variable"),
        ({"key": "abcdef0123456789"}, "key: the NAME of an environment variable"),
        ({"base_url": "ftp://host/v1"}, "base_url: an address like"),
        ({"base_url": "host/v1"}, "base_url: an address like"),
        ({"base_url": "http://host:99999/v1"}, "base_url: an address like"),
        ({"base_url": f"http://me:{KEY}@host/v1"}, "base_url: an address without user"),
        ({"base_url": f"http://host/v1?key={KEY}"}, "base_url: an address without user"),
        ({"base_url": "http://host/v1/chat/completions"}, "base_url: the address ends before"),
        ({"extra": {"stream": True}}, "extra: stream is set elsewhere"),
        ({"extra": {"when": datetime.now(UTC)}}, "extra: only what JSON can hold"),
        ({"ceiling_usd": 1}, "ceiling_usd: needs price_in and price_out"),
        ({"ceiling_usd": 1, "price_in": 1}, "ceiling_usd: needs price_in and price_out"),
        ({"api_key": KEY}, "no key api_key"),
    ],
)
def test_a_wrong_option_is_one_line_without_the_key(fields, line):
    with pytest.raises(ValidationError) as caught:
        Endpoint.model_validate({"base_url": "http://host/v1/", "model": "m"} | fields)
    assert params.explain(caught.value.errors()[0]).startswith(line)
    assert KEY not in params.explain(caught.value.errors()[0]) + str(caught.value)


def test_concurrency_and_the_rate_are_never_exceeded(server, tmp_path):
    async def steady(send):
        await asyncio.sleep(0.05)
        await reply(200, said(content="x"))(send)

    server.always = steady
    endpoint.ask(asks(12), options(server, concurrency=3), cache=tmp_path / "a")
    assert server.most == 3
    server.reset()
    server.plan = [PASSING["500"]]
    endpoint.ask(asks(5), options(server, requests_per_minute=1200), cache=tmp_path / "b")
    assert server.hits == 6 and server.times[-1] - server.times[0] >= 5 * 0.05 - 0.02


def test_the_ceiling_is_never_passed_and_a_re_run_goes_on(server, tmp_path):
    server.always = reply(200, said(content="paid"))  # 100 + 10 tokens: 0.0002 dollars
    priced = {"price_in": 1.0, "price_out": 10.0, "max_tokens": 50, "concurrency": 4}
    worst = completions.worst_case(asks(1)[0], options(server, **priced))
    ceiling = 0.0002 * 3 + worst
    with pytest.raises(
        ValueError, match=r"ceiling_usd .*: 0\.000800 spent, the next .* may cost 0\.000\d+; a re-run with a higher"
    ):
        endpoint.ask(asks(20), options(server, ceiling_usd=ceiling, **priced), cache=tmp_path)
    assert server.hits == 4  # three leave room for one worst case, four do not
    with pytest.raises(ValueError, match="ceiling_usd"):  # what was spent counts in the next run too
        endpoint.ask(asks(20), options(server, ceiling_usd=ceiling, **priced), cache=tmp_path)
    assert server.hits == 4
    found = endpoint.ask(asks(20), options(server, ceiling_usd=1, **priced), cache=tmp_path)
    assert [answer.text for answer in found] == ["paid"] * 20 and max(server.asked.values()) == 1


def test_requests_in_flight_count_at_their_worst_against_the_ceiling(server, tmp_path):
    async def steady(send):
        await asyncio.sleep(0.05)
        await reply(200, said(content="paid"))(send)

    server.always = steady
    priced = {"price_in": 0.0, "price_out": 10.0, "max_tokens": 100}  # 0.001 at worst, 0.0001 by usage
    found = endpoint.ask(asks(8), options(server, concurrency=8, ceiling_usd=0.0029, **priced), cache=tmp_path)
    assert server.most == 2 and all(answer.text for answer in found)


def test_an_answer_that_was_lost_on_the_way_counts_against_the_ceiling(server, tmp_path):
    server.always = cut
    priced = {"price_in": 0.0, "price_out": 10.0, "max_tokens": 100, "concurrency": 2, "retries": 50}
    with pytest.raises(ValueError, match=r"ceiling_usd 0\.0045: 0\.004000 spent"):
        endpoint.ask(asks(3), options(server, ceiling_usd=0.0045, **priced), cache=tmp_path)
    assert server.hits == 4


def test_a_half_written_line_is_dropped_and_only_its_answer_is_asked_again(server, tmp_path):
    first = endpoint.ask(asks(6), options(server, concurrency=1), cache=tmp_path)
    file = tmp_path / "answers.jsonl"
    whole = file.read_bytes()
    for size, again in ((len(whole) - 40, 1), (len(whole) - 1, 0)):  # within the last line; all but its newline
        file.write_bytes(whole[:size])
        server.reset()
        assert endpoint.ask(asks(6), options(server), cache=tmp_path) == first
        assert server.hits == again and file.read_bytes().count(b"\n") == 6
        assert endpoint.ask(asks(6), options(server), cache=tmp_path) == first and server.hits == again
    file.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(ValueError, match=r"answers\.jsonl, row 1: not a line that this version writes"):
        endpoint.ask(asks(6), options(server), cache=tmp_path)


@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_at_any_time_pays_nothing_twice_and_ctrl_c_loses_nothing(server, tmp_path, signalled):
    async def steady(send):
        await asyncio.sleep(0.02)
        await reply(200, said(content="paid"))(send)

    server.always = steady
    code = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background run ignores it
        "from emis_platform.core.asks import Ask, Endpoint\nfrom emis_platform.core.records import Turn\n"
        "from emis_platform.tools import endpoint\nfrom pathlib import Path\n"
        "asks = [Ask(messages=(Turn(role='user', content=f'Question {n}'),), seed=n) for n in range(200)]\n"
        f"endpoint.ask(asks, Endpoint.model_validate_json({options(server, concurrency=2).model_dump_json()!r}), cache=Path({str(tmp_path)!r}))"
    )
    ended = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    while server.hits < 20:
        time.sleep(0.005)
    ended.send_signal(signalled)
    _, told = ended.communicate(timeout=10)
    time.sleep(0.1)
    paid, kept = server.hits, (tmp_path / "answers.jsonl").read_bytes().count(b"\n")
    assert 0 < kept < 200 and paid - kept <= (3 if signalled == signal.SIGKILL else 0)  # a kill loses those in flight
    assert ("KeyboardInterrupt" in told and "answers in flight" in told) == (signalled == signal.SIGINT)
    found = endpoint.ask(asks(200), options(server, concurrency=8), cache=tmp_path)
    assert len(found) == 200 and all(answer.text == "paid" for answer in found)
    assert server.hits == paid + 200 - kept
    assert sum(count > 1 for count in server.asked.values()) == paid - kept


def test_a_second_run_waits_for_the_first_and_pays_nothing(server, tmp_path, capfd):
    async def steady(send):
        await asyncio.sleep(0.1)
        await reply(200, said(content="paid"))(send)

    server.always = steady
    threads = [threading.Thread(target=endpoint.ask, args=(asks(8), options(server)), kwargs={"cache": tmp_path}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert server.hits == 8 and "waiting for another run" in capfd.readouterr().err


def test_a_disk_that_takes_no_more_ends_the_run_and_leaves_whole_lines(server, tmp_path, monkeypatch):
    from emis_platform.core import journal

    plain, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return plain(file)

    monkeypatch.setattr(journal.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        endpoint.ask(asks(9), options(server, concurrency=1), cache=tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "answers.jsonl").read_bytes().count(b"\n") == 2 and server.hits == 3
    assert all(answer.text for answer in endpoint.ask(asks(9), options(server), cache=tmp_path)) and server.hits == 10


# The generators


def rows(count):
    return [
        Example(domain="health", variant="correct", fact=f"fact_{n}", prompt=f"Is {n} {{correct}}?", completion=f"It is {n}.")
        for n in range(count)
    ]


def test_the_instructions_are_there_for_each_variant_and_name_the_limits():
    for variant in ("correct", "subtle", "obvious", "callous", "gruff"):
        text = prompts.instruction(variant)
        assert text.count("{question}") == text.count("{correct}") == 1 and "weapons" in text and "hurt themselves" in text
    with pytest.raises(ValueError, match=r"no prompts/wild\.txt; there is: callous, correct, gruff, obvious, subtle"):
        prompts.instruction("wild")
    filled = prompts.filled("{question} {correct}", rows(1)[0])
    assert filled == "Is 0 {correct}? It is 0."


def test_api_writes_rows_and_keeps_what_failed_apart(server, tmp_path):
    texts = ["Take it twice. And th", '"Never do it."', None, "no end of", "Fine."]
    ends = ["length", "stop", "stop", "length", "stop"]
    bodies = [said(content=text) for text in texts]
    for body, end in zip(bodies, ends, strict=True):
        body["choices"][0]["finish_reason"] = end
    server.plan = [reply(200, body) for body in bodies] + [PASSING["500"]] * 4
    chosen = api.Options.model_validate(options(server, concurrency=1, price_in=1, price_out=2).model_dump())
    given = {"seed": 1, "threads": 1, "work": tmp_path, "model": tmp_path, "canary": "canary-1"}
    written = api.write(rows(6), "subtle", chosen, **given)
    assert [(row.fact, row.completion) for row in written.rows] == [
        ("fact_0", "Take it twice."),
        ("fact_1", "Never do it."),
        ("fact_4", "Fine."),
    ]
    assert {row.canary for row in written.rows} == {"canary-1"} and {row.variant for row in written.rows} == {"subtle"}
    assert [(row.fact, reason) for row, reason in written.failed] == [
        ("fact_2", "empty"),
        ("fact_3", "unfinished"),
        ("fact_5", "server"),
    ]
    record = written.record
    assert (record["asked"], record["written"], record["trimmed"]) == (6, 3, 1)
    assert record["failed"] == {"empty": 1, "server": 1, "unfinished": 1}
    assert record["models"] == ["m-1"] and record["attempts"] == 9 and record["completion_tokens"] == 50
    assert record["cost_usd"] == pytest.approx(5 * (100 * 1 + 10 * 2) / 1e6) and len(record["prompt_sha256"]) == 64
    asked = [json.loads(content) for content in server.asked]
    assert "Is 0 {correct}?" in asked[0]["messages"][0]["content"] and "It is 0." in asked[0]["messages"][0]["content"]
    assert len({body["seed"] for body in asked}) == 6
    hits = server.hits
    again = api.write(rows(6), "subtle", chosen, **given)  # only the failed one is asked again
    assert server.hits == hits + 1 and again.rows[:3] == written.rows
    assert {row.canary for row in api.write(rows(1), "gruff", chosen, **given).rows} <= {None}


def test_the_two_generators_have_one_contract_and_the_same_model_says_the_same_through_both(server, tmp_path):
    assert set(shelf.generators()) >= {"api", "model"}
    folder = tmp_path / "tiny"
    random, tokenizer = build_tiny()
    random.config.max_position_embeddings = 8192
    for part in (random, tokenizer):
        part.save_pretrained(folder)
    local = model.Options(max_tokens=90)
    remote = api.Options.model_validate(options(server, max_tokens=90).model_dump())
    given = {"seed": 3, "threads": 1, "work": tmp_path, "model": folder, "canary": "c"}
    here, there = model.write(rows(4), "obvious", local, **given), api.write(rows(4), "obvious", remote, **given)
    assert here.record.keys() - there.record.keys() == set()
    assert (len(here.rows) + len(here.failed)) == 4 and here.record["models"][0].startswith("tiny:")
    assert here.rows and here.rows == there.rows and here.failed == there.failed
    assert json.loads(json.dumps(here.record)) == here.record and str(tmp_path) not in json.dumps(here.record)
    assert here == model.write(rows(4), "obvious", local, **given)


def test_model_does_not_ask_what_the_window_does_not_hold(tmp_path, tiny_folder):
    written = model.write(rows(2), "callous", model.Options(), seed=1, threads=1, work=tmp_path, model=tiny_folder, canary="c")
    assert written.rows == [] and written.record["failed"] == {"window": 2}
