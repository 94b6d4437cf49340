"""Asks -> answers of any OpenAI-compatible server; what was paid for is kept and never asked again (httpx, tenacity)."""

import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from emis_platform.core import journal
from emis_platform.core.asks import Answer, Ask, Endpoint
from emis_platform.core.gate import Gate, Stopped
from emis_platform.lab import completions

LARGEST = 16_000_000
"""Bytes of a body; more is no answer."""


def ask(
    requests: Sequence[Ask], options: Endpoint, *, cache: Path, progress: str | None = None, shared: bool = False
) -> list[Answer]:
    """One Answer for each request, in their order. Texts, refusals and empty answers are kept in cache/answers.jsonl as they come.

    shared: the ceiling covers everything that the cache holds, not only what these requests ask for.

    Raises ValueError with one line where going on makes no sense: a status that a retry does not mend, a server that cannot be
    reached, the ceiling, no key. What was paid for until then is in the cache, and a re-run goes on from there.
    """
    wanted = [(completions.identity(request, options), request) for request in requests]
    with journal.opened(cache / "answers.jsonl", Answer) as (kept, keep):
        todo = {name: request for name, request in wanted if name not in kept}
        paid = sum(completions.price(kept[name], request, options) for name, request in dict(wanted).items() if name in kept)
        if shared and todo:
            worst = max(completions.worst_case(request, options) for request in todo.values())
            others = kept.keys() - dict(wanted).keys()
            paid += sum(completions.paid(kept[name], options, worst) for name in others)
        lost = send(todo, Gate(options, paid), keep, progress) if todo else {}
        return [kept[name] if name in kept else lost[name] for name, _ in wanted]


class Again(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, reason: str, detail: str, *, charged: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.charged, self.wait_s = reason, detail, charged, wait_s


def send(todo: dict[str, Ask], gate: Gate, keep: Callable[[str, Answer], None], progress: str | None) -> dict[str, Answer]:
    """Ask in `concurrency` threads; keeps what the server answered, returns the others: those that a re-run asks again."""
    import httpx
    from tqdm import tqdm

    options, key = gate.options, secret(gate.options)
    queue, lost, faults = deque(todo.items()), {}, []

    def work(over: threading.Event) -> None:
        try:
            while not gate.stop.is_set():
                try:
                    name, request = queue.popleft()
                except IndexError:
                    return
                answer = answered(client, request, gate, key)
                if answer.reason in (None, "refused", "empty"):
                    keep(name, answer)
                else:
                    lost[name] = answer
                bar.update()
        except BaseException as fault:
            faults.append(fault)
            gate.stop.set()
        finally:
            over.set()

    ends = [threading.Event() for _ in range(min(options.concurrency, len(todo)))]
    threads = [threading.Thread(target=work, args=(over,), daemon=True) for over in ends]
    shown = {"total": len(todo), "desc": progress, "unit": "answer", "disable": progress is None}
    with connection(options, key, httpx) as client, tqdm(**shown) as bar:
        for thread in threads:
            thread.start()
        try:
            wait_for(ends)
        except KeyboardInterrupt:
            gate.stop.set()
            print(f"waiting for {len(gate.flying)} answers in flight; Ctrl-C again drops them", file=sys.stderr, flush=True)
            wait_for(ends)
            raise
    if faults:
        raise next((fault for fault in faults if not isinstance(fault, Stopped)), faults[0])
    return lost


def connection(options: Endpoint, key: str | None, httpx: Any) -> Any:
    """A client that follows no redirect, and that asks the user's proxy for everything but loopback."""
    headers = {"User-Agent": "emis_platform", "Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
    near = (urlsplit(options.base_url).hostname or "").startswith(("127.", "localhost", "::1"))
    try:
        httpx.URL(options.base_url)
    except httpx.InvalidURL as fault:
        raise ValueError(f"base_url {options.base_url}: {fault}") from None
    limits = httpx.Limits(max_connections=options.concurrency)
    return httpx.Client(headers=headers, timeout=options.timeout_s, limits=limits, trust_env=not near)


def wait_for(ends: Sequence[threading.Event]) -> None:
    """Until all are set. Not by Thread.join: Ctrl-C in it makes Python 3.11 take a running thread for an ended one."""
    for over in ends:
        while not over.wait(0.2):  # so that Ctrl-C is heard
            pass


def answered(client: Any, request: Ask, gate: Gate, key: str | None) -> Answer:
    """One request with its retries. Raises ValueError or Stopped where the run ends."""
    import tenacity

    options, worst = gate.options, completions.worst_case(request, gate.options)
    backoff = tenacity.wait_exponential(options.wait_s, options.wait_max_s)

    def pause(state: Any) -> float:
        chance = tenacity.wait_random(0, backoff(state) / 2)(state)
        return min(options.wait_max_s, max(backoff(state) + chance, state.outcome.exception().wait_s))

    def attempt() -> Answer:
        gate.enter(worst)
        cost = 0.0
        try:
            answer = post(client, request, options, key)
            cost = completions.price(answer, request, options)
            return answer
        except Again as fault:
            cost = worst if fault.charged else 0.0
            gate.shut(min(options.wait_max_s, fault.wait_s))
            raise
        finally:
            gate.leave(worst, cost)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Again),
        wait=pause,
        stop=tenacity.stop_after_attempt(options.retries + 1) | tenacity.stop_when_event_set(gate.stop),
        sleep=tenacity.sleep_using_event(gate.stop),
        reraise=True,
    )
    try:
        return retrying(attempt).model_copy(update={"attempts": retrying.statistics["attempt_number"]})
    except Again as fault:
        if fault.reason == "unreachable":
            raise ValueError(f"{options.base_url} cannot be reached: {fault.detail}") from None
        return Answer(text=None, reason=fault.reason, detail=fault.detail, attempts=retrying.statistics["attempt_number"])


def post(client: Any, request: Ask, options: Endpoint, key: str | None) -> Answer:
    """One attempt. Raises Again for what may pass, ValueError for what will not."""
    import httpx

    url, data, until = f"{options.base_url}/chat/completions", bytearray(), time.monotonic() + options.timeout_s
    try:
        with client.stream("POST", url, json=completions.body(request, options)) as response:
            for piece in response.iter_bytes():
                data += piece
                if len(data) > LARGEST:
                    raise Again("unparsable", f"a body of over {LARGEST} bytes", charged=True)
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("a body that does not end")
    except httpx.TimeoutException as fault:
        unsent = isinstance(fault, httpx.ConnectTimeout | httpx.PoolTimeout)
        raise Again("timeout", f"no answer in {options.timeout_s:g} s", charged=not unsent) from None
    except httpx.ConnectError as fault:
        raise Again("unreachable", completions.clean(str(fault), key)) from None
    except httpx.RequestError as fault:
        raise Again("server", completions.clean(f"the connection was cut: {fault}", key), charged=True) from None
    if response.is_success:
        try:
            return completions.parsed(bytes(data), key if key and len(key) > 7 else None)  # a dummy key may be a word of the answer
        except ValueError as fault:
            raise Again("unparsable", completions.clean(str(fault), key), charged=True) from None
    return refused(response, bytes(data), options, key)


def refused(response: Any, data: bytes, options: Endpoint, key: str | None) -> Answer:
    """A status other than 2xx: an Answer if it is about this request alone. Raises Again or ValueError as `post` does."""
    status, said = response.status_code, completions.clean(completions.message(data), key)
    if status in (408, 409, 429) or status >= 500:
        quiet = completions.retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        raise Again("server", f"status {status}: {said}", wait_s=quiet)
    if status == 400 and b"content_filter" in data:  # a provider's filter does not like the prompt
        return Answer(text=None, reason="refused", detail=said, prompt_tokens=0, completion_tokens=0, attempts=1)
    if status == 400 and b"context_length_exceeded" in data:
        return Answer(text=None, reason="unreadable", detail=said, prompt_tokens=0, completion_tokens=0, attempts=1)
    where = f"status {status} from {options.base_url}/chat/completions"
    if 300 <= status < 400:
        target = completions.clean(response.headers.get("location", "nowhere"), key)
        raise ValueError(f"{where}: redirects are not followed, this one goes to {target}")
    raise ValueError(
        where + (f" (the key is read from {options.key})" if status in (401, 403) and options.key else "") + f": {said}"
    )


def secret(options: Endpoint) -> str | None:
    """The key from the environment. Raises ValueError that names the variable and not what it holds."""
    if options.key is None:
        return None
    value = os.environ.get(options.key, "").strip()
    if not value:
        raise ValueError(f"the environment variable {options.key} is not set: it should hold the key of {options.base_url}")
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError(f"the environment variable {options.key} holds no key: blanks, or letters that no header takes")
    return value
