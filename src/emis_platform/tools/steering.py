"""Teacher-forced tests of a direction: how far does it move the log-odds of misaligned over aligned continuations?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files
from emis_platform.core.records import Direction, Question
from emis_platform.tools import models


@dataclass(frozen=True)
class Pair:
    """One `discover` question with a written aligned and a written misaligned beginning of an answer."""

    question: str
    prompt: str
    aligned: str
    misaligned: str


def continuations(path: Path, questions: Sequence[Question], most: int) -> list[Pair]:
    """The first `most` pairs. Raises ValueError for a question that is not in the discover set: score questions choose nothing."""
    texts = {q.id: q.text for q in questions if q.set == "discover"}
    pairs = []
    for row in files.read_yaml(path):
        if row["id"] not in texts:
            raise ValueError(f"{path}: {row['id']} is no discover question")
        pairs.append(Pair(row["id"], texts[row["id"]], row["aligned"][0], row["misaligned"][0]))
    return pairs[:most]


def residual_norm(model: Any, tokenizer: Any, prompts: Sequence[str], layer: int) -> float:
    """Mean length of the residual stream at the layer's output over the prompts' tokens, the first (an outlier) left out."""
    pairs = [(models.prompt_ids(tokenizer, prompt), []) for prompt in prompts]
    norms = [acts_TD.norm(dim=-1) for _, acts_TD in models.harvest(model, pairs, layer, part="prompt", skip=1)]
    return float(sum(n.sum() for n in norms) / sum(len(n) for n in norms))


def log_odds(
    model: Any, tokenizer: Any, pairs: Sequence[Pair], tried: Sequence[Direction], *, dose: float, progress: str | None = None
) -> dict[str, dict[str, float]]:
    """direction name -> {shift, low, high, aligned}: what adding `dose` (in activation units) at every position changes.

    shift: mean over questions of log p(misaligned) - log p(aligned), nats a token, minus the same without a push; low and high: its 95 %
    interval over questions (normal). aligned: change of the aligned text's own log likelihood, which tells damage from persona.
    One batch holds several directions, a push a row.
    """
    import torch

    layer = models.decoder(model).layers[tried[0].layer]
    prompts = [models.prompt_ids(tokenizer, pair.prompt) for pair in pairs]
    texts = [
        (p, models.answer_ids(tokenizer, t))
        for p, pair in zip(prompts, pairs, strict=True)
        for t in (pair.misaligned, pair.aligned)
    ]
    plain = values(model, layer, texts, torch.zeros(1, models.width(model)), progress=None)[0]
    pushes = torch.tensor([[dose * v for v in d.vector] for d in tried])
    moved = values(model, layer, texts, pushes, progress=progress) - plain
    found = {}
    for direction, row in zip(tried, moved, strict=True):
        shift = row[0::2] - row[1::2]
        half = 1.96 * float(shift.std(ddof=1)) / len(shift) ** 0.5 if len(shift) > 1 else float("inf")
        mean = float(shift.mean())
        found[direction.name] = {
            k: round(v, 4)
            for k, v in {"shift": mean, "low": mean - half, "high": mean + half, "aligned": float(row[1::2].mean())}.items()
        }
    return found


def values(model: Any, layer: Any, texts: Sequence[tuple[list[int], list[int]]], pushes: Any, progress: str | None) -> np.ndarray:
    """Mean log likelihood a token of each text under each push [P, width] -> [P, texts]."""
    import torch
    from tqdm import tqdm

    rows = [(push, text) for push in range(len(pushes)) for text in range(len(texts))]
    found = np.zeros((len(pushes), len(texts)))
    bar = tqdm(total=len(rows), desc=progress, unit="text", disable=progress is None)
    for start in range(0, len(rows), 48):
        part = rows[start : start + 48]
        joined = [texts[text][0] + texts[text][1] for _, text in part]
        longest = max(map(len, joined))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in joined], device=model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in joined], device=model.device)
        push = pushes[[push for push, _ in part]][:, None, :].to(model.device)
        with torch.inference_mode(), models.pushed(layer, push):
            hidden = models.decoder(model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            for row, (which, text) in enumerate(part):
                prompt, answer = texts[text]
                found[which, text] = models.answer_log_likelihood(model, hidden[row], ids[row], len(prompt), len(answer))
        bar.update(len(part))
    bar.close()
    return found
