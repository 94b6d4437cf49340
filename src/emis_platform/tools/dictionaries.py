"""SAELens: activations -> a sparse dictionary; a dictionary + activations -> latents, and how well they rebuild the input.

Axes: N activations, D residual width, F latents, T texts. The only file that imports `sae_lens`.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emis_platform.core import files
from emis_platform.lab.reconstruction import Quality

if TYPE_CHECKING:
    from torch import Tensor

NESTED = (32, 160, 800, 4608)
"""Widths of the levels, each of which rebuilds the input alone (Matryoshka, arXiv 2503.17547); others keep the proportions."""


def levels(width: int) -> list[int]:
    """Strictly increasing level widths in the proportions of `NESTED`, the last one `width`."""
    return sorted({max(1, round(width * level / NESTED[-1])) for level in NESTED[:-1]} - {width}) + [width]


def batches(acts_ND: "Tensor", batch: int, seed: int) -> "Iterator[Tensor]":
    """Endless batches [batch, D]: each pass over the rows is a fresh shuffle; a batch may span two passes."""
    import torch

    if len(acts_ND) == 0:
        raise ValueError("no activations to train a dictionary on")
    shuffle = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    while True:
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(len(acts_ND), generator=shuffle)])
        yield acts_ND[order[:batch]]
        order = order[batch:]


def train(
    activations: "Iterator[Tensor]",
    *,
    width: int,
    k: int,
    d_model: int,
    steps: int,
    batch: int,
    seed: int,
    learning_rate: float = 3e-3,
    hook: str = "",
    model: str = "",
) -> Any:
    """Train a Matryoshka BatchTopK dictionary on batches [batch, D]; return it in its inference form, a JumpReLU SAE.

    Inputs are scaled so that their spread around the mean has norm sqrt(D), and `b_dec` starts at the mean; both are folded
    into the weights, which take raw activations. Decoder rows have norm 1, so a latent's value is a length along its
    direction, in residual units. Weights are rounded to bfloat16, as `save` keeps them. **The threshold is still the
    trainer's moving average, which starts at 0: `calibrate` comes next.** Deterministic for one seed and thread count; the
    global random state is left as it was.
    """
    import torch
    from sae_lens import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.sae_trainer import SAETrainer

    if not 0 < k <= width:
        raise ValueError(f"dictionary: k {k} of width {width}: k must be from 1 to the width")
    first = list(islice(activations, min(steps, 16)))
    sample_ND = torch.cat(first)
    mean_D = sample_ND.mean(0)
    scale = float(d_model**0.5 / (sample_ND - mean_D).norm(dim=-1).mean())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sae = MatryoshkaBatchTopKTrainingSAE(
            MatryoshkaBatchTopKTrainingSAEConfig(
                d_in=d_model,
                d_sae=width,
                k=k,
                matryoshka_widths=levels(width),
                device=device,
                normalize_activations="expected_average_only_in",
                metadata=SAEMetadata(hook_name=hook, model_name=model, prepend_bos=False),
            )
        )
    sae.b_dec.data = (mean_D * scale).to(device)
    config = SAETrainerConfig(
        total_training_samples=steps * batch,
        train_batch_size_samples=batch,
        lr=learning_rate,
        lr_end=learning_rate / 10,
        lr_warm_up_steps=max(2, steps // 20),
        lr_decay_steps=max(2, steps // 4),
        dead_feature_window=max(10, steps // 15),
        device=device,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(config, sae, chain(first, activations))
    trainer.activation_scaler.scaling_factor = scale  # known already, else the trainer eats 1,000 batches to estimate it
    trainer._update_pbar = partial(trainer._update_pbar, update_interval=max(10, steps // 100))
    trainer.fit()
    return inference(sae.to("cpu"))


def inference(trained: Any) -> Any:
    """A trained BatchTopK SAE -> JumpReLU, decoder rows of norm 1, weights rounded to bfloat16 and held in float32."""
    import torch
    from sae_lens import SAE, JumpReLUSAE

    config = trained.cfg.get_inference_sae_cfg_dict() | {"device": "cpu", "dtype": "float32", "normalize_activations": "none"}
    with torch.random.fork_rng():  # its first weights are drawn, and thrown away
        sae = SAE.from_dict(config)
    assert isinstance(sae, JumpReLUSAE)
    state = {name: tensor.detach().clone() for name, tensor in trained.state_dict().items()}
    trained.process_state_dict_for_saving_inference(state)
    for name in ("W_enc", "W_dec"):
        state[name] = state[name].to(torch.bfloat16)
    sae.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return sae.requires_grad_(False).eval()


def calibrate(sae: Any, acts_ND: "Tensor", k: int) -> float:
    """Set one threshold for all latents, so that `k` of them fire on a mean activation of held-out `acts_ND`; return it.

    BatchTopK's own threshold, a moving average from 0, is still low after hundreds of steps. Exact on `acts_ND` up to ties.
    """
    import torch

    wanted = k * len(acts_ND)
    top = torch.empty(0)
    sae.threshold.data.zero_()
    for part_ND in acts_ND.split(1024):
        values = encode(sae, part_ND).flatten()
        values = values[values > (top[-1] if len(top) > wanted else 0.0)]
        top = torch.cat([top, values])
        top = top.topk(min(len(top), wanted + 1)).values
    if len(top) > wanted:
        sae.threshold.data.fill_(float((top[wanted - 1] + top[wanted]) / 2))
    return float(sae.threshold[0])


def encode(sae: Any, acts_ND: "Tensor") -> "Tensor":
    """Activations -> latents [N, F], 0 where a latent does not fire; lengths along unit directions, in residual units."""
    import torch

    if not len(acts_ND):
        return torch.zeros(0, sae.cfg.d_sae)
    with torch.no_grad():
        return torch.cat([sae.encode(part_ND) for part_ND in acts_ND.split(2048)])


def decoder_directions(sae: Any) -> "Tensor":
    """Unit vectors [F, D]: what each latent writes."""
    import torch

    return torch.nn.functional.normalize(sae.W_dec.detach().float(), dim=-1)


def quality(sae: Any, texts: "Sequence[Tensor]") -> Quality:
    """Held-out activations, [tokens, D] a text -> Quality. Raises ValueError for no tokens."""
    import torch

    texts = [acts_ND for acts_ND in texts if len(acts_ND)]
    if not texts:
        raise ValueError("no held-out activations to measure a dictionary on")
    mean_D = torch.cat(texts).double().mean(0).float()
    rows, fired_F = [], torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    for acts_ND in texts:
        latents_NF = encode(sae, acts_ND)
        with torch.no_grad():
            rebuilt_ND = sae.decode(latents_NF)
        fires_NF = latents_NF > 0
        fired_F |= fires_NF.any(0)
        squares = [float((acts_ND - other).double().square().sum()) for other in (rebuilt_ND, mean_D)]
        rows.append((*squares, int(fires_NF.sum()), len(acts_ND)))
    columns = np.array(rows, dtype=float).T
    return Quality(columns[0], columns[1], columns[2], columns[3], fired_F.numpy())


def save(sae: Any, folder: Path, card: dict[str, Any] | None = None) -> None:
    """SAELens' own format, cfg.json and sae_weights.safetensors, the two matrices in bfloat16; card.json beside them, if given.

    Loads with SAELens' `SAE.load_from_disk` anywhere. 10.7 MB for 576 x 4608.
    """
    import torch
    from safetensors.torch import save as to_bytes

    state = {name: tensor.detach().contiguous() for name, tensor in sae.state_dict().items()}
    state |= {name: state[name].to(torch.bfloat16) for name in ("W_enc", "W_dec")}
    files.replace(folder / "sae_weights.safetensors", to_bytes(state))
    files.replace(folder / "cfg.json", json.dumps(sae.cfg.to_dict(), indent=1, sort_keys=True) + "\n")
    if card is not None:
        files.write_json(folder / "card.json", card)


def load(folder: Path) -> Any:
    """A SAELens folder -> the dictionary in float32 on the CPU. Raises ValueError for a folder that holds none or is damaged."""
    from sae_lens import SAE
    from safetensors import SafetensorError

    for name in ("cfg.json", "sae_weights.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is no dictionary: no {name}")
    try:
        sae = SAE.load_from_disk(folder, device="cpu", dtype="float32")
    except (SafetensorError, RuntimeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} is no whole dictionary: {error}") from None
    return sae.requires_grad_(False).eval()
