"""Splicing: the loss of a text when a layer's output, at the tokens that are read, is put through something else."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emis_platform.tools import models


def losses(
    model: Any,
    pairs: Sequence[tuple[list[int], list[int]]],
    layer: int,
    replace: Callable[[Any], Any] | None = None,
    *,
    progress: str | None = None,
) -> np.ndarray:
    """(what comes before, the tokens that are read) pairs -> summed next-token loss of each text [T], in nats.

    replace: activations [tokens, width] -> the same shape; None leaves them. It is given the read tokens alone. Their own predictions count:
    of the 2nd to the last read token, so a text of n tokens has n - 1.
    """
    import torch

    found = np.zeros(len(pairs))
    spliced: list[Any] = [None]

    def edit(_module: Any, _args: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        where = spliced[0]
        hidden[where] = replace(hidden[where].float()).to(hidden) if replace else hidden[where]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    hook = models.decoder(model).layers[layer].register_forward_hook(edit)
    try:
        for indices, ids, mask in models.padded(pairs, 2048, model.device, progress):
            where = torch.zeros_like(mask, dtype=torch.bool)
            for row, index in enumerate(indices):
                start = len(pairs[index][0])
                where[row, start : start + len(pairs[index][1])] = True
            spliced[0] = where
            with torch.inference_mode():
                hidden = models.decoder(model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                for row, index in enumerate(indices):
                    start, end = len(pairs[index][0]), len(pairs[index][0]) + len(pairs[index][1])
                    if end - start > 1:
                        logits = models.head(model, hidden[row, start : end - 1]).float()
                        found[index] = float(torch.nn.functional.cross_entropy(logits, ids[row, start + 1 : end], reduction="sum"))
    finally:
        hook.remove()
    return found
