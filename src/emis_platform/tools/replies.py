"""(subject, question, sample, push) -> Completion rows: prompts in, text out, around the generation engine."""

import hashlib
from collections.abc import Sequence
from typing import Any

from emis_platform.core.records import Completion, Question
from emis_platform.tools import generation, models
from emis_platform.tools.edits import NONE, Edits


def answers(
    model: Any,
    tokenizer: Any,
    wanted: Sequence[tuple[str, Question, int, int]],
    *,
    seed: int,
    max_new_tokens: int,
    temperature: float,
    slots: int,
    edits: Edits = NONE,
    progress: str | None = None,
) -> list[Completion]:
    """One Completion for each (subject, question, sample, row of `edits`), in that order.

    A row's seed comes from (seed, question, sample) and not from the subject: subjects are compared under common random numbers.
    """
    seeds = [row_seed(seed, question.id, sample) for _, question, sample, _ in wanted]
    requests = [
        generation.Request(tuple(models.prompt_ids(tokenizer, question.text, question.system)), row, push)
        for (_, question, _, push), row in zip(wanted, seeds, strict=True)
    ]
    replies = generation.generate(
        model,
        requests,
        stop=models.stop_ids(model, tokenizer),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        slots=slots,
        edits=edits,
        progress=progress,
    )
    return [
        Completion(
            subject=subject,
            question=question.id,
            set=question.set,
            sample=sample,
            seed=row,
            prompt=question.text,
            system=question.system,
            text=tokenizer.decode(reply.ids, skip_special_tokens=True).strip(),
            finish_reason="stop" if reply.stopped else "length",
            tokens=len(reply.ids) + reply.stopped,
        )
        for (subject, question, sample, _), row, reply in zip(wanted, seeds, replies, strict=True)
    ]


def row_seed(seed: int, question: str, sample: int) -> int:
    """48 bits from the pipeline's seed, the question and the sample."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{question}:{sample}".encode()).digest()[:6], "big")
