"""An Inspect AI eval log -> answers, and a scorer's scores as judgements."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emis_platform.core import files
from emis_platform.core.records import Completion, Judgement, Reason, View
from emis_platform.tools.inspect_logs import KEPT, TASK, Log, Message, Sample, Score, named, ours


def answers(log: Log, path: Path) -> list[Completion]:
    """One row a sample. A sample that failed has an empty text; a seed or a token count that the log does not tell is 0.

    A conversation of several turns stands whole in `prompt`, each turn after the name of its role. `system` is what was in force, which a
    solver may have set and the data set not. Raises ValueError for a sample without a prompt.
    """
    mine = ours(log)
    subject, set_ = (
        (log.eval.model, log.eval.task.removeprefix(TASK)) if mine else (named(log.eval.model, path), named(log.eval.task, path))
    )
    rows = []
    for number, one in enumerate(log.samples or [], start=1):
        turns = [Message(role="user", content=one.input)] if isinstance(one.input, str) else one.input
        system = "\n\n".join(text(turn, one) for turn in one.messages or turns if turn.role == "system")
        asked = [turn for turn in turns if turn.role != "system"]
        if not asked:
            raise ValueError(f"{path}, sample {number}: no prompt: the input has no message but the system's")
        prompt = text(asked[0], one) if len(asked) == 1 else "\n\n".join(f"{turn.role}: {text(turn, one)}" for turn in asked)
        choice = one.output.choices[0] if one.output.choices else None
        told = one.metadata if mine else {}
        usage = one.output.usage.output_tokens if one.output.usage else 0
        fields = {
            "question": str(one.id),
            "sample": one.epoch - 1,
            "seed": told.get("seed", 0),
            "prompt": prompt,
            "system": system or None,
            "text": text(choice.message, one) if choice else one.output.completion,
            "finish_reason": "length" if choice and choice.stop_reason in ("max_tokens", "model_length") else "stop",
            "tokens": told.get("tokens", usage),
        }
        rows.append(valid(Completion, {"subject": subject, "set": set_, **fields}, path, number))
    return rows


def text(message: Message, within: Sample) -> str:
    """The message's text parts, an attachment in its place; reasoning, pictures and tool calls are passed over."""
    content = message.content
    parts = [content] if isinstance(content, str) else [str(p.get("text", "")) for p in content if p.get("type") == "text"]
    return "\n".join(within.attachments.get(part.removeprefix("attachment://"), part) for part in parts)


def scorers(log: Log) -> list[str]:
    """Names of all scorers of any sample, in order."""
    return list(dict.fromkeys(name for one in log.samples or [] for name in one.scores or {}))


def judgements(
    log: Log, path: Path, rows: Sequence[Completion], scorer: str, *, misaligned_when: str | None = None, scale: float = 100
) -> list[Judgement]:
    """One scorer's view of each of `answers`' rows, in order; its name gets the log's hash: `grader:1a2b3c4d5e6f`.

    A number of 0 to `scale` is a score (high is aligned), C, I, true (as C) and false (as I) are verdicts; anything else is missing, with the value.
    misaligned_when: the verdict that means misaligned, `C` or `I`; known for our own exports, else needed where there are verdicts.
    """
    judge = f"{scorer}:{files.sha256(path)[:12]}"
    mine = ours(log)
    when, scale = ("I", 100) if mine else (misaligned_when, scale)
    found = []
    for number, (one, row) in enumerate(zip(log.samples or [], rows, strict=True), start=1):
        given = (one.scores or {}).get(scorer)
        value = None if given is None else given.value
        kept = {k: v for k, v in (given.metadata or {}).items() if k in KEPT} if mine and given else {}
        whole = {k: v for k, v in kept.items() if k not in ("reason", "detail")}
        if isinstance(value, bool) or value in ("C", "I"):
            if when is None:
                raise ValueError(
                    f"{path}, sample {number}: {scorer} says {value!r}: --misaligned-when C or I (true is C) is needed"
                )
            view = {**whole, "verdict": (value in (True, "C")) == (when == "C")}
        elif isinstance(value, int | float) and 0 <= value <= scale:
            view = {**whole, "score": min(100.0, value * (100 / scale))}  # 0.3 * (100 / 0.3) is above 100
        elif mine and given and isinstance(value, float) and math.isnan(value):
            view = {k: v for k, v in kept.items() if k != "verdict"}
        else:
            view = missing(one, given, row.text, scale)
        found.append(
            valid(
                Judgement,
                {**view, "subject": row.subject, "question": row.question, "set": row.set, "sample": row.sample, "judge": judge},
                path,
                number,
            )
        )
    return found


def missing(one: Sample, given: Score | None, said: str, scale: float) -> dict[str, Any]:
    """Why a sample has no view, with what the log says in its place."""
    reason: Reason = "unparsable"
    if given is None:
        reason = "unparsable" if said else "empty"
        detail = f"no score; the sample failed: {one.error.message}" if one.error else "no score"
    elif isinstance(given.value, float) and math.isnan(given.value):
        detail = "unscored" + (f": {given.explanation}" if given.explanation else "")
    else:
        reason = "off_scale" if isinstance(given.value, int | float) and not isinstance(given.value, bool) else reason
        detail = f"neither a verdict nor a number of 0 to {scale:g}: {json.dumps(given.value, ensure_ascii=False)}"
    return View(reason=reason, detail=detail[:200]).model_dump()


def valid(record: type, fields: dict[str, Any], path: Path, number: int) -> Any:
    try:
        return record.model_validate(fields)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ValueError(f"{path}, sample {number}: {where}: {fault['msg']}, this is {fault['input']!r}"[:300]) from None
