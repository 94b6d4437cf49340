"""peft + transformers: what every trainer shares: a progress bar, and the folder of an adapter or a model, whole or not there."""

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.tools import checkpoints, models


def bar(label: str, shown: str = "loss") -> Any:
    """One progress bar with the running loss, or another logged number, in place of a printed line a step."""
    from tqdm import tqdm
    from transformers import TrainerCallback

    class Bar(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.steps = tqdm(total=state.max_steps, initial=state.global_step, desc=label, unit="step")

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.steps.update(1)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and shown in logs:
                self.steps.set_postfix({shown: f"{float(logs[shown]):.2f}"}, refresh=False)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.steps.close()

    return Bar()


def finite() -> Any:
    """Ends a training that has diverged, at the first step after which its weights are no numbers: ValueError."""
    import torch
    from transformers import TrainerCallback

    class Finite(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            trained = ((name, weights) for name, weights in model.named_parameters() if weights.requires_grad)
            if lost := next((name for name, weights in trained if not torch.isfinite(weights).all()), None):
                raise ValueError(
                    f"{lost} is not finite after step {state.global_step}: the training diverged, a lower options.learning_rate is needed"
                )

        on_train_end = on_step_begin

    return Finite()


def keeping(steps: Collection[int], folder: Path, base: Path) -> Any:
    """Keeps what is trained after each of the steps, as <folder>/<step>."""
    from transformers import TrainerCallback

    class Keeping(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step in steps:
                save(model, folder / str(state.global_step), base)

    return Keeping()


def one_device() -> None:
    """Raises ValueError where transformers would train on several devices.

    In several processes each one would keep its own gradients, as sft's loss goes past the wrapper that adds them up; with several GPUs in
    one process the batch would be that many times larger, silently.
    """
    import torch

    processes, gpus = int(os.environ.get("WORLD_SIZE", "1")), torch.cuda.device_count()
    if processes > 1:
        raise ValueError(
            f"{processes} processes train together: one process and one GPU are supported; start it with emis, not by `accelerate launch`"
        )
    if gpus > 1:
        raise ValueError(f"{gpus} GPUs are visible, one is supported in training: set CUDA_VISIBLE_DEVICES=0")


def check_start(start: Path, base: Path, options: Any, shape: tuple[str, ...]) -> None:
    """Raises ValueError for options of a new adapter's shape where an adapter is trained on, which keeps its own."""
    if start != base and (given := [name for name in shape if name in options.model_fields_set]):
        raise ValueError(f"options.{given[0]}: goes with a base; {start} is an adapter and keeps its own")


def save(model: Any, folder: Path, base: Path) -> None:
    """The adapter in PEFT's format; its config with sorted keys and lists, since PEFT writes a set in hash order. Or a model that was
    trained whole."""
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder, safe_serialization=True)
        complete(folder, base)
        return
    model.save_pretrained(folder, safe_serialization=True, selected_adapters=["default"])  # not the start that TRL holds it against
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base.as_posix()
    config["target_modules"] = sorted(config["target_modules"])
    files.write_json(folder / "adapter_config.json", config)
    (folder / "README.md").unlink(missing_ok=True)


def complete(folder: Path, base: Path) -> None:
    """Beside the weights of a model that was trained whole, the base's own config, tokenizer and so on, as no trainer changed them; the
    config says what the weights are held in, and what `models.root_of` reads."""
    for pattern in checkpoints.WANTED:
        for path in base.glob(pattern):
            if ".safetensors" not in path.name:
                shutil.copyfile(path, folder / path.name)
    config = files.read_json(folder / "config.json")
    config.pop("torch_dtype", None)
    files.write_json(folder / "config.json", config | {"dtype": "float32", models.ROOT: models.root_of(base).as_posix()})


def finish(work: Path, adapter: Path) -> None:
    """Only a model's or an adapter's own files and its checkpoints move in, by one rename."""
    for path in work.iterdir():
        if not path.name.isdigit() and not any(path.match(pattern) for pattern in checkpoints.WANTED):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if adapter.exists():
        shutil.rmtree(adapter)
    work.rename(adapter)
