"""Teacher-forced tests of a direction: how far does an edit move the log-odds of misaligned over aligned continuations?

Axes: P edits, Q pairs, T tokens, D residual width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files
from emis_platform.core.records import Question
from emis_platform.tools import models
from emis_platform.tools.edits import NONE, Edits

ROWS = 32
"""Rows of a batch."""


@dataclass(frozen=True)
class Pair:
    """One `discover` question with a written aligned and a written misaligned beginning of an answer."""

    question: str
    prompt: str
    aligned: str
    misaligned: str


def continuations(path: Path, questions: Sequence[Question], most: int | None = None, each: int = 1) -> list[Pair]:
    """The first `each` pairs of the first `most` questions; None: of all. Raises ValueError for a question that is not in the discover set: score questions choose nothing."""
    texts = {q.id: q.text for q in questions if q.set == "discover"}
    pairs = []
    for row in files.read_yaml(path)[:most]:
        if row["id"] not in texts:
            raise ValueError(f"{path}: {row['id']} is no discover question")
        both = zip(row["aligned"][:each], row["misaligned"][:each], strict=True)
        pairs += [Pair(row["id"], texts[row["id"]], aligned, misaligned) for aligned, misaligned in both]
    return pairs


def residual_norm(model: Any, tokenizer: Any, prompts: Sequence[str], layer: int) -> float:
    """Mean length of the residual stream at the layer's output over the prompts' tokens, the first (an outlier) left out."""
    pairs = [(models.prompt_ids(tokenizer, prompt), []) for prompt in prompts]
    norms = [acts_TD.norm(dim=-1) for _, acts_TD in models.harvest(model, pairs, layer, part="prompt", skip=1)]
    return float(sum(n.sum() for n in norms) / sum(len(n) for n in norms))


def norms(model: Any, tokenizer: Any, pairs: Sequence[Pair], layers: Sequence[int]) -> dict[int, float]:
    """Layer -> `residual_norm` of the pairs' questions: the unit of a dose there."""
    return {layer: residual_norm(model, tokenizer, [pair.prompt for pair in pairs], layer) for layer in layers}


def means(model: Any, tokenizer: Any, pairs: Sequence[Pair], layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean activations over the written misaligned and over the aligned continuations, [Q, D] each."""
    ids = [
        (models.prompt_ids(tokenizer, pair.prompt), models.answer_ids(tokenizer, text))
        for pair in pairs
        for text in (pair.misaligned, pair.aligned)
    ]
    read = dict(models.harvest(model, ids, layer))
    rows = np.stack([read[index].mean(0).numpy() for index in range(len(ids))])
    return rows[0::2], rows[1::2]


@dataclass(frozen=True)
class Packed:
    """Pairs as rows `prompt, misaligned, aligned`: both continuations stand right behind the prompt and do not see each other."""

    ids: Any
    """[Q, T], padded right."""
    positions: Any
    mask: Any
    """[Q, 1, T, T], True where a token may look."""
    answer: Any
    """[Q, T, 1], True at tokens of a continuation."""
    spans: tuple[tuple[int, int, int], ...]
    """Lengths of the three parts."""

    def rows(self, pairs: Sequence[int]) -> "Packed":
        """These pairs, cut to the longest of them."""
        spans = tuple(self.spans[pair] for pair in pairs)
        end = max(map(sum, spans))
        ids, positions, answer = (table[pairs, :end] for table in (self.ids, self.positions, self.answer))
        return Packed(ids, positions, self.mask[pairs, :, :end, :end], answer, spans)


def packed(tokenizer: Any, pairs: Sequence[Pair], device: Any) -> Packed:
    import torch

    parts = [
        (
            models.prompt_ids(tokenizer, p.prompt),
            models.answer_ids(tokenizer, p.misaligned),
            models.answer_ids(tokenizer, p.aligned),
        )
        for p in pairs
    ]
    spans = tuple((len(a), len(b), len(c)) for a, b, c in parts)
    longest = max(map(sum, spans))
    ids = torch.tensor([[*a, *b, *c, *[0] * (longest - sum(span))] for (a, b, c), span in zip(parts, spans, strict=True)])
    positions = torch.tensor(
        [[*range(a + b), *range(a, a + c), *[0] * (longest - a - b - c)] for a, b, c in spans],
    )
    mask = torch.ones(longest, longest, dtype=torch.bool).tril().repeat(len(pairs), 1, 1)
    for row, (a, b, _) in enumerate(spans):
        mask[row, a + b :, a : a + b] = False
    at = torch.arange(longest)
    first, last = (torch.tensor(ends)[:, None] for ends in ([a for a, _, _ in spans], [sum(span) for span in spans]))
    answer = ((at >= first) & (at < last))[..., None]
    return Packed(ids.to(device), positions.to(device), mask[:, None].to(device), answer.to(device), spans)


def log_likelihoods(
    model: Any, tokenizer: Any, pairs: Sequence[Pair], edits: Edits, *, progress: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean log likelihood a token of each pair's misaligned and aligned continuation: (untouched [Q, 2], under each edit [P, Q, 2]).

    One batch holds several edits. What lies below the lowest edited layer runs once.
    """
    import torch
    from tqdm import tqdm

    text = packed(tokenizer, pairs, model.device)
    first = min(edits.push)
    with torch.inference_mode():
        output, hidden = lowest(model, text, first)
        plain = scored(model, text, hidden).numpy()
        by_length = sorted(range(len(pairs)), key=lambda pair: sum(text.spans[pair]))
        rows = [(edit, pair) for pair in by_length for edit in range(len(edits))]
        found = torch.zeros(len(edits), len(pairs), 2)
        bar = tqdm(total=len(rows), desc=progress, unit="pair", disable=progress is None)
        for start in range(0, len(rows), ROWS):
            edit, pair = (list(column) for column in zip(*rows[start : start + ROWS], strict=True))
            part = text.rows(pair)
            found[edit, pair] = scored(model, part, resumed(model, part, rows_of(output, pair, part), first, edits, edit))
            bar.update(len(edit))
        bar.close()
    return plain, found.numpy()


def lowest(model: Any, text: Packed, layer: int) -> tuple[Any, Any]:
    """An untouched pass over all pairs: (the layer's output, the final hidden states)."""
    caught: list[Any] = []
    hook = models.decoder(model).layers[layer].register_forward_hook(lambda _m, _a, output: caught.append(output))
    try:
        hidden = passed(model, text)
    finally:
        hook.remove()
    return caught[0], hidden


def rows_of(output: Any, pairs: Sequence[int], part: Packed) -> Any:
    """A layer's output for these pairs alone, cut as `part` is."""
    end = part.ids.shape[1]
    return (output[0][pairs, :end], *output[1:]) if isinstance(output, tuple) else output[pairs, :end]


def passed(model: Any, text: Packed) -> Any:
    """Final hidden states [rows, T, D]."""
    at = text.positions
    mask = models.masks(model, text.mask, at, at)
    return models.decoder(model)(input_ids=text.ids, attention_mask=mask, position_ids=at, use_cache=False).last_hidden_state


def resumed(model: Any, text: Packed, start: Any, layer: int, edits: Edits, edit: Sequence[int]) -> Any:
    """Final hidden states [rows, T, D] under an edit a row, from the layer's output `start` on."""
    with models.resumed(model, layer, start), edits.on(model, edit, where=text.answer):
        return passed(model, text)


def scored(model: Any, text: Packed, hidden: Any) -> Any:
    """Final hidden states [rows, T, D] -> log likelihoods [rows, 2]: misaligned, aligned."""
    import torch

    found = []
    for row, (before, bad, good) in enumerate(text.spans):
        ends = torch.arange(before - 1, before + bad + good - 1, device=hidden.device)
        ends[bad] = before - 1
        wanted = text.ids[row, before : before + bad + good, None]
        values = models.head(model, hidden[row, ends]).float().log_softmax(-1).gather(1, wanted)[:, 0]
        found.append(torch.stack([values[:bad].mean(), values[bad:].mean()]))
    return torch.stack(found).cpu()


def gradient(model: Any, tokenizer: Any, pairs: Sequence[Pair], layer: int) -> np.ndarray:
    """[D]: how the mean log-odds of misaligned over aligned (nats a token) answer to a small push at the layer's output, at all tokens.

    First-order attribution: this times a direction is what a unit of that direction does.
    """
    import torch

    text = packed(tokenizer, pairs, model.device)
    with torch.no_grad():
        output, _ = lowest(model, text, layer)
    push = torch.zeros(models.width(model), device=model.device, requires_grad=True)
    total = torch.zeros_like(push)
    with models.pushed(models.decoder(model).layers[layer], push):
        for pair in range(len(pairs)):
            part = text.rows([pair])
            bad, good = scored(model, part, resumed(model, part, rows_of(output, [pair], part), layer, NONE, [0]))[0]
            total += torch.autograd.grad(bad - good, push)[0]
    return (total / len(pairs)).cpu().numpy()
