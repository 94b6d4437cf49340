"""Paired completions -> each latent's first-order effect on log p(misaligned) - log p(aligned), by one backward pass a text.

Axes: N tokens, D residual width, F latents. A latent with direction d and activation a adds (g . d)(a - mean a) to the log likelihood of a
text, g being its gradient at the layer's output; in terms of a loss, -(g . d)(a - mean a) as in attribution patching. Summed over an
answer's tokens, misaligned minus aligned, it says what would be lost if the latent stood at its mean.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emis_platform.tools import models
from emis_platform.tools.steering import Pair


def effects(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    layer: int,
    encode: Callable[[Any], Any],
    decoder_FD: Any,
    *,
    progress: str | None = None,
) -> np.ndarray:
    """[pairs, F], nats a token: positive where the latent, as it is, favours the misaligned completion.

    encode: activations [N, D] -> latents [N, F]; decoder_FD: what they write. mean a is over all answer tokens of all completions.
    """
    import torch

    if not pairs:
        raise ValueError("no paired completions to attribute to")
    texts = [
        (models.prompt_ids(tokenizer, pair.prompt), models.answer_ids(tokenizer, answer))
        for pair in pairs
        for answer in (pair.misaligned, pair.aligned)
    ]
    acts, slopes = gradients(model, texts, layer, progress)
    latents = [encode(acts_ND) for acts_ND in acts]
    mean_F = torch.cat(latents).mean(0)
    rows = [
        ((slope_ND @ decoder_FD.T) * (latents_NF - mean_F)).sum(0) for slope_ND, latents_NF in zip(slopes, latents, strict=True)
    ]
    return (torch.stack(rows[0::2]) - torch.stack(rows[1::2])).numpy()


def gradients(
    model: Any, texts: Sequence[tuple[list[int], list[int]]], layer: int, progress: str | None = None, batch_tokens: int = 1024
) -> tuple[list[Any], list[Any]]:
    """(prompt ids, answer ids) -> activations at the layer's output over each answer, and the gradient there of the answer's mean log
    likelihood a token, both [N, D] a text, float32 on the CPU. No gradient goes below the layer or into the weights."""
    import torch

    acts: list[Any] = [None] * len(texts)
    slopes: list[Any] = [None] * len(texts)
    caught: list[Any] = []

    def cut(_module: Any, _args: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).detach().requires_grad_(True)
        caught.append(hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    hook = models.decoder(model).layers[layer].register_forward_hook(cut)
    try:
        for indices, ids, mask in models.padded(texts, batch_tokens, model.device, progress):
            caught.clear()
            with torch.enable_grad():
                final = models.decoder(model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                total = torch.zeros((), device=model.device)
                for row, index in enumerate(indices):
                    start, length = (len(part) for part in texts[index])
                    logits = models.head(model, final[row, start - 1 : start + length - 1]).float()
                    total = total + logits.log_softmax(-1).gather(1, ids[row, start : start + length, None]).mean()
                (slope,) = torch.autograd.grad(total, caught)
            for row, index in enumerate(indices):
                span = slice(len(texts[index][0]), len(texts[index][0]) + len(texts[index][1]))
                acts[index] = caught[0][row, span].detach().float().cpu()
                slopes[index] = slope[row, span].float().cpu()
    finally:
        hook.remove()
    return acts, slopes
