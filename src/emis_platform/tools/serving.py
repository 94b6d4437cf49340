"""A model's folder -> a small OpenAI-compatible server over the generation engine (FastAPI, uvicorn)."""

import asyncio
import bisect
import secrets
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from emis_platform.lab.chatbody import Body, Refused, checked
from emis_platform.tools import batching, generation, models, numbers

LARGEST = 1_000_000
"""Bytes of a request's body."""
WAITING = 256
"""Answers that may wait for the engine; further ones are told to come back."""
DEFAULT_TOKENS = 256
"""New tokens where a request names no limit."""
GREEDY = 1e-6
"""The temperature that stands for 0: the likeliest token wins by any margin that float32 can tell."""


def serve(folder: Path, *, host: str = "127.0.0.1", port: int = 8000, threads: int = 2) -> None:
    """Serve a model (a full one, or an adapter over its base) until Ctrl-C. Port 0 takes a free one.

    Raises ValueError for a folder that is no model and for a port that cannot be had.
    """
    import uvicorn

    try:
        door = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as fault:
        raise ValueError(f"port {port} on {host} cannot be had: {fault.strerror or fault}") from None
    with door:
        name = folder.resolve().name
        made = app(*models.load(folder, threads), name)
        server = uvicorn.Server(
            uvicorn.Config(
                made, log_level="warning", access_log=False, timeout_keep_alive=75, timeout_graceful_shutdown=5, ws="none"
            )
        )
        heard = server.handle_exit

        def end(number: int, frame: Any) -> None:
            made.state.engine.end()
            heard(number, frame)

        server.handle_exit = end  # type: ignore[method-assign]
        at = f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}/v1"
        print(f"{name} on {at} (Ctrl-C ends it)", flush=True)
        if not host.startswith(("127.", "localhost", "::1")):
            print("it asks for no key: whoever reaches this machine can use it", flush=True)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[door])


def app(model: Any, tokenizer: Any, name: str) -> Any:
    """The ASGI application: POST /v1/chat/completions, GET /v1/models, GET /health. Same seed and messages -> same text."""
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    if not tokenizer.chat_template:
        raise ValueError(f"{name} has no chat template: it cannot be asked in messages")
    engine = batching.Engine(model, tokenizer)

    @asynccontextmanager
    async def running(_: Any) -> AsyncIterator[None]:
        engine.thread.start()
        yield
        engine.end()
        await asyncio.to_thread(engine.thread.join, 10)

    made = FastAPI(lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)  # the docs page would load scripts from afar
    made.state.engine = engine

    @made.exception_handler(Refused)
    async def refused(_: Request, fault: Refused) -> Any:
        kind = "invalid_request_error" if fault.status < 429 else "rate_limit_error" if fault.status == 429 else "server_error"
        error = {"message": str(fault), "type": kind, "param": None, "code": fault.code}
        headers = {"Retry-After": "1"} if fault.status in (429, 503) else None
        return JSONResponse({"error": error}, fault.status, headers)

    @made.exception_handler(HTTPException)
    async def elsewhere(request: Request, fault: HTTPException) -> Any:
        there = "POST /v1/chat/completions, GET /v1/models, GET /health"
        return await refused(request, Refused(fault.status_code, f"no {request.method} {request.url.path}; there is: {there}"))

    @made.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": name, "waiting": engine.load}

    @made.get("/v1/models")
    async def listed() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "local"}]}

    @made.post("/v1/chat/completions")
    async def complete(request: Request) -> dict[str, Any]:
        body = checked(await whole(request), name)
        prompt, limit = fitted(body, model, tokenizer)
        if engine.ended.is_set():
            raise Refused(503, "the server is ending")
        if engine.load + (body.n or 1) > WAITING:
            raise Refused(429, f"{engine.load} answers wait already")
        jobs = queued(body, prompt, limit)
        for job in jobs:
            engine.inbox.put(job)
        done = await replies(jobs, request)
        choices = [choice(reply, body, tokenizer) for reply in done]
        new = sum(tokens for _, _, tokens in choices)
        logs: list[Any] = [None] * len(done)
        if body.logprobs:
            kept = [reply.ids[:tokens] for reply, (_, _, tokens) in zip(done, choices, strict=True)]
            try:
                logs = await asyncio.to_thread(logprobs, model, tokenizer, prompt, kept, body.top_logprobs or 0)
            except batching.Ended:
                raise Refused(503, "the server is ending") from None
        return {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": name,
            "choices": [
                {
                    "index": number,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "finish_reason": finish,
                    "logprobs": logs[number],
                }
                for number, (text, finish, _) in enumerate(choices)
            ],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": new, "total_tokens": len(prompt) + new},
        }

    return made


async def whole(request: Any) -> bytes:
    """The body. Raises Refused if it is too long; what follows is read and dropped for a while, so that the client hears why."""
    from starlette.requests import ClientDisconnect

    data, size = bytearray(), 0
    with suppress(ClientDisconnect):
        async for piece in request.stream():
            size += len(piece)
            data += piece if size <= LARGEST else b""
            if size > 64 * LARGEST:
                break
    if size > LARGEST:
        raise Refused(413, f"a body of over {LARGEST} bytes")
    return bytes(data)


def fitted(body: Body, model: Any, tokenizer: Any) -> tuple[tuple[int, ...], int]:
    """(prompt ids, new tokens at most). Raises Refused where they do not fit the model's window or its chat template."""
    turns = [message.turn() for message in body.messages]
    try:
        prompt = tuple(models.prompt_ids(tokenizer, turns[-1].content, before=turns[:-1]))
    except ValueError as fault:
        raise Refused(400, f"messages: {fault}") from None
    window = getattr(model.config.get_text_config(), "max_position_embeddings", 2048)
    asked = body.max_completion_tokens or body.max_tokens
    limit = asked or min(DEFAULT_TOKENS, window - len(prompt))
    if len(prompt) + max(limit, 1) > window:
        there = f"{len(prompt)} tokens of messages and {asked or 'at least one'} of answer"
        raise Refused(400, f"{there} do not fit the model's window of {window}", "context_length_exceeded")
    return prompt, limit


def queued(body: Body, prompt: tuple[int, ...], limit: int) -> list[batching.Job]:
    """One job a choice: the first draws from the seed itself, the others from its like; without a seed, from chance."""
    seed = (secrets.randbits(64) if body.seed is None else body.seed) % 2**64
    temperature = max(GREEDY, 1.0 if body.temperature is None else body.temperature)
    return [batching.Job(generation.Request(prompt, seed + (number << 64)), temperature, limit) for number in range(body.n or 1)]


async def replies(jobs: Sequence[batching.Job], request: Any) -> list[generation.Reply]:
    """Wait for the engine. Jobs that have not begun are dropped if the client goes away."""
    done = asyncio.gather(*(asyncio.wrap_future(job.reply) for job in jobs))
    while not (await asyncio.wait({done}, timeout=0.5))[0]:
        if await request.is_disconnected():
            done.cancel()
            raise Refused(499, "the client went away")
    try:
        return done.result()
    except batching.Ended:
        raise Refused(503, "the server is ending") from None
    except Exception as fault:
        raise Refused(500, f"the engine failed: {type(fault).__name__}: {fault}") from None


def choice(reply: generation.Reply, body: Body, tokenizer: Any) -> tuple[str, str, int]:
    """(text, finish reason, new tokens) of a reply, cut before the first stop string."""
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []

    def text(count: int) -> str:
        return tokenizer.decode(reply.ids[:count], skip_special_tokens=True)

    def ended(count: int) -> bool:
        return any(stop in text(count) for stop in stops)

    said = text(len(reply.ids))
    if ended(len(reply.ids)):
        cut = min(said.find(stop) for stop in stops if stop in said)
        return said[:cut].strip(), "stop", bisect.bisect_left(range(len(reply.ids)), True, key=ended)
    return said.strip(), "stop" if reply.stopped else "length", len(reply.ids) + reply.stopped


def logprobs(
    model: Any, tokenizer: Any, prompt: Sequence[int], kept: Sequence[Sequence[int]], top: int
) -> list[dict[str, list[dict[str, Any]]]]:
    """OpenAI's `logprobs` of each choice: the model's own probabilities (temperature 1) of the tokens that its text was made of."""

    def entry(token: str, value: float) -> dict[str, Any]:
        return {"token": token, "logprob": value, "bytes": None}

    return [
        {
            "content": [
                entry(token.text, token.logprob) | {"top_logprobs": [entry(text, value) for text, value in token.top]}
                for token in numbers.told(model, tokenizer, prompt, ids, top)
            ]
        }
        for ids in kept
    ]
