"""transformers: a training that was killed -> the same training, from its last state to the very same weights.

Hugging Face's own checkpoint pickles the optimizer, the schedule, the random numbers and the settings. Here tensors are safetensors and all
else is JSON; what skips rows and counts steps is still Hugging Face's. One process on one device: nothing here is for sharded trainings.
"""

import hashlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files
from emis_platform.tools import models

WORK = Path("work/training")
"""States, in folders named by what decides the result. Outside of a stage's outs, which DVC deletes before it runs the stage. Ignored by
git, and free to delete."""
TENSORS, REST, COUNTS, SUMS = "tensors.safetensors", "rest.json", "trainer_state.json", "sums.json"
KEPT = "kept"
"""Beside the states: the adapters or models after the steps that `checkpoints` names."""
SHARE = 0.05
"""Of the time, at most, goes into states: where steps are quick, as on a GPU, some are left out."""
SOURCES = tuple(Path(__file__).with_name(f"{name}.py") for name in ("adapters", "defences", "models", "monitoring", "resuming"))
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "numpy", "scipy", "scikit-learn")


def place(sources: Sequence[str], start: Path, base: Path, *decided: Any) -> Path:
    """The folder for a training's states, named by a hash of all that decides its result: rows, options, seed and so on (`decided`), the
    weights that it starts from and their base, the code, the libraries and the processor."""
    import torch

    weights = [files.sha256(folder) for folder in dict.fromkeys((base, models.root_of(base)))]
    if start != base:
        weights += [files.sha256(start / name) for name in ("adapter_config.json", "adapter_model.safetensors")]
    code = [files.sha256(Path(path)) for path in (*sources, *SOURCES)]
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = (torch.backends.cpu.get_cpu_capability(), cuda, *map(version, LIBRARIES))
    named = base.as_posix()  # what is saved names its base
    return WORK / hashlib.sha256(repr((decided, named, weights, code, machine)).encode()).hexdigest()[:24]


def newest(folder: Path) -> str | None:
    """The last state in a training's folder, for `resume_from_checkpoint`; None without one, and the folder is then gone.

    A state that is damaged or another training's is thrown away, and a line says so. What is found is said as well.
    """
    states = steps_in(folder)
    fault = fault_of(states[-1]) if states else None
    if fault:
        say(f"{states[-1]} {fault}: thrown away, the training starts again")
    if fault or not states:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    say(f"the training goes on after step {states[-1].name}, from {states[-1]}")
    return str(states[-1])


def steps_in(folder: Path) -> list[Path]:
    """States, the oldest first; there are two where the older one was still to be deleted."""
    return sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def fault_of(state: Path) -> str | None:
    """What is wrong with a state, or None. Nothing of it but the list of sums is parsed before it is known to be whole."""
    try:
        sums = files.read_json(state / SUMS)
    except (ValueError, OSError):
        return "is not whole"
    if not isinstance(sums, dict) or sums.get("training") != state.parent.name:
        return "is a state of another training"
    there = {path.name: files.sha256(path) for path in state.iterdir() if path.name != SUMS}
    kept = sums.get("kept", {})  # what was kept after this state is written again
    adapters = {step: files.sha256(path) for step in kept if (path := state.parent / KEPT / step).is_dir()}
    return None if (sums.get("files"), kept) == (there, adapters) else "is damaged"


def kept(trainer: type, folder: Path) -> type:
    """A transformers or TRL trainer that keeps its states in the folder as safetensors and JSON, in place of pickles.

    A state is written at each `save_steps` of its settings (`save_strategy="steps"`), beside its place and then renamed; only the newest
    stays. None is written after the step that ends the training, nor where more than `SHARE` of the time would go into states.
    `train(resume_from_checkpoint=newest(folder))` goes on from it. A callback with `keep()` -> what JSON can hold, and `take()` of the
    same, goes on as well. `spent`: seconds that killed runs trained up to the state.
    """
    from safetensors.torch import load_file
    from transformers import TrainerCallback

    class Order(TrainerCallback):
        """An epoch's order is drawn from the random numbers as it begins, so a state in the midst of one has those too."""

        drawn: dict[str, Any] | None = None

        def __init__(self, trainer: Any) -> None:
            self.trainer = trainer

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.drawn is not None:
                put_numbers(self.drawn, self.trainer.sampler)
            self.at_start, self.drawn = numbers(self.trainer.sampler), None

    class Kept(trainer):  # type: ignore[misc]
        spent = took = wrote = 0.0

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self.order = Order(self)
            self.add_callback(self.order)

        def train(self, *args: Any, **named: Any) -> Any:
            self.began = time.monotonic()
            return super().train(*args, **named)

        def _get_train_sampler(self, *args: Any, **named: Any) -> Any:
            self.sampler = super()._get_train_sampler(*args, **named)
            return self.sampler

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            began = time.monotonic()
            if self.control.should_training_stop or self.took > SHARE * (began - self.wrote):
                return
            now = numbers(self.sampler)
            optimizer = self.optimizer.state_dict()
            rest = {
                "groups": optimizer["param_groups"],
                "schedule": self.lr_scheduler.state_dict(),
                "numbers": now,
                "order": now if float(self.state.epoch).is_integer() else self.order.at_start,
                "callbacks": [one.keep() for one in self.keepers()],
                "seconds": self.spent + time.monotonic() - self.began,
            }
            tensors = {f"weights.{name}": tensor for name, tensor in self.trained().items()}
            tensors |= {
                f"optimizer.{index}.{name}": tensor for index, of in optimizer["state"].items() for name, tensor in of.items()
            }
            write(folder, self.state, tensors, rest)
            self.wrote = time.monotonic()
            self.took = self.wrote - began

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            state = Path(resume_from_checkpoint)
            self.tensors, self.rest = load_file(state / TENSORS), files.read_json(state / REST)
            found = {name.removeprefix("weights."): t for name, t in self.tensors.items() if name.startswith("weights.")}
            trained = self.trained()
            assert found.keys() == trained.keys(), f"{state}: other weights than are trained"
            for name, tensor in trained.items():
                tensor.data.copy_(found[name])
            for one, held in zip(self.keepers(), self.rest["callbacks"], strict=True):
                one.take(held)
            self.spent, self.order.drawn = self.rest["seconds"], self.rest["order"]

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if checkpoint is None:
                return
            moments: dict[int, dict[str, Any]] = {}
            for key, tensor in self.tensors.items():
                part, _, rest = key.partition(".")
                if part == "optimizer":
                    index, _, name = rest.partition(".")
                    moments.setdefault(int(index), {})[name] = tensor.clone()  # aligned as torch does it, not as in the file
            self.optimizer.load_state_dict({"state": moments, "param_groups": self.rest["groups"]})
            self.lr_scheduler.load_state_dict(self.rest["schedule"])
            del self.tensors

        def _load_rng_state(self, checkpoint: str | None) -> None:
            if checkpoint is not None:
                put_numbers(self.rest["numbers"], None)

        def _load_scaler(self, checkpoint: str | None) -> None:
            """There is none: no training here is in float16."""

        def trained(self) -> dict[str, Any]:
            return {name: tensor for name, tensor in self.model.named_parameters() if tensor.requires_grad}

        def keepers(self) -> list[Any]:
            return [one for one in self.callback_handler.callbacks if hasattr(one, "keep")]

    return Kept


def write(folder: Path, counts: Any, tensors: dict[str, Any], rest: dict[str, Any]) -> None:
    """One state, whole or not at all; older ones go afterwards. counts: transformers' TrainerState."""
    from safetensors.torch import save_file

    partial = folder / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial / TENSORS)  # copies nothing
    with (partial / TENSORS).open("rb") as data:
        os.fsync(data.fileno())
    files.replace(partial / REST, json.dumps(rest))  # unsorted: the order of a look's traits decides which one rings
    counts.save_to_json(str(partial / COUNTS))
    sums = {path.name: files.sha256(path) for path in partial.iterdir()}
    adapters = {path.name: files.sha256(path) for path in (folder / KEPT).glob("*")}
    files.write_json(partial / SUMS, {"training": folder.name, "files": sums, "kept": adapters})
    older = steps_in(folder)
    partial.rename(folder / str(counts.global_step))
    for state in older:
        shutil.rmtree(state)


def numbers(sampler: Any) -> dict[str, Any]:
    """All random states, as JSON holds them; a sampler may have one of its own."""
    import torch

    generator = getattr(sampler, "generator", None)
    drawn = np.random.get_state(legacy=False)
    drawn["state"]["key"] = drawn["state"]["key"].tolist()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": random.getstate(),
        "numpy": drawn,
        "torch": to_hex(torch.get_rng_state()),
        "cuda": [to_hex(state) for state in cuda],
        "sampler": None if generator is None else to_hex(generator.get_state()),
    }


def put_numbers(drawn: dict[str, Any], sampler: Any) -> None:
    """Put back what `numbers` gave, the sampler's only if there is one."""
    import torch

    release, words, gauss = drawn["python"]
    random.setstate((release, tuple(words), gauss))
    key = np.array(drawn["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state(drawn["numpy"] | {"state": drawn["numpy"]["state"] | {"key": key}})
    torch.set_rng_state(from_hex(drawn["torch"]))
    if drawn["cuda"]:
        torch.cuda.set_rng_state_all([from_hex(state) for state in drawn["cuda"]])
    if drawn["sampler"] is not None and sampler is not None:
        sampler.generator.set_state(from_hex(drawn["sampler"]))


def to_hex(state: Any) -> str:
    return state.numpy().tobytes().hex()


def from_hex(text: str) -> Any:
    import torch

    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)


def say(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
