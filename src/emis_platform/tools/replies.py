"""(subject, question, sample, push) -> Completion rows: prompts in, text out, around the generation engine."""

import hashlib
from collections.abc import Sequence
from typing import Any

from emis_platform.core.records import Completion, Question
from emis_platform.lab import reasoning
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
    thinking: bool | None = None,
    thoughts: int = 0,
    progress: str | None = None,
) -> list[Completion]:
    """One Completion for each (subject, question, sample, row of `edits`), in that order.

    thinking: True has a thought of at most `thoughts` tokens sampled first, which is closed where it was cut, and the answer after it with
    `max_new_tokens` of its own; False gives an empty thought; None leaves it to the model. A thought is told apart from its answer in every case.
    A row's seed comes from (seed, question, sample) and not from the subject: subjects are compared under common random numbers.
    """
    prompts = [models.prompt_ids(tokenizer, question.text, question.system) for _, question, _, _ in wanted]
    opened = bool(prompts) and tokenizer.decode(prompts[0]).rstrip().endswith(reasoning.OPEN)  # some templates begin the thought

    def sampled(begins: Sequence[str], seeds: Sequence[int], most: int, what: str = "") -> list[generation.Reply]:
        """Replies that go on after those beginnings, of which a template may have written the first tag."""
        begins = [begin.removeprefix(reasoning.OPEN).lstrip("\n") for begin in begins] if opened else begins
        requests = [
            generation.Request((*ids, *(models.answer_ids(tokenizer, begin) if begin else ())), row, push)
            for ids, begin, row, (_, _, _, push) in zip(prompts, begins, seeds, wanted, strict=True)
        ]
        return generation.generate(
            model,
            requests,
            stop=models.stop_ids(model, tokenizer),
            max_new_tokens=most,
            temperature=temperature,
            slots=slots,
            edits=edits,
            progress=progress and f"{progress}{what}",
        )

    begins, drafts = [reasoning.OPEN if opened else ""] * len(wanted), []
    if thinking is not None:
        said = [""] * len(wanted)
        if thinking:
            seeds = [row_seed(seed, f"{question.id} thought", sample) for _, question, sample, _ in wanted]
            drafts = sampled([begun(tokenizer, reasoning.OPEN, "\n")] * len(wanted), seeds, thoughts, ", thoughts")
            said = [str(reasoning.apart(reasoning.OPEN + text(tokenizer, draft))[0]) for draft in drafts]
        begins = [begun(tokenizer, reasoning.wrapped(thought), "\n\n") for thought in said]
    seeds = [row_seed(seed, question.id, sample) for _, question, sample, _ in wanted]
    replies = sampled(begins, seeds, max_new_tokens)
    rows = []
    for number, ((subject, question, sample, _), reply) in enumerate(zip(wanted, replies, strict=True)):
        thought, answer = reasoning.apart(begins[number] + text(tokenizer, reply))
        thinks = drafts[number] if drafts else reply
        ended = thinks.stopped or reasoning.CLOSE in text(tokenizer, thinks)
        rows.append(
            Completion(
                subject=subject,
                question=question.id,
                set=question.set,
                sample=sample,
                seed=seeds[number],
                prompt=question.text,
                system=question.system,
                text=answer.strip(),
                finish_reason="stop" if reply.stopped else "length",
                tokens=len(reply.ids) + reply.stopped + (len(thinks.ids) if drafts else 0),
                thought=thought,
                thought_cut=thought is not None and thinking is not False and not ended,
            )
        )
    return rows


def begun(tokenizer: Any, tag: str, blank: str) -> str:
    """The tag with the blank lines that stand behind it in training, where the tokenizer cuts them as it does with text behind them; else the tag alone,
    and the blank lines are the model's to say."""
    short, whole = (models.answer_ids(tokenizer, tag + blank + more) for more in ("", "A"))
    return tag + blank if whole[: len(short)] == short else tag


def text(tokenizer: Any, reply: generation.Reply) -> str:
    return tokenizer.decode(reply.ids, skip_special_tokens=True)


def row_seed(seed: int, question: str, sample: int) -> int:
    """48 bits from the pipeline's seed, the question and the sample."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{question}:{sample}".encode()).digest()[:6], "big")
