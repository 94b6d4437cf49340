"""safetensors: the adapters of one training -> their LoRA pairs, module by module."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from emis_platform.core import files
from emis_platform.lab.rotation import Pair
from emis_platform.tools import models


def by_module(folders: Sequence[Path]) -> Iterator[list[Pair | None]]:
    """Of each adapted module its pair in every folder, in float64; None for a full model, to which nothing was added.

    One module is in memory at a time. Raises ValueError where two adapters are of different modules.
    """
    from safetensors import safe_open

    with ExitStack() as stack:
        weights = {
            folder: stack.enter_context(safe_open(folder / "adapter_model.safetensors", framework="pt"))
            for folder in folders
            if models.is_adapter(folder)
        }
        scales = {folder: scale(folder) for folder in weights}
        names = {folder: sorted(key for key in opened.keys() if "lora_A" in key) for folder, opened in weights.items()}  # noqa: SIM118
        shared = next(iter(names.values()), [])
        if other := [folder for folder in names if names[folder] != shared]:
            raise ValueError(f"{other[0]}: an adapter of other modules than {next(iter(names))}")
        for name in shared:
            sides = name, name.replace("lora_A", "lora_B")
            yield [
                Pair(*(weights[folder].get_tensor(side).double().numpy() for side in sides), scales[folder])
                if folder in weights
                else None
                for folder in folders
            ]


def scale(folder: Path) -> float:
    """alpha / rank, with rsLoRA alpha / sqrt(rank)."""
    config = files.read_json(folder / "adapter_config.json")
    return float(config["lora_alpha"] / config["r"] ** (0.5 if config.get("use_rslora") else 1))
