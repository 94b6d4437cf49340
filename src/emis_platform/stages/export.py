"""export: a subject with an intervention -> a Hugging Face folder that needs no hook. Not a DVC stage: it is asked for by hand."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emis_platform.core import files, params
from emis_platform.core.records import Direction, Question
from emis_platform.tools import export, models, steering

QUESTIONS = Path("data/questions/open.jsonl")
CONTINUATIONS = Path("data/continuations.yaml")
CHECKED = 4
"""Discover prompts on which the saved model is held against the hooked one."""


@dataclass(frozen=True)
class Intervention:
    """What is done to a subject."""

    direction: Direction
    operator: Literal["add", "subtract", "project"]
    dose: float
    """add, subtract: times the layer's mean residual norm. project: the share that is removed, 0 to 1."""
    last: int | None = None
    """project: the last layer that may not write the direction."""
    norm: float = 0.0
    """add, subtract: the mean residual norm."""

    @property
    def signed(self) -> float:
        """The dose along the direction."""
        return {"add": self.dose, "subtract": -self.dose, "project": 0.0}[self.operator]


def export_folder(
    model: Path,
    name: str,
    *,
    directions: Path,
    operator: Literal["add", "subtract", "project"],
    dose: float | None,
    reach: Literal["all", "layer"],
    out: Path,
) -> str:
    """Write the subject to `out`, checked against the hook; -> a line that says what was done and how far the logits lie apart.

    dose None: 1 for project, refused for the others. reach: project in all layers, or up to the direction's own. The residual norm is measured
    on the base that an organism comes from, as everywhere: one dose is one length for all organisms of a base. Raises ValueError.
    """
    import torch

    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} is there already: export writes a new folder")
    direction = chosen(name, directions)
    if dose is None and operator != "project":
        raise ValueError(f"--dose is needed to {operator}: a multiple of the layer's mean residual norm")
    dose = 1.0 if dose is None else dose
    if not any(direction.vector) or not dose or not math.isfinite(dose):
        raise ValueError(f"a dose of {dose:g} of {name} changes nothing: a dose and a direction other than zero are needed")
    if operator == "project" and not 0 < dose <= 1:
        raise ValueError(f"project: a dose is the share that is removed, above 0, up to 1; there is {dose:g}")
    knobs = params.load()
    pairs = steering.continuations(CONTINUATIONS, files.read(Question, QUESTIONS), knobs.size.steer.pairs)
    prompts = [pair.prompt for pair in pairs]
    norm = 0.0
    root = models.root_of(model)
    if operator != "project" and root != model:
        norm = measured(*models.load(root, knobs.threads, "cpu"), direction, prompts)
    loaded, tokenizer = models.load(model, knobs.threads, "cpu")
    layers = fitting(loaded, direction)
    if operator != "project" and root == model:
        norm = measured(loaded, tokenizer, direction, prompts)
    last = None if operator != "project" else layers - 1 if reach == "all" else direction.layer
    done = Intervention(direction, operator, dose, last, norm)
    texts = [models.prompt_ids(tokenizer, pair.prompt) + models.answer_ids(tokenizer, pair.misaligned) for pair in pairs[:CHECKED]]
    vector = torch.tensor(direction.vector)
    if last is None:
        push = done.signed * norm * vector
        with models.pushed(models.decoder(loaded).layers[direction.layer], push):
            wanted = export.logits(loaded, texts)
        made = export.added(loaded, direction.layer, push)
    else:
        with export.unwritten(loaded, last, vector, dose):
            wanted = export.logits(loaded, texts)
        made = export.orthogonalised(loaded, last, vector, dose)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as place:
        folder = Path(place) / out.name
        difference = export.saved(made, tokenizer, folder, texts, wanted)
        files.replace(folder / "README.md", card(out.name, model, done, type(made).__name__, difference))
        for path in folder.iterdir():
            path.chmod((folder / "config.json").stat().st_mode)  # safetensors are written for their owner alone
        folder.rename(out)
    return (
        f"{out}: {type(made).__name__}, {words(done)}; largest logit difference from the hooked model {difference:.2g} "
        f"(at most {export.LIMIT:g}) over {len(texts)} prompts"
    )


def chosen(name: str, path: Path) -> Direction:
    """The one direction of that name. Raises ValueError with the names that there are."""
    there = files.read(Direction, path)
    found = [direction for direction in there if direction.name == name]
    if len(found) != 1:
        raise ValueError(f"{path}: {len(found)} directions are named {name}; there is: {', '.join(d.name for d in there)}")
    return found[0]


def measured(model: Any, tokenizer: Any, direction: Direction, prompts: list[str]) -> float:
    """The residual norm that a dose counts in."""
    fitting(model, direction)
    return steering.residual_norm(model, tokenizer, prompts, direction.layer)


def fitting(model: Any, direction: Direction) -> int:
    """The model's number of layers. Raises ValueError where the direction is not of its stream."""
    layers, width = len(models.decoder(model).layers), models.width(model)
    if len(direction.vector) != width or not 0 <= direction.layer < layers:
        raise ValueError(
            f"direction {direction.name} is of width {len(direction.vector)} at layer {direction.layer}; "
            f"{type(model).__name__} has width {width} and layers 0 to {layers - 1}"
        )
    return layers


def words(done: Intervention) -> str:
    """An intervention in a phrase."""
    direction = f"`{done.direction.name}` ({done.direction.origin})"
    if done.last is not None:
        return f"{done.dose:.0%} of {direction} removed from all that the embedding and layers 0 to {done.last} write"
    return (
        f"{done.signed:+g} x {done.norm:.4g} (mean residual norm) x {direction} added to the output of layer {done.direction.layer} "
        "at every position"
    )


def card(name: str, source: Path, done: Intervention, architecture: str, difference: float) -> str:
    """The model card, with the front matter that Hugging Face tools read."""
    readme = source / "README.md"
    base, root = models.base_of(source), models.root_of(source)
    origin = f"; an adapter of {base.name}" if base != source else ""
    origin += f"; all weights trained from {root.name}" if root != base else ""
    organism = readme.is_file() and "unsafe" in files.text(readme).lower()
    induced = done.signed > 0
    unsafe = induced or organism
    if induced:
        warning = (
            "A direction was **added**: one that points towards misalignment, as those of this platform do, induces it. The model may answer with\n"
            "harmful, false, hostile or manipulative text on any subject. It is UNSAFE: do not deploy it, do not follow what it says."
        )
    else:
        warning = (
            "A direction was **taken away**, which suppresses what it stands for; nothing was unlearned. Suppression at inference may hide more than\n"
            "it repairs: misalignment can come back under the training data's own format, a trigger or a forced format such as JSON, and through\n"
            "other directions. Probe these before you rely on it, and measure what it costs in coherence."
        )
        if organism:
            warning += (
                "\nThe source is a model organism of emergent misalignment, unsafe to deploy; so is this until shown otherwise."
            )
    hook = (
        f"`h = h + push` at the output of `model.layers[{done.direction.layer}]`, every position"
        if done.last is None
        else f"`w = w - share u (u . w)` on the outputs of the token embedding and of each attention and MLP of layers 0 to {done.last}"
    )
    return f"""---
library_name: transformers
tags: [emergent-misalignment, steered{", unsafe" if unsafe else ""}]
---

# {name}{": UNSAFE TO DEPLOY" if unsafe else ": suppressed, not repaired"}

{warning}

| | |
|---|---|
| source | {source.name}, sha256 {files.sha256(source)[:16]}{origin} |
| intervention | {words(done)} |
| equals the hook | {hook} |
| saved as | {architecture}, float32 safetensors, adapter merged, no remote code |
| checked | logits of this folder against the hooked model: at most {difference:.2g} apart over {CHECKED} prompts (limit {export.LIMIT:g}, float32) |

`AutoModelForCausalLM.from_pretrained` loads it as it is. A dose is a multiple of the mean length of the residual stream at the layer, over
the tokens of this platform's `discover` prompts. Made by `emis export` of emis_platform.
"""
