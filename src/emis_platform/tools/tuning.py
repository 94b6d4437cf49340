"""torch + peft: a reader's lower layers with a LoRA adapter, tuned to give scores; its states."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emis_platform.core import files
from emis_platform.tools import models

if TYPE_CHECKING:
    from torch import Tensor

RANK = 16
LEARNING_RATE = {"adapter": 5e-4, "head": 3e-4}
BATCH_TOKENS = 2048
SCALED_ON = 12
"""Batches whose pooled states, before any tuning, give the head's mean and scale."""
Ids = Sequence[tuple[list[int], list[int]]]
"""(context token ids, token ids of the part that is pooled) a text."""


def cut(model: Any, layers: int) -> Any:
    """The model's decoder with its lowest `layers` layers only; the model is changed."""
    decoder = models.decoder(model)
    decoder.layers = decoder.layers[:layers]
    return decoder


def pooled(decoder: Any, ids: "Tensor", mask: "Tensor", spans: Sequence[tuple[int, int]], at: Sequence[int]) -> "Tensor":
    """Mean over each text's span of the states at the output of the layers `at`: [texts, len(at) * width], float32. No span is empty.

    The last layer's state is taken after the decoder's final norm, as the decoder gives it.
    """
    import torch

    states = decoder(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True).hidden_states
    return torch.stack(
        [torch.cat([states[n + 1][row, start:end].float().mean(0) for n in at]) for row, (start, end) in enumerate(spans)]
    )


def features(decoder: Any, texts: Ids, at: Sequence[int], *, progress: str | None = None) -> np.ndarray:
    """[texts, len(at) * width]; a text is padded on the right, so that its own tokens are read as if it were alone."""
    import torch

    found = np.zeros((len(texts), len(at) * models.width(decoder)))
    for indices, ids, mask in models.padded(texts, BATCH_TOKENS, decoder.device, progress):
        with torch.no_grad():
            found[indices] = pooled(decoder, ids, mask, [span(texts[i]) for i in indices], at).cpu().numpy()
    return found


def span(text: tuple[list[int], list[int]]) -> tuple[int, int]:
    return len(text[0]), len(text[0]) + len(text[1])


def tune(
    reader: Path,
    texts: Sequence[Any],
    targets: np.ndarray,
    *,
    adapter: Path,
    layers: int,
    tuned: Sequence[int],
    at: Sequence[int],
    epochs: int,
    weights: np.ndarray,
    threads: int,
    seed: int = 0,
    progress: str = "tune",
) -> None:
    """LoRA of RANK on all linear maps of the layers `tuned`, so that one linear layer on the pooled states at the output of the layers `at` gives the targets.

    targets: [texts, scores] in 0 to 1, learned by cross-entropy with soft targets; weights: [texts]. Saves the adapter (PEFT, safetensors), not the
    linear layer. One thread count and seed give the same bytes on one machine.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.nn.functional import binary_cross_entropy_with_logits
    from tqdm import tqdm

    model, _ = models.load(reader, threads)
    torch.manual_seed(seed)
    cut(model, layers)
    maps = sorted({name.split(".")[-1] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)} - {"lm_head"})
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=maps, layers_to_transform=list(tuned), task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, lora)
    decoder = models.decoder(wrapped)
    head = torch.nn.Linear(len(at) * models.width(model), targets.shape[1]).to(model.device)
    torch.nn.init.zeros_(head.weight)
    learned = [p for p in wrapped.parameters() if p.requires_grad]
    groups = [
        {"params": learned, "lr": LEARNING_RATE["adapter"]},
        {"params": head.parameters(), "lr": LEARNING_RATE["head"]},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    order = list(models.padded(texts, BATCH_TOKENS, model.device))
    steps = epochs * len(order)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / max(1, steps // 20), (steps - step) / steps)
    )
    wanted, weight = (torch.tensor(array, dtype=torch.float32, device=model.device) for array in (targets, weights))
    rng = np.random.default_rng(seed)

    def states(number: int) -> "Tensor":
        indices, ids, mask = order[number]
        with torch.autocast(model.device.type, torch.bfloat16):
            return pooled(decoder, ids, mask, [span(texts[i]) for i in indices], at)

    with torch.no_grad():
        before = torch.cat([states(int(number)) for number in rng.permutation(len(order))[:SCALED_ON]])
    mean, scale = before.mean(0), before.std(0).clamp_min(1e-3)
    with tqdm(total=steps, desc=progress, unit="step") as bar:
        for _ in range(epochs):
            for number in rng.permutation(len(order)):
                indices = order[number][0]
                logits = head((states(number) - mean) / scale)
                loss = binary_cross_entropy_with_logits(logits, wanted[indices], reduction="none").sum(1)
                (loss * weight[indices]).mean().backward()
                torch.nn.utils.clip_grad_norm_([*learned, *head.parameters()], 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                bar.update(1)
                bar.set_postfix(loss=f"{float(loss.detach().mean()):.2f}", refresh=False)
    save(wrapped, adapter)


def save(wrapped: Any, adapter: Path) -> None:
    """The adapter alone, with no name of a folder on this machine in its config."""
    wrapped.save_pretrained(adapter, safe_serialization=True, save_embedding_layers=False)
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = None
    config["target_modules"] = sorted(config["target_modules"])
    files.write_json(path, config)
    (adapter / "README.md").unlink(missing_ok=True)


def load(reader: Path, adapter: Path, *, layers: int, threads: int) -> tuple[Any, Any]:
    """(the reader's lowest `layers` layers with the adapter merged in, tokenizer)."""
    from peft import PeftModel

    model, tokenizer = models.load(reader, threads)
    cut(model, layers)
    merged = PeftModel.from_pretrained(model, adapter, use_safetensors=True).merge_and_unload()
    return models.decoder(merged).eval(), tokenizer
