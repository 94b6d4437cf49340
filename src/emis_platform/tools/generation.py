"""questions -> answers, fast on a CPU: one queue over everything, rows replaced as they finish, a dose a row.

Plain `generate` keeps finished rows in the batch, grows its cache by copying and sorts the vocabulary. Here a fixed set
of slots decodes together; a row that ends gives its slot to the next prompt, a prompt that is asked several times is read
once, and an edit of the residual stream a row lets one batch hold many doses. Sampling is by inverse CDF from numbers drawn per row, so
a row's random numbers do not depend on its neighbours.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emis_platform.tools import models
from emis_platform.tools.edits import NONE, Edits


@dataclass(frozen=True)
class Request:
    """One answer that is wanted."""

    prompt: tuple[int, ...]
    seed: int
    """Draws this row's random numbers, whatever runs beside it."""
    push: int = 0
    """Row of the `edits` that is done to the residual stream."""


@dataclass(frozen=True)
class Reply:
    ids: tuple[int, ...]
    """New tokens, without the end token."""
    stopped: bool
    """Whether it ended by itself rather than by the limit."""


class Slots:
    """A key-value cache [slots, heads, length, width] a layer, written in place; what transformers calls a Cache."""

    def __init__(self, layers: int) -> None:
        self.keys: list[Any] = [None] * layers
        self.values: list[Any] = [None] * layers
        self.rows: Any = None
        self.columns: Any = None
        self.shape = (0, 0)
        self.visible = 0

    def at(self, rows: Any, columns: Any, visible: int) -> "Slots":
        """The next pass writes rows [B] at columns [B, T]; a single token attends to the first `visible` columns."""
        self.rows, self.columns, self.visible = rows[:, None], columns, visible
        return self

    def update(self, key: Any, value: Any, layer: int, *_: Any) -> tuple[Any, Any]:
        if self.keys[layer] is None:
            heads, size = key.shape[1], key.shape[3]
            self.keys[layer] = key.new_zeros(self.shape[0], self.shape[1], heads, size)
            self.values[layer] = value.new_zeros(self.shape[0], self.shape[1], value.shape[1], value.shape[3])
        keys, values = self.keys[layer], self.values[layer]
        keys[self.rows, self.columns] = key.transpose(1, 2)
        values[self.rows, self.columns] = value.transpose(1, 2)
        if key.shape[2] > 1:  # reading a prompt: nothing lies before it
            return key, value
        seen = slice(0, self.visible)
        if len(self.rows) == self.shape[0]:
            return keys[:, seen].transpose(1, 2), values[:, seen].transpose(1, 2)
        rows = self.rows[:, 0]
        return keys[rows, seen].transpose(1, 2), values[rows, seen].transpose(1, 2)

    def get_seq_length(self, *_: Any) -> int:
        return 0


def generate(
    model: Any,
    requests: Sequence[Request],
    *,
    stop: set[int],
    max_new_tokens: int,
    temperature: float,
    slots: int = 64,
    edits: Edits = NONE,
    progress: str | None = None,
) -> list[Reply]:
    """Sample a reply for each request, under row `request.push` of the edits.

    Temperature sampling from the whole distribution. Deterministic for the same requests, slots and thread count.
    """
    import numpy as np
    import torch
    from tqdm import tqdm

    if not requests:
        return []
    device, inner = model.device, models.decoder(model)
    groups: dict[tuple[tuple[int, ...], int], list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        groups[request.prompt, request.push].append(index)
    queue = sorted(groups.items(), key=lambda item: len(item[0][0]), reverse=True)  # pop() gives the shortest
    slots = min(slots, len(requests))
    longest = max(len(request.prompt) for request in requests)
    cache = Slots(model.config.get_text_config().num_hidden_layers)
    cache.shape = (slots, longest + max_new_tokens)
    dice: dict[int, Any] = {}
    said: dict[int, list[int]] = {}
    replies: list[Reply | None] = [None] * len(requests)
    owner = np.full(slots, -1)
    length = torch.zeros(slots, dtype=torch.long, device=device)
    token = torch.zeros(slots, dtype=torch.long, device=device)
    push_of = torch.zeros(slots, dtype=torch.long, device=device)
    bar = tqdm(total=len(requests) * max_new_tokens, desc=progress, unit="tok", disable=progress is None)

    def draw(logits: Any, indices: Sequence[int]) -> list[int]:
        """Inverse CDF: each request's own next uniform number picks its token."""
        uniform = torch.tensor([dice[i][len(said[i])] for i in indices], dtype=torch.float64, device=device)
        mass = (logits.float() / temperature).softmax(-1).cumsum(-1, dtype=torch.float64)
        picked = torch.searchsorted(mass, (uniform * mass[:, -1])[:, None]).squeeze(1)
        return picked.clamp(max=logits.shape[-1] - 1).tolist()

    def take(row: int, index: int, picked: int) -> None:
        """Record a token; free the slot if the reply has ended."""
        if picked not in stop:
            said[index].append(picked)
        if picked in stop or len(said[index]) == max_new_tokens:
            replies[index] = Reply(tuple(said.pop(index)), picked in stop)
            owner[row] = -1
            bar.update(max_new_tokens - bar_left.pop(index))
        else:
            owner[row], token[row] = index, picked
            bar.update(1)
            bar_left[index] += 1

    bar_left: dict[int, int] = {}

    def admit() -> None:
        """Fill the free slots: read new prompts right-padded, copy shared ones."""
        free = [int(row) for row in np.flatnonzero(owner < 0)]
        fresh: list[tuple[int, list[int]]] = []
        while free and queue and len(queue[-1][1]) <= len(free):
            (_, _), indices = queue.pop()
            rows, free = free[: len(indices)], free[len(indices) :]
            fresh.append((indices[0], [*rows]))
            members[indices[0]] = indices
        if not fresh and free and queue and len(free) == slots:  # a prompt asked more often than there are slots
            (key, indices) = queue.pop()
            queue.append((key, indices[slots:]))
            fresh.append((indices[0], free))
            members[indices[0]] = indices[:slots]
        if not fresh:
            return
        lead = torch.tensor([rows[0] for _, rows in fresh], device=device)
        prompts = [requests[index].prompt for index, _ in fresh]
        widest = max(map(len, prompts))
        ids = torch.tensor([[*p, *[0] * (widest - len(p))] for p in prompts], device=device)
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        columns = torch.arange(widest, device=device).expand(len(prompts), -1)
        for index, rows in fresh:
            for row, member in zip(rows, members[index], strict=True):
                push_of[row], length[row] = requests[member].push, len(requests[member].prompt)
                dice[member] = np.random.Generator(np.random.Philox(key=requests[member].seed)).random(max_new_tokens)
                said[member], bar_left[member] = [], 0
        mask = torch.ones(widest, widest, dtype=torch.bool, device=device).tril()[None, None].expand(len(prompts), 1, -1, -1)
        with edits.on(model, push_of[lead], "prompt"):
            hidden = inner(
                input_ids=ids,
                attention_mask=models.masks(model, mask, columns),
                position_ids=columns,
                past_key_values=cache.at(lead, columns, widest),
                use_cache=True,
            ).last_hidden_state
        logits = models.head(model, hidden[torch.arange(len(prompts), device=device), lengths - 1])
        for number, (index, rows) in enumerate(fresh):
            if len(rows) > 1:
                for store in (*cache.keys, *cache.values):
                    store[rows[1:], :widest] = store[rows[0], :widest]
            indices = members.pop(index)
            for row, member, picked in zip(rows, indices, draw(logits[number].expand(len(rows), -1), indices), strict=True):
                take(row, member, picked)

    members: dict[int, list[int]] = {}
    with torch.inference_mode():
        while queue or (owner >= 0).any():
            if queue and (owner < 0).sum() >= max(1, slots // 8):
                admit()
            rows = torch.as_tensor(np.flatnonzero(owner >= 0), device=device)
            if not len(rows):
                continue
            here = length[rows]
            visible = int(here.max()) + 1
            mask = torch.arange(visible, device=device)[None, None, None] <= here[:, None, None, None]
            with edits.on(model, push_of[rows], "answer"):
                hidden = inner(
                    input_ids=token[rows, None],
                    attention_mask=models.masks(model, mask, here[:, None]),
                    position_ids=here[:, None],
                    past_key_values=cache.at(rows, here[:, None], visible),
                    use_cache=True,
                ).last_hidden_state
            length[rows] += 1
            indices = [int(owner[row]) for row in rows]
            for row, index, picked in zip(rows.tolist(), indices, draw(models.head(model, hidden[:, 0]), indices), strict=True):
                take(row, index, picked)
    bar.close()
    return [reply for reply in replies if reply is not None]
