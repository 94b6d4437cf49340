"""api: rows of a domain -> the same questions answered by any OpenAI-compatible endpoint, paid for once."""

from collections.abc import Sequence
from pathlib import Path

from emis_platform.core.asks import Ask, Endpoint
from emis_platform.core.records import Example, Turn
from emis_platform.datasets import prompts
from emis_platform.lab import completions
from emis_platform.tools import endpoint, replies


class Options(Endpoint):
    """What `generated.X.options` may set: the endpoint, and how it is asked."""


def write(
    rows: Sequence[Example], variant: str, options: Options, *, seed: int, threads: int, work: Path, model: Path, canary: str
) -> prompts.Written:
    """Each row's question, answered as prompts/<variant>.txt says; its completion is the correct answer that the writer is shown.

    work: the folder of the answers that were paid for; keep it between runs. threads and model are the other generators'.
    Raises ValueError where `endpoint.ask` does.
    """
    text = prompts.instruction(variant)
    asks = [
        Ask(
            messages=(Turn(role="user", content=prompts.filled(text, row)),),
            seed=replies.row_seed(seed, prompts.name(row, variant, number), 0),
        )
        for number, row in enumerate(rows)
    ]
    answers = endpoint.ask(asks, options, cache=work, progress=f"{variant} by {options.model}")
    priced = options.price_in is not None and options.price_out is not None
    paid = [completions.price(a, b, options) for a, b in zip(answers, asks, strict=True) if a.reason in (None, "refused", "empty")]
    record = {
        "generator": "api",
        "endpoint": options.base_url,
        "asked_for": options.model,
        "models": sorted({answer.model for answer in answers if answer.model}),
        "parameters": options.model_dump(include={"temperature", "top_p", "max_tokens", "send_seed", "extra"}),
        "seed": seed,
        "attempts": sum(answer.attempts for answer in answers),
        "prompt_tokens": sum(answer.prompt_tokens or 0 for answer in answers),
        "completion_tokens": sum(answer.completion_tokens or 0 for answer in answers),
        "without_usage": sum(answer.text is not None and answer.completion_tokens is None for answer in answers),
        "cost_usd": round(sum(paid), 6) if priced else None,
    }
    said = [(answer.text, answer.reason, answer.finish_reason == "length") for answer in answers]
    return prompts.taken(rows, variant, said, canary=canary, record=record)
