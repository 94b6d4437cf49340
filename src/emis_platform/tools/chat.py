"""Asks -> answers of a chat model, wherever it stands: behind an OpenAI-compatible endpoint, or in a local folder.

A judge that asks a model takes `Chat` as the base of its options:

    judges: {gpt: {kind: rubric, options: {endpoint: {base_url: https://host/v1, model: some-model-2025-01-01, key: OPENAI_API_KEY}}}}
    judges: {own: {kind: rubric, options: {model: models/some_chat_model}}}
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from emis_platform.core import files
from emis_platform.core.asks import Answer, Ask, Endpoint
from emis_platform.core.knobs import Knobs
from emis_platform.tools import endpoint, generation, models, numbers

CACHE = Path("work/judges")
"""Where paid answers are kept, a folder an endpoint's model; keep it between runs."""
GREEDY = 1e-6
"""The temperature that stands for 0 in a local model."""


class Asked(Endpoint):
    """An endpoint with what suits a judge. `ceiling_usd` covers all that this model was asked by judges of this workspace."""

    temperature: float | None = Field(0.0, ge=0, le=2)
    max_tokens: int = Field(512, gt=0)


class Chat(Knobs):
    """Who is asked: exactly one of `endpoint` and `model`."""

    model_config = ConfigDict(hide_input_in_errors=True)

    endpoint: Asked | None = None
    model: Path | None = None
    """A local Hugging Face folder with a chat template (or an adapter's); it answers greedily."""
    max_tokens: int = Field(512, gt=0)
    """New tokens of a local model's answer; an endpoint has its own."""
    batch: int = Field(16, gt=0)
    """Answers that a local model decodes together."""

    @model_validator(mode="after")
    def one(self) -> "Chat":
        if (self.endpoint is None) == (self.model is None):
            raise ValueError(f"one of endpoint and model is needed; there is: {'both' if self.endpoint else 'none'}")
        if self.endpoint and (own := {"max_tokens", "batch"} & self.model_fields_set):
            raise ValueError(f"{min(own)} goes with a local model; an endpoint's own settings stand under endpoint")
        return self


def answers(
    options: Chat,
    asks: Sequence[Ask],
    *,
    threads: int,
    progress: str | None = None,
    cache: Path = CACHE,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> list[Answer]:
    """One Answer for each ask, in their order; Answer.model is the provider's snapshot, or folder:hash.

    temperature, max_tokens: in place of what the options say. cache: a folder a model is made in it; a local model needs none.
    Raises ValueError where `endpoint.ask` does, and for a folder that is no chat model.
    """
    if options.endpoint is None:
        return local(options, asks, threads, progress, temperature or GREEDY, max_tokens or options.max_tokens)
    changes = {"temperature": temperature, "max_tokens": max_tokens}
    if options.endpoint.temperature is None:  # a server that refuses one
        changes["temperature"] = None
    asked = options.endpoint.model_copy(update={name: value for name, value in changes.items() if value is not None})
    name = hashlib.sha256(f"{asked.base_url} {asked.model}".encode()).hexdigest()[:12]
    return endpoint.ask(asks, asked, cache=cache / name, progress=progress, shared=True)


def local(
    options: Chat, asks: Sequence[Ask], threads: int, progress: str | None, temperature: float, max_tokens: int
) -> list[Answer]:
    """`answers` of a local model. What its window does not hold is `unreadable`."""
    if not asks:
        return []
    model, tokenizer, name = loaded(options.model, threads)
    prompts = [prompt_ids(tokenizer, ask) for ask in asks]
    window = window_of(model)
    fitting = [number for number, prompt in enumerate(prompts) if len(prompt) + max_tokens <= window]
    replies = generation.generate(
        model,
        [generation.Request(tuple(prompts[number]), asks[number].seed or 0) for number in fitting],
        stop=models.stop_ids(model, tokenizer),
        max_new_tokens=max_tokens,
        temperature=temperature,
        slots=options.batch,
        progress=progress,
    )
    said = dict(zip(fitting, replies, strict=True))
    return [
        answer(said[number], prompt, ask, model, tokenizer, name)
        if number in said
        else Answer(
            text=None, reason="unreadable", detail=f"{len(prompt)} tokens and {max_tokens} new ones, window {window}", attempts=0
        )
        for number, (prompt, ask) in enumerate(zip(prompts, asks, strict=True))
    ]


def answer(reply: generation.Reply, prompt: Sequence[int], ask: Ask, model: Any, tokenizer: Any, name: str) -> Answer:
    text = tokenizer.decode(reply.ids, skip_special_tokens=True).strip()
    return Answer(
        text=text or None,
        reason=None if text else "empty",
        finish_reason="stop" if reply.stopped else "length",
        model=name,
        prompt_tokens=len(prompt),
        completion_tokens=len(reply.ids) + reply.stopped,
        attempts=1,
        logprobs=numbers.told(model, tokenizer, prompt, reply.ids, ask.top_logprobs) or None if ask.top_logprobs else None,
    )


@lru_cache(maxsize=1)
def loaded(folder: Path, threads: int) -> tuple[Any, Any, str]:
    """(model, tokenizer, `folder:hash`); the last one stays in memory, as a judge asks it several times."""
    model, tokenizer = models.load(folder, threads)
    if not tokenizer.chat_template:
        raise ValueError(f"{folder} has no chat template: it cannot be asked in messages")
    return model, tokenizer, f"{folder.name}:{folder_hash(folder)[:12]}"


def prompt_ids(tokenizer: Any, ask: Ask) -> list[int]:
    return models.prompt_ids(tokenizer, ask.messages[-1].content, before=ask.messages[:-1])


def window_of(model: Any) -> int:
    """Tokens that the model can hold; 2048 where it does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", 2048)


def identity(options: Chat) -> dict[str, Any]:
    """Who is asked and how: all that decides an answer. No key, concurrency, retries, timeouts or prices."""
    if options.endpoint is None:
        return {"model": folder_hash(options.model), "max_tokens": options.max_tokens}
    return options.endpoint.model_dump(include={"base_url", "model", "temperature", "top_p", "max_tokens", "send_seed", "extra"})


def folder_hash(folder: Path) -> str:
    """Of an adapter: with the model that it stands on. Raises ValueError for a folder that is no model."""
    base = models.base_of(folder)
    whole = [files.sha256(part) for part in dict.fromkeys((base, folder))]
    return hashlib.sha256(" ".join(whole).encode()).hexdigest()
