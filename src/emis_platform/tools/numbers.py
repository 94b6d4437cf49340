"""Next-token probabilities: the alternatives at each place of an answer, and the exact probability of each integer 0 to 100."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from emis_platform.core.asks import Token
from emis_platform.tools import models

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 100


def told(model: Any, tokenizer: Any, prompt: Sequence[int], reply: Sequence[int], top: int) -> tuple[Token, ...]:
    """One Token for each token of the reply after the prompt, with its `top` likeliest alternatives, best first, at temperature 1."""
    import torch

    if not reply:
        return ()
    ids = torch.tensor([[*prompt, *reply]], device=model.device)
    with torch.inference_mode():
        hidden = models.decoder(model)(input_ids=ids, use_cache=False).last_hidden_state[0, len(prompt) - 1 : -1]
        logs = models.head(model, hidden).float().log_softmax(-1)
        best, which = logs.topk(min(top, logs.shape[-1]), dim=-1)
    found = []
    for place, token in enumerate(reply):
        others = zip(which[place].tolist(), best[place].tolist(), strict=True)
        alternatives = tuple((tokenizer.decode([other]), max(value, -9999.0)) for other, value in others)
        found.append(Token(text=tokenizer.decode([token]), logprob=max(float(logs[place, token]), -9999.0), top=alternatives))
    return tuple(found)


def probabilities(model: Any, tokenizer: Any, prompt: Sequence[int]) -> "Tensor":
    """P(the answer starts with the integer n and no further digit), n = 0 to 100: float64 [101] on the CPU.

    The integers' tokens form a tree (for a tokenizer that writes one digit a token: a root, 10 first digits, 90 second ones, a third).
    The whole tree is read in one pass behind the prompt: each node sees the prompt and its own ancestors.
    """
    import torch

    nodes, at = tree(tokenizer)
    start, size = len(prompt), len(prompt) + len(nodes)
    seen = torch.ones(size, size, dtype=torch.bool).tril()
    seen[start:, start:] = torch.eye(len(nodes), dtype=torch.bool)
    places = list(range(start))
    for number, (parent, _) in enumerate(nodes):
        if parent >= 0:
            seen[start + number, start:] |= seen[start + parent, start:]
        places.append(start if parent < 0 else places[start + parent] + 1)
    positions = torch.tensor([places], device=model.device)
    with torch.inference_mode():
        hidden = models.decoder(model)(
            input_ids=torch.tensor([[*prompt, *(token for _, token in nodes)]], device=model.device),
            attention_mask=models.masks(model, seen[None, None].to(model.device), positions, positions),
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state[0, start - 1 :]
        next_NV = models.head(model, hidden).float().softmax(-1).cpu()
    on_N = next_NV[:, digit_tokens(tokenizer)].double().sum(-1)
    reached = [1.0]  # by row of next_NV: the root, then the nodes
    for parent, token in nodes:
        reached.append(reached[parent + 1] * float(next_NV[parent + 1, token]))
    return torch.tensor([reached[node + 1] * max(0.0, 1 - float(on_N[node + 1])) for node in at], dtype=torch.float64)


def depth(tokenizer: Any) -> int:
    """Tokens of the longest integer."""
    return max(len(models.answer_ids(tokenizer, str(n))) for n in range(LARGEST + 1))


@lru_cache(maxsize=4)
def tree(tokenizer: Any) -> tuple[list[tuple[int, int]], list[int]]:
    """(nodes as (parent node or -1, token), parents first; the node at which each integer ends)."""
    nodes: dict[tuple[int, ...], int] = {}
    made: list[tuple[int, int]] = []
    at = []
    for n in range(LARGEST + 1):
        ids = tuple(models.answer_ids(tokenizer, str(n)))
        for length in range(1, len(ids) + 1):
            if ids[:length] not in nodes:
                made.append((nodes[ids[: length - 1]] if length > 1 else -1, ids[length - 1]))
                nodes[ids[:length]] = len(made) - 1
        at.append(nodes[ids])
    return made, at


@lru_cache(maxsize=4)
def digit_tokens(tokenizer: Any) -> list[int]:
    """Tokens that would go on with a number: those that start with a digit."""
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    return [token for token, name in enumerate(names) if name and name[0] in "0123456789"]
