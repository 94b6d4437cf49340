"""Answers with the judges' views of them -> an Inspect AI eval log."""

import math
from collections.abc import Sequence

from emis_platform.core.records import Completion, Judgement
from emis_platform.lab import rates
from emis_platform.tools.inspect_logs import (
    CREATED,
    KEPT,
    MAKER,
    TASK,
    Choice,
    Dataset,
    Log,
    Message,
    Metric,
    Output,
    Results,
    Sample,
    Score,
    Scored,
    Spec,
    digest,
)


def made(answers: Sequence[Completion], judgements: Sequence[Judgement]) -> Log:
    """The log of one subject and one set: what it said, and all judges' views of it. Views of other answers are passed over.

    Raises ValueError for two answers to one question and sample, and for two views of one answer under one judge's name.
    """
    subject, name = answers[0].subject, answers[0].set
    asked = list(dict.fromkeys(row.question for row in answers))
    said = {(row.question, row.sample) for row in answers}
    if len(said) < len(answers):
        raise ValueError(f"{subject}, set {name}: {len(answers)} answers to {len(said)} questions and samples")
    views: dict[str, dict[tuple[str, int], Judgement]] = {}
    for view in judgements:
        if view.subject != subject or view.set != name or (view.question, view.sample) not in said:
            continue
        of_judge = views.setdefault(view.judge.partition(":")[0], {})
        if (view.question, view.sample) in of_judge:
            raise ValueError(f"{subject}, {view.question}, sample {view.sample}: two views by {view.judge.partition(':')[0]}")
        of_judge[view.question, view.sample] = view
    content = digest("\n".join(row.model_dump_json() for row in (*answers, *(v for rows in views.values() for v in rows.values()))))
    return Log(
        version=2,
        status="success",
        eval=Spec(
            eval_id=content,
            run_id=content,
            created=CREATED,
            task=TASK + name,
            task_id=digest(f"{subject}\n{name}"),
            dataset=Dataset(name=name, samples=len(asked), sample_ids=list(asked)),
            model=subject,
            config={"epochs": 1 + max(row.sample for row in answers)},
            metadata=MAKER,
        ),
        plan={"name": "emis_platform", "steps": [], "config": {}},
        stats={"started_at": CREATED, "completed_at": CREATED, "model_usage": {}, "role_usage": {}, "connection_limit_history": []},
        metadata=MAKER,
        results=Results(
            total_samples=len(answers),
            completed_samples=len(answers),
            scores=[scored(j, list(v.values())) for j, v in views.items()],
        ),
        samples=[
            sample(row, {j: score(row, v[row.question, row.sample]) for j, v in views.items() if (row.question, row.sample) in v})
            for row in answers
        ],
    )


def sample(row: Completion, scores: dict[str, Score]) -> Sample:
    key = digest(f"{row.subject}\n{row.question}\n{row.sample}")
    turns = [("system", row.system)] if row.system is not None else []
    turns += [("user", row.prompt), ("assistant", row.text)]
    messages = [Message(id=f"{key}-{n}", role=role, content=text) for n, (role, text) in enumerate(turns)]  # Inspect caches by id
    return Sample(
        id=row.question,
        epoch=row.sample + 1,
        input=messages[:-1],
        messages=messages,
        output=Output(
            model=row.subject,
            choices=[Choice(message=messages[-1], stop_reason="stop" if row.finish_reason == "stop" else "max_tokens")],
            completion=row.text,
        ),
        scores=scores,
        metadata={"set": row.set, "seed": row.seed, "tokens": row.tokens},
        uuid=key,
    )


def score(row: Completion, view: Judgement) -> Score:
    """The score of 0 to 100, else the verdict as C (not misaligned) or I (misaligned), else NaN."""
    value = view.score if view.score is not None else math.nan if view.verdict is None else "I" if view.verdict else "C"
    words = [f"category {view.category}"] if view.category else []
    words += [f"missing: {view.reason}" + (f" ({view.detail})" if view.detail else "")] if view.reason else []
    return Score(
        value=value,
        answer=row.text,
        explanation="; ".join(words) or None,
        metadata={"judge": view.judge, **view.model_dump(include=set(KEPT), exclude_defaults=True)},
    )


def scored(judge: str, views: Sequence[Judgement]) -> Scored:
    """The judge's rate of misaligned answers with its interval, `n` and `missing` (lab/rates.py); NaN where no answer gives one."""
    rate = rates.mean(views[0].subject, "misaligned", [(view.misaligned, view.question) for view in views])
    unscored = sum(view.score is None and view.verdict is None for view in views)
    value = math.nan if rate.value is None else rate.value
    return Scored(
        name=judge,
        scorer=judge,
        scored_samples=len(views) - unscored,
        unscored_samples=unscored,
        metrics={
            "misaligned": Metric(name="misaligned", value=value, metadata={"low": rate.low, "high": rate.high}),
            "n": Metric(name="n", value=rate.n),
            "missing": Metric(name="missing", value=rate.missing),
        },
        metadata={"judge": views[0].judge},
    )
