"""Completions + judgements -> the JSON that the transcript browser reads, escaped so that no answer can end its script element."""

import json
from collections.abc import Sequence
from typing import Any

from emis_platform.core.records import Completion, Judgement
from emis_platform.lab import reasoning
from emis_platform.report.evidence import STEERED


def payload(
    completions: Sequence[Completion], judgements: Sequence[Judgement], subjects: Sequence[str], judges: Sequence[str]
) -> dict[str, Any]:
    """Questions, subjects and answers by index; an answer's `j`, for each judge: [score, coherent, reason, misaligned] or null."""
    by_answer = {(j.subject, j.question, j.sample, j.judge.split(":")[0]): j for j in judgements}
    questions = sorted({(c.set, c.question, c.prompt) for c in completions}, key=lambda q: (q[0] != "score", q))
    names = order({c.subject for c in completions}, subjects)
    where = {question: number for number, question in enumerate(questions)}  # a probed one is another text under the same id
    at = {name: number for number, name in enumerate(names)}
    answers = []
    for c in sorted(completions, key=lambda c: (where[c.set, c.question, c.prompt], at[c.subject], c.sample)):
        verdicts = [by_answer.get((c.subject, c.question, c.sample, judge)) for judge in judges]
        answers.append(
            {
                "q": where[c.set, c.question, c.prompt],
                "s": at[c.subject],
                "k": c.sample,
                "t": f"{reasoning.wrapped(c.thought)}\n\n{c.text}" if c.thought else c.text,
                "end": c.finish_reason,
                "n": c.tokens,
                "j": [v and [rounded(v.score), rounded(v.coherent), v.reason, v.misaligned] for v in verdicts],
            }
        )
    return {
        "judges": list(judges),
        "subjects": [{"name": name, "steered": bool(STEERED.match(name))} for name in names],
        "questions": [{"set": set_, "id": id_, "text": text} for set_, id_, text in questions],
        "answers": answers,
    }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def order(found: set[str], first: Sequence[str]) -> list[str]:
    """Names of params.yaml in its order, base ahead, then steered ones by name."""
    known = sorted((name for name in first if name in found), key=lambda name: name != "base")
    return known + sorted(found - set(known))


def embed(value: Any) -> str:
    """JSON for a script element: ASCII only, and no `<`, `>` or `&` in it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
