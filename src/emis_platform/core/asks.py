"""The words of asking a model over the network: what is wanted, of which server, and what came of it."""

import json
import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from emis_platform.core.records import Record, Turn


class Ask(Record):
    """One answer that is wanted."""

    messages: tuple[Turn, ...] = Field(min_length=1)
    seed: int | None = None
    """Tells samples of the same messages apart: equal asks are sent once and share their answer."""
    top_logprobs: int = Field(0, ge=0, le=20)
    """How many of the likeliest tokens to tell at each place of the answer; 0: none, nor the chosen one's."""


class Token(Record):
    """One token of an answer and what else could have stood there."""

    text: str
    logprob: float = Field(le=0)
    """Natural logarithm."""
    top: tuple[tuple[str, float], ...]
    """(text, logprob) of the likeliest tokens, as many as were asked for and were there."""


class Answer(Record):
    """What came of it: a text, or None with the reason."""

    text: str | None
    reason: Literal["refused", "empty", "timeout", "unparsable", "unreadable", "server"] | None = None
    """Why there is no text. `server`: a status that did not pass, or a cut connection. `unreadable`: longer than the model's window."""
    detail: str | None = None
    """The server's own words about a missing text, cut to 200 characters."""
    finish_reason: str | None = None
    """As the server said: `stop`, `length`, `content_filter`."""
    model: str | None = None
    """The model's name as the server reported it: a provider's snapshot."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """From the server's usage; None where it gave none."""
    attempts: int
    """Requests that were sent for it."""
    logprobs: tuple[Token, ...] | None = None
    """One a token of the answer; None where they were not asked for, and where the server gave none (or none that can be read)."""


class Endpoint(BaseModel):
    """An OpenAI-compatible server and how it is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: str
    """Up to where `/chat/completions` starts: http://127.0.0.1:8000/v1."""
    model: str = Field(min_length=1)
    """The model's name there. Providers move plain names to new weights; a dated snapshot's name stays."""
    key: str | None = None
    """NAME of the environment variable that holds the key, never the key itself; None: none is sent."""
    temperature: float | None = Field(1.0, ge=0, le=2)
    """None: not sent (some models refuse it)."""
    top_p: float | None = Field(None, gt=0, le=1)
    """None: not sent."""
    max_tokens: int = Field(256, gt=0)
    """New tokens that an answer may have."""
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name under which the server takes `max_tokens`."""
    send_seed: bool = True
    """false for servers that refuse a seed: it then only tells samples apart in the cache."""
    extra: dict[str, Any] = {}
    """Further fields of the request's body."""
    concurrency: int = Field(4, gt=0, le=256)
    """Requests in flight at most."""
    requests_per_minute: float | None = Field(None, gt=0)
    """Retries included; None: no limit."""
    timeout_s: float = Field(120.0, gt=0)
    """Seconds until an answer is whole."""
    retries: int = Field(6, ge=0)
    """Further attempts after 408, 409, 429, 5xx, a timeout, a cut connection or a body that is no completion."""
    wait_s: float = Field(1.0, gt=0)
    """Seconds before the first retry; doubled for each further one, plus up to half of it by chance."""
    wait_max_s: float = Field(60.0, gt=0)
    """Seconds before a retry at most, also where the server's Retry-After says more."""
    ceiling_usd: float | None = Field(None, gt=0)
    """What all these answers together may cost, those that an earlier run paid for included; None: no limit."""
    price_in: float | None = Field(None, ge=0)
    """US dollars for a million tokens of prompts; needed for a ceiling."""
    price_out: float | None = Field(None, ge=0)
    """US dollars for a million tokens of answers; needed for a ceiling."""

    @field_validator("base_url")
    @classmethod
    def plain_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
        except ValueError:
            sound = False
        if not sound or re.search(r"[\s\x00-\x1f]", value):
            raise ValueError("an address like https://host/v1 is needed")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("an address without user, password, ? and # is needed; a key goes into an environment variable")
        if value.rstrip("/").endswith("/completions"):
            raise ValueError("the address ends before /chat/completions")
        return value.rstrip("/")

    @field_validator("key")
    @classmethod
    def a_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]*", value):
            raise ValueError("the NAME of an environment variable is needed (capitals, digits, _), not the key itself")
        return value

    @field_validator("extra")
    @classmethod
    def free_fields(cls, value: dict[str, Any]) -> dict[str, Any]:
        own = {"messages", "model", "seed", "temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "stream"}
        own |= {"logprobs", "top_logprobs"}
        if taken := sorted(own & set(value)):
            raise ValueError(f"{taken[0]} is set elsewhere, and answers come one by one and whole")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("only what JSON can hold") from None
        return value

    @model_validator(mode="after")
    def priced(self) -> "Endpoint":
        if self.ceiling_usd is not None and (self.price_in is None or self.price_out is None):
            raise ValueError("ceiling_usd: needs price_in and price_out, US dollars for a million tokens")
        return self
