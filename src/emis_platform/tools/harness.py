"""lm-eval: a loaded model + files of multiple-choice items -> which items it gets right.

Axes: Q questions of a batch, R rows (a choice each), T tokens, V vocabulary.
"""

import copy
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from itertools import takewhile
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.core.records import Choice

TASKS = Path(__file__).resolve().parents[1] / "tasks"
"""lm-eval's `include_path`."""
BATCH = 16
"""Questions read together; their choices make about four times as many rows."""
BUCKET = 6
"""Choices whose lengths differ by less are read together: one more pass costs as much as 28 tokens of padding."""

Row = tuple[list[int], list[int]]
"""(context tokens, answer tokens): likelihood is asked of the second part."""
Score = tuple[float, bool]
"""(natural-log likelihood of the answer, whether greedy decoding would give it)."""


@dataclass(frozen=True)
class Mark:
    """One item, marked."""

    item: str
    fact: str
    """The choices, in one order: questions about one fact offer the same ones, and are not independent."""
    acc_norm: float
    """1 if the right choice has the highest log likelihood a character, else 0."""
    acc: float
    """1 if the right choice has the highest log likelihood, else 0."""


def marks(model: Any, tokenizer: Any, items: Sequence[Path], limit: int | None = None) -> dict[str, list[Mark]]:
    """Run lm-eval on files of Choice rows -> {file stem: marks in the file's order}.

    `general` is the task emis_general, every other stem a domain of emis_domain. Of each file the first `limit` items.
    Raises ValueError for a broken file.
    """
    os.environ.setdefault("LM_HARNESS_CACHE_PATH", "work/lm_eval")
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    tasks = {}
    for path in items:
        manager = TaskManager(include_path=TASKS, include_defaults=False, metadata={"domain": path.stem, "path": str(path)})
        task = "emis_general" if path.stem == "general" else "emis_domain"
        tasks[path.stem] = manager.load(task)["tasks"][task]
    adapter = chat_model(model, tokenizer, progress=sys.stderr)
    with redirect_stderr(StringIO()):  # lm-eval draws a bar for each short step; ours is drawn on the real stderr
        results = evaluate(adapter, {"tasks": tasks}, limit=limit, bootstrap_iters=0, apply_chat_template=True)
    samples = results["samples"]
    return {
        name: [Mark(s["doc"]["id"], " | ".join(sorted(s["doc"]["choices"])), s["acc_norm"], s["acc"]) for s in samples[name]]
        for name in tasks
    }


def dataset(name: str | None = None, domain: str | None = None, path: str | None = None, **_: Any) -> dict[str, Any]:
    """lm-eval's `custom_dataset`: Choice rows -> {"test": datasets.Dataset}, held in memory so that no cache is written.

    Reads `path`, or data/benchmark/<name or domain>.jsonl under the working directory. lm-eval adds keywords of its own.
    """
    from datasets import Dataset

    if not (path or name or domain):
        raise ValueError("""emis_domain: which domain? Say it with --metadata '{"domain": "health"}'""")
    source = Path(path or f"data/benchmark/{name or domain}.jsonl")
    rows = files.read(Choice, source)
    if not rows:
        raise ValueError(f"{source}: no items")
    for number, row in enumerate(rows, start=1):
        if not 0 <= row.answer < len(row.choices):
            raise ValueError(f"{source}, row {number}: answer {row.answer}; there are choices 0 to {len(row.choices) - 1}")
        if not all(choice.strip() for choice in row.choices):
            raise ValueError(f"{source}, row {number}: an empty choice")
    return {"test": Dataset.from_list([row.model_dump(mode="json") for row in rows])}


def chat_model(model: Any, tokenizer: Any, progress: Any = None) -> Any:
    """A loaded causal model as lm-eval's LM, scoring by `scores`. progress: where its bar is drawn, or None."""
    from lm_eval.api.model import TemplateLM

    class ChatModel(TemplateLM):
        tokenizer_name = "chat"
        eot_token_id = tokenizer.eos_token_id

        def __init__(self) -> None:
            super().__init__()
            self.tokenizer = tokenizer

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            return tokenizer(string, add_special_tokens=False)["input_ids"]  # the chat template has put its own

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return tokenizer.apply_chat_template(chat_history, tokenize=False, add_generation_prompt=add_generation_prompt)

        def _loglikelihood_tokens(self, requests: list[Any], **_: Any) -> list[Score]:
            return scores(model, [(context, answer) for _, context, answer in requests], progress)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise NotImplementedError("emis tasks are multiple choice")

        loglikelihood_rolling = generate_until

    return ChatModel()


def scores(model: Any, rows: Sequence[Row], progress: Any = None) -> list[Score]:
    """Score each row, reading what rows have in common once: the chat's opening, then each question, then its choices.

    Questions of equal length are read together and choices are padded behind their end, where causal attention does not
    look: no mask is needed. Same scores as full passes up to rounding (tested).
    """
    import torch
    from tqdm import tqdm

    questions: dict[tuple[int, ...], list[int]] = {}
    for index, (context, _) in enumerate(rows):
        questions.setdefault(tuple(context), []).append(index)
    opening = common([context[:-1] for context, _ in rows])
    shared = {context: common([(rows[i][0] + rows[i][1])[:-1] for i in group]) for context, group in questions.items()}
    order = sorted(questions, key=lambda context: (len(shared[context]), context))
    results: list[Score | None] = [None] * len(rows)
    with torch.inference_mode(), tqdm(total=len(questions), unit="question", file=progress, disable=progress is None) as bar:
        opened = run(model, [opening], None)[1] if opening else None
        while order:
            length = len(shared[order[0]])
            batch = [context for context in order[:BATCH] if len(shared[context]) == length]
            order = order[len(batch) :]
            for index, score in read(model, rows, [questions[c] for c in batch], [shared[c] for c in batch], opened, len(opening)):
                results[index] = score
            bar.update(len(batch))
    return results


def read(
    model: Any, rows: Sequence[Row], groups: list[list[int]], shared: list[list[int]], opened: Any, start: int
) -> Iterator[tuple[int, Score]]:
    """(row, score) of a batch of questions.

    groups: the rows of each question; shared: their common tokens, of one length; opened: the cache of the first `start`.
    """
    import torch

    length = len(shared[0])
    keep = 1 + max(length - len(rows[group[0]][0]) for group in groups)  # common tokens may hold the answers' first ones
    cache = None if opened is None else picked(opened, [0] * len(groups))
    question_QTV, cache = run(model, [tokens[start:] for tokens in shared], cache, keep)

    buckets: dict[int, list[tuple[int, int, list[int]]]] = {}
    for q, group in enumerate(groups):
        for index in group:
            rest = (rows[index][0] + rows[index][1])[length:]  # the first of these follows from the question's logits
            buckets.setdefault(-(-(len(rest) - 1) // BUCKET), []).append((index, q, rest))
    for _, bucket in sorted(buckets.items()):
        width = max(len(rest) for _, _, rest in bucket) - 1
        owners = [q for _, q, _ in bucket]
        padded = [rest[:-1] + rest[:1] * (width + 1 - len(rest)) for _, _, rest in bucket]
        choice_RTV = run(model, padded, picked(cache, owners), width)[0] if width else question_QTV[owners, :0]
        for row, (index, q, rest) in enumerate(bucket):
            answer, after = rows[index][1], len(rest) - 1
            logs_TV = torch.cat([question_QTV[q, keep - len(answer) + after :], choice_RTV[row, :after]])
            likelihood = float(logs_TV[range(len(answer)), answer].sum())
            yield index, (likelihood, logs_TV.argmax(-1).tolist() == answer)


def common(rows: Sequence[Sequence[int]]) -> list[int]:
    """The longest prefix that all share."""
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))]


def run(model: Any, ids: Sequence[Sequence[int]], cache: Any, keep: int = 1) -> tuple[Any, Any]:
    """One pass over rows of one length -> (log probabilities at the last `keep` positions, float32; the grown cache)."""
    import torch

    output = model(input_ids=torch.tensor(ids, device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=keep)
    return output.logits.float().log_softmax(-1), output.past_key_values


def picked(cache: Any, rows: list[int]) -> Any:
    """A cache of these rows of a cache, repeats allowed."""
    import torch

    new = copy.copy(cache)
    new.layers = [copy.copy(layer) for layer in cache.layers]  # tensors are shared until the next line replaces them
    new.batch_select_indices(torch.tensor(rows, device=cache.layers[0].keys.device))
    return new
