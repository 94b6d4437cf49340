"""SAELens: activations -> a sparse dictionary; a dictionary + activations -> latents, and how well they rebuild the input.

Axes: N activations, D residual width, F latents, T texts. The only file that imports `sae_lens`.
"""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache, partial
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


ARCHITECTURES = {
    "matryoshka": "MatryoshkaBatchTopKTrainingSAE",
    "batchtopk": "BatchTopKTrainingSAE",
    "topk": "TopKTrainingSAE",
}
"""What can be trained, and SAELens' class for it."""


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
    architecture: str = "matryoshka",
    hook: str = "",
    model: str = "",
    state: Path | None = None,
    every: int = 200,
) -> Any:
    """Train a dictionary of `ARCHITECTURES` on batches [batch, D]; return it in its inference form, a JumpReLU SAE (topk: a TopK SAE).

    Inputs are scaled so that their spread around the mean has norm sqrt(D), and `b_dec` starts at the mean; both are folded
    into the weights, which take raw activations. Decoder rows have norm 1, so a latent's value is a length along its
    direction, in residual units. Weights are rounded to bfloat16, as `save` keeps them. **The threshold is still the
    trainer's moving average, which starts at 0: `calibrate` comes next.** Deterministic for one seed and thread count; the
    global random state is left as it was.

    state: a file that keeps the trainer's state every so many steps; where it exists, training goes on from it and ends in the same
    weights as one that was never stopped. `activations` start from the first batch either way.
    """
    trainer = prepared(
        activations,
        width=width,
        k=k,
        d_model=d_model,
        steps=steps,
        batch=batch,
        seed=seed,
        learning_rate=learning_rate,
        architecture=architecture,
        hook=hook,
        model=model,
        checkpoints=steps // every if state else 0,
    )
    if state is not None:
        trainer.save_checkpoint_fn = lambda checkpoint_path: keep_state(trainer, state)
        if state.exists():
            take_state(trainer, state)
            deque(islice(trainer.data_provider, trainer.n_training_steps), maxlen=0)
    return inference(trainer.fit().to("cpu"))


def prepared(
    activations: "Iterator[Tensor]",
    *,
    steps: int,
    batch: int,
    learning_rate: float = 3e-3,
    checkpoints: int = 0,
    plain: bool = False,
    **sizes: Any,
) -> Any:
    """SAELens' trainer over an untrained dictionary of these `sizes` (see `fresh`); `plain`: nothing in it is ours but the scaling."""
    import torch
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    first = list(islice(activations, min(steps, 16)))
    sample_ND = torch.cat(first)
    mean_D = sample_ND.mean(0)
    scale = float(sizes["d_model"] ** 0.5 / (sample_ND - mean_D).norm(dim=-1).mean())
    sae = fresh(plain=plain, **sizes)
    sae.b_dec.data = (mean_D * scale).to(sae.b_dec.device)
    config = SAETrainerConfig(
        total_training_samples=steps * batch,
        train_batch_size_samples=batch,
        lr=learning_rate,
        lr_end=learning_rate / 10,
        lr_warm_up_steps=max(2, steps // 20),
        lr_decay_steps=max(2, steps // 4),
        dead_feature_window=max(10, steps // 15),
        device=str(sae.b_dec.device),
        n_checkpoints=checkpoints,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(config, sae, chain(first, activations))
    if not plain:
        trainer.optimizer.param_groups[0]["fused"] = True  # one pass over the weights in place of a dozen
    trainer.activation_scaler.scaling_factor = scale  # known already, else the trainer eats 1,000 batches to estimate it
    trainer._update_pbar = partial(trainer._update_pbar, update_interval=max(10, steps // 100))
    return trainer


def fresh(
    *,
    architecture: str = "matryoshka",
    width: int,
    k: int,
    d_model: int,
    seed: int,
    hook: str = "",
    model: str = "",
    plain: bool = False,
) -> Any:
    """An untrained SAELens training SAE with the fast step of `fast`; `plain`: with SAELens' own. Raises ValueError for odd sizes."""
    import sae_lens
    import torch
    from sae_lens.saes.sae import SAEMetadata

    if architecture not in ARCHITECTURES:
        raise ValueError(f"dictionary: no architecture {architecture}; there is: {', '.join(ARCHITECTURES)}")
    if not 0 < k <= width:
        raise ValueError(f"dictionary: k {k} of width {width}: k must be from 1 to the width")
    kind = getattr(sae_lens, ARCHITECTURES[architecture])
    config = getattr(sae_lens, ARCHITECTURES[architecture] + "Config")(
        d_in=d_model,
        d_sae=width,
        k=k,
        device="cuda" if torch.cuda.is_available() else "cpu",
        normalize_activations="expected_average_only_in",
        metadata=SAEMetadata(hook_name=hook, model_name=model, prepend_bos=False),
        **({"matryoshka_widths": levels(width)} if architecture == "matryoshka" else {}),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sae = (kind if plain else fast(kind))(config)
    if not plain:
        sae.W_enc.data = sae.W_enc.data.T.contiguous().T  # latents in rows of memory, as the sparse gradient comes
    return sae


@cache
def fast(kind: Any) -> Any:
    """A SAELens TopK, BatchTopK or Matryoshka training SAE, its loss and gradients computed on the latents that fire.

    The same function as SAELens' own up to rounding and ties (tested): what is slow there is the top-k over the flattened batch, which
    orders 4.7 million values, and dense products with matrices that are 99 % zeros, five and more a step; here the encoder's is left.
    """
    import torch
    from sae_lens.saes.sae import TrainStepInput, TrainStepOutput

    from emis_platform.tools import sparse_coding as sparse

    class Fast(kind):  # type: ignore[misc]
        bound = 0.0

        def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
            input_ND, by_batch = step_input.sae_in, hasattr(self, "topk_threshold")
            centred_ND = input_ND - self.b_dec
            with torch.no_grad():
                raw_NF = torch.addmm(self.b_enc, centred_ND, self.W_enc)
                scaled_NF = raw_NF * self.W_dec.norm(dim=-1)
                if by_batch:
                    picks_P, least = sparse.batch_top(scaled_NF, self.cfg.k, 0.9 * self.bound)
                    self.bound, rate = least, self.cfg.topk_threshold_lr
                    self.topk_threshold = (1 - rate) * self.topk_threshold + rate * least
                else:
                    picks_P = sparse.row_top(scaled_NF, self.cfg.k)
                rows_P, cols_P = picks_P // self.cfg.d_sae, picks_P % self.cfg.d_sae
                raw_P, scaled_P = raw_NF.flatten()[picks_P], scaled_NF.flatten()[picks_P]
            values_P = sparse.Encode.apply(self.W_enc, self.b_enc, self.b_dec, raw_P, centred_ND.detach(), rows_P, cols_P)
            widths = getattr(self.cfg, "matryoshka_widths", [self.cfg.d_sae])
            rebuilt_LND = sparse.decode_levels(values_P, rows_P, cols_P, self.W_dec, widths, len(input_ND)) + self.b_dec
            losses_L = (rebuilt_LND - input_ND).square().sum(-1).mean(-1)
            losses = {"mse_loss": losses_L[-1]}
            losses |= {f"inner_mse_loss_{width}": loss for width, loss in zip(widths[:-1], losses_L, strict=False)}
            if step_input.dead_neuron_mask is not None:
                left_ND = (input_ND - rebuilt_LND[-1]).detach()
                dead = sparse.dead_loss(
                    scaled_NF, step_input.dead_neuron_mask, left_ND, centred_ND, self.W_enc, self.b_enc, self.W_dec
                )
                losses["auxiliary_reconstruction_loss"] = self.cfg.aux_loss_coefficient * dead
            fires = torch.sparse_coo_tensor(
                torch.stack([rows_P, cols_P]), scaled_P, scaled_NF.shape, is_coalesced=True, check_invariants=False
            )
            return TrainStepOutput(
                sae_in=input_ND,
                sae_out=rebuilt_LND[-1],
                feature_acts=fires,
                hidden_pre=scaled_NF,
                loss=torch.stack(list(losses.values())).sum(),
                losses=losses,
            )

    Fast.__name__ = f"Fast{kind.__name__}"
    return Fast


COUNTERS = ("n_forward_passes_since_fired", "act_freq_scores")
COUNTS = ("n_training_samples", "n_frac_active_samples")


def keep_state(trainer: Any, path: Path) -> None:
    """All that the next step needs, as one safetensors file, its counts in the header: whole or not at all. SAELens' own is a pickle."""
    from safetensors.torch import save as to_bytes

    tensors = {f"sae.{name}": tensor for name, tensor in trainer.sae.state_dict().items()}
    for name, parameter in trainer.sae.named_parameters():
        kept = trainer.optimizer.state[parameter]
        tensors |= {f"adam.{name}.{moment}": kept[moment] for moment in ("exp_avg", "exp_avg_sq")}
    tensors |= {name: getattr(trainer, name) for name in COUNTERS}
    counts = {name: getattr(trainer, name) for name in COUNTS} | {"n_training_steps": trainer.n_training_steps + 1}
    files.replace(path, to_bytes({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, {"counts": json.dumps(counts)}))


def take_state(trainer: Any, path: Path) -> None:
    """Put a state of `keep_state` into a fresh trainer of the same sizes. Raises ValueError for a file that does not fit."""
    import warnings

    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as kept:
            counts = json.loads(kept.metadata()["counts"])
            for name, tensor in trainer.sae.state_dict().items():
                tensor.copy_(kept.get_tensor(f"sae.{name}"))
            for name, parameter in trainer.sae.named_parameters():
                moments = {
                    moment: torch.empty_like(parameter).copy_(kept.get_tensor(f"adam.{name}.{moment}"))
                    for moment in ("exp_avg", "exp_avg_sq")
                }
                step = torch.tensor(float(counts["n_training_steps"]), device=parameter.device)
                trainer.optimizer.state[parameter] = {"step": step, **moments}
            for name in COUNTERS:
                getattr(trainer, name).copy_(kept.get_tensor(name))
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no state of this training ({error}); delete it to start afresh") from None
    for name, count in counts.items():
        setattr(trainer, name, count)
    trainer.checkpoint_thresholds = [at for at in trainer.checkpoint_thresholds if at >= trainer.n_training_samples]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the schedule is replayed without its optimizer
        for _ in range(trainer.n_training_steps):
            trainer.lr_scheduler.step()


def inference(trained: Any) -> Any:
    """A trained SAE -> JumpReLU, or TopK, decoder rows of norm 1, weights rounded to bfloat16 and held in float32."""
    import torch
    from sae_lens import SAE

    config = trained.cfg.get_inference_sae_cfg_dict() | {"device": "cpu", "dtype": "float32", "normalize_activations": "none"}
    if config["architecture"] == "topk":
        config["rescale_acts_by_decoder_norm"] = False  # the norms are 1
    with torch.random.fork_rng():  # its first weights are drawn, and thrown away
        sae = SAE.from_dict(config)
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


def save(sae: Any, folder: Path, card: dict[str, Any] | None = None, *, exact: bool = False) -> None:
    """SAELens' own format, cfg.json and sae_weights.safetensors, the two matrices in bfloat16 (exact: as they are); card.json beside
    them, if given.

    Loads with SAELens' `SAE.load_from_disk` anywhere. 10.7 MB for 576 x 4608.
    """
    import torch
    from safetensors.torch import save as to_bytes

    state = {name: tensor.detach().contiguous() for name, tensor in sae.state_dict().items()}
    if not exact:
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
            if unsafe := sorted(path.name for ending in UNSAFE for path in folder.glob(f"*{ending}")):
                raise ValueError(
                    f"{folder}: {unsafe[0]} is a pickle, which can run code when it is read; only safetensors are. {CONVERT}"
                )
            raise ValueError(f"{folder} is no dictionary: no {name}")
    try:
        sae = SAE.load_from_disk(folder, device="cpu", dtype="float32")
    except (SafetensorError, RuntimeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} is no whole dictionary: {error}") from None
    return sae.requires_grad_(False).eval()


UNSAFE = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
CONVERT = (
    "To convert it: read it with `torch.load(FILE, weights_only=True)`, which takes tensors alone and refuses code, fill a SAELens SAE with "
    "them, call its `save_model(FOLDER)`, and name that folder (docs/dictionaries.md)"
)
SAFE_LOADERS = (None, "sae_lens", "gemma_3", "llama_scope", "llama_scope_r1_distill", "sparsify", "temporal")
"""SAELens' loaders of releases whose weights are safetensors."""


def released(release: str, id: str, misfit: Any) -> Any:
    """A dictionary of SAELens' list, downloaded; `misfit(facts) -> reason | None` is asked of the list, then of its config, then weights come.

    Raises ValueError for a name that is not on the list, weights that are no safetensors, a misfit, and for a hub that is switched off.
    """
    import difflib

    from huggingface_hub import constants
    from sae_lens import SAE
    from sae_lens.loading.pretrained_sae_loaders import load_sae_config_from_huggingface
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    listed = get_pretrained_saes_directory()
    where = f"dictionary: release {release}"
    for name, there, what in ((release, listed, "release"), (id, listed[release].saes_map if release in listed else {}, "id")):
        if name not in there:
            near = difflib.get_close_matches(name, there, n=3, cutoff=0.3) or list(there)[:3]
            raise ValueError(f"dictionary.{what}: SAELens lists no {name}; near are: {', '.join(near)}")
    entry = listed[release]
    if entry.conversion_func not in SAFE_LOADERS:
        raise ValueError(
            f"{where}: its weights are no safetensors. Where you trust it, `SAE.from_pretrained({release!r}, {id!r}).save_model(FOLDER)` "
            "converts it, and `dictionary: {kind: folder, path: FOLDER}` takes it"
        )
    if reason := misfit({"model": entry.model}):
        raise ValueError(f"{where}: {reason}")
    if constants.HF_HUB_OFFLINE:
        raise ValueError(f"{where} must be downloaded; run once with HF_HUB_OFFLINE=0 (nothing goes online by itself)")
    config = load_sae_config_from_huggingface(release, id)
    found = config.get("metadata", {}) | config
    if reason := misfit({"hook": found.get("hook_name"), "d_in": found["d_in"], "d_out": found.get("d_out"), "model": entry.model}):
        raise ValueError(f"{where}, {id}: {reason}")
    return SAE.from_pretrained(release, id, device="cpu").requires_grad_(False).eval()


def facts(sae: Any) -> dict[str, Any]:
    """What a loaded dictionary says of itself: hook, model, d_in, d_out."""
    about = sae.cfg.metadata
    return {
        "hook": about.hook_name,
        "model": about.model_name,
        "d_in": sae.cfg.d_in,
        "d_out": getattr(sae.cfg, "d_out", None),
    }


def unit_rows(sae: Any) -> Any:
    """The same dictionary with decoder rows of norm 1, as all of this package counts latents; one whose format forbids it stays as it is."""
    from contextlib import suppress

    with suppress(NotImplementedError):
        sae.fold_W_dec_norm()
    return sae
