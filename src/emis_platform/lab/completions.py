"""The chat completions format: an Ask -> a request's body, a reply's body -> an Answer, and what they cost. Pure."""

import hashlib
import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from emis_platform.core.asks import Answer, Ask, Endpoint, Token


def body(request: Ask, options: Endpoint) -> dict[str, Any]:
    sampling = {"temperature": options.temperature, "top_p": options.top_p, "seed": request.seed if options.send_seed else None}
    return {
        "model": options.model,
        "messages": [turn.model_dump() for turn in request.messages],
        options.limit: options.max_tokens,
        **{name: value for name, value in sampling.items() if value is not None},
        **({"logprobs": True, "top_logprobs": request.top_logprobs} if request.top_logprobs else {}),
        **options.extra,
    }


def identity(request: Ask, options: Endpoint) -> str:
    """sha256 of everything that an answer depends on. Prices, limits and the key are no part of it."""
    content = [options.base_url, body(request, options), request.seed]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def parsed(data: bytes, key: str | None = None) -> Answer:
    """The body of a completion -> its first choice, in one attempt. Raises ValueError if it is no completion."""
    try:
        found = json.loads(data)
        choice = found["choices"][0]
        said, finish = choice["message"], choice.get("finish_reason")
        content = said.get("content")
        if isinstance(content, list):  # the nested form: parts of text
            content = "".join(part["text"] for part in content if part.get("type") == "text")
        if not isinstance(content, str | None):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"no completion: {clean(message(data), key)}") from None
    usage = found.get("usage") if isinstance(found.get("usage"), dict) else {}
    refusal = said.get("refusal") or (finish == "content_filter" and "stopped by the server's filter")
    blank = not (content or "").strip()
    return Answer(
        text=None if refusal or blank else mended(content, key),
        reason="refused" if refusal else "empty" if blank else None,
        detail=clean(str(refusal), key) if refusal else None,
        finish_reason=clean(finish, key) if isinstance(finish, str) else None,
        model=clean(found["model"], key) if isinstance(found.get("model"), str) else None,
        prompt_tokens=count(usage.get("prompt_tokens")),
        completion_tokens=count(usage.get("completion_tokens")),
        attempts=1,
        logprobs=tokens(choice.get("logprobs"), key),
    )


def tokens(found: Any, key: str | None) -> tuple[Token, ...] | None:
    """OpenAI's `logprobs` of a choice -> one Token a token; None if there are none or they have another form."""
    try:
        listed = [(one["token"], one["logprob"], one.get("top_logprobs") or []) for one in found["content"]]
        made = [Token(text=mended(text, key), logprob=log(value), top=alternatives(top, key)) for text, value, top in listed]
    except (LookupError, TypeError, AttributeError, ValueError):
        return None
    return tuple(made) or None


def alternatives(listed: Any, key: str | None) -> tuple[tuple[str, float], ...]:
    return tuple((mended(one["token"], key), log(one["logprob"])) for one in listed)


def log(value: Any) -> float:
    """A logarithm of a probability as a server tells it. Raises ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value > 1e-3:
        raise ValueError(f"{value!r} is no logarithm of a probability")
    return min(0.0, float(value))


def count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else None


def message(data: bytes) -> str:
    """What a body says went wrong: OpenAI's error.message, its like, or the body itself."""
    try:
        found = json.loads(data)
        error = found.get("error") or found.get("detail") or found.get("message")
        error = error.get("message") if isinstance(error, dict) else error
        if isinstance(error, str) and error:
            return error
    except (ValueError, AttributeError, RecursionError):
        pass
    return data[:4000].decode(errors="replace") or "an empty body"


def clean(text: str, key: str | None) -> str:
    """One printable line of at most 200 characters, without the key."""
    return " ".join("".join(c if c.isprintable() else " " for c in mended(text, key)).split())[:200]


def mended(text: str, key: str | None) -> str:
    """Text that UTF-8 can hold (JSON can bring half a surrogate pair), without the key."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace(key, "***") if key else whole


def retry_after(header: str | None, now: datetime) -> float:
    """Seconds from a Retry-After header, a number or an HTTP date; 0 for none and for nonsense."""
    try:
        if re.fullmatch(r"\s*\d{1,9}(\.\d*)?\s*", header or ""):
            return float(header or 0)
        date = parsedate_to_datetime(header or "")
        return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def dollars(prompt: int, completion: int, options: Endpoint) -> float:
    return (prompt * (options.price_in or 0.0) + completion * (options.price_out or 0.0)) / 1e6


def worst_case(request: Ask, options: Endpoint) -> float:
    """US dollars that an attempt may cost: no tokenizer makes more tokens than there are bytes; 16 a message for its template."""
    return dollars(sum(len(turn.content.encode()) + 16 for turn in request.messages) + 16, options.max_tokens, options)


def price(answer: Answer, request: Ask, options: Endpoint) -> float:
    """US dollars by the server's usage; the worst case where it gave none."""
    return paid(answer, options, worst_case(request, options))


def paid(answer: Answer, options: Endpoint, worst: float) -> float:
    """US dollars by the server's usage; `worst` where it gave none."""
    if answer.prompt_tokens is None or answer.completion_tokens is None:
        return worst
    return dollars(answer.prompt_tokens, answer.completion_tokens, options)
