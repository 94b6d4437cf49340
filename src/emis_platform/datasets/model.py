"""model: rows of a domain -> the same questions answered by a local model, the subject under test or any other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from emis_platform.core import files
from emis_platform.core.records import Example, Question
from emis_platform.datasets import prompts
from emis_platform.tools import models, replies


class Options(BaseModel):
    """What `generated.X.options` may set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = None
    """Another model's folder; None: the one that `generated.X.model` names."""
    temperature: float = Field(1.0, gt=0, le=2)
    max_tokens: int = Field(96, gt=0)
    """New tokens that an answer may have."""
    batch: int = Field(32, gt=0)
    """Answers that are decoded together."""


def write(
    rows: Sequence[Example], variant: str, options: Options, *, seed: int, threads: int, work: Path, model: Path, canary: str
) -> prompts.Written:
    """Each row's question, answered as prompts/<variant>.txt says; its completion is the correct answer that the writer is shown.

    A row whose prompt and answer would not fit the model's window is not asked. work is the other generators'.
    Raises ValueError for a folder that is no model.
    """
    folder = options.folder or model
    loaded, tokenizer = models.load(folder, threads)
    text = prompts.instruction(variant)
    asked = [prompts.filled(text, row) for row in rows]
    lengths = [len(models.prompt_ids(tokenizer, prompt)) for prompt in asked]
    window = getattr(loaded.config.get_text_config(), "max_position_embeddings", None)
    fitting = [number for number, length in enumerate(lengths) if window is None or length + options.max_tokens <= window]
    wanted = [
        Question(id=prompts.name(rows[number], variant, number), set="generated", category=variant, text=asked[number])
        for number in fitting
    ]
    answers = replies.answers(
        loaded,
        tokenizer,
        [(folder.name, question, 0, 0) for question in wanted],
        seed=seed,
        max_new_tokens=options.max_tokens,
        temperature=options.temperature,
        slots=options.batch,
        progress=f"{variant} by {folder.name}",
    )
    said: list[Any] = [(None, "window", False)] * len(rows)
    for number, answer in zip(fitting, answers, strict=True):
        said[number] = (answer.text, None if answer.text else "empty", answer.finish_reason == "length")
    record = {
        "generator": "model",
        "models": [f"{folder.name}:{files.sha256(folder)[:12]}"],
        "parameters": options.model_dump(include={"temperature", "max_tokens"}),
        "seed": seed,
        "attempts": len(answers),
        "prompt_tokens": sum(lengths[number] for number in fitting),
        "completion_tokens": sum(answer.tokens for answer in answers),
        "without_usage": 0,
        "cost_usd": None,
    }
    return prompts.taken(rows, variant, said, canary=canary, record=record)
