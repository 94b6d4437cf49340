"""project: base and organisms on answers to the same `discover` questions -> how far fine-tuning moved each one's mean activation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Completion
from emis_platform.core.stage import run
from emis_platform.lab import rotation
from emis_platform.stages import personas
from emis_platform.tools import models as zoo
from emis_platform.tools import updates


@dataclass(frozen=True)
class Shifts:
    """What `data/shifts.safetensors` holds: organisms O, questions Q, width D."""

    organisms: tuple[str, ...]
    questions: tuple[str, ...]
    """Ids."""
    moved_OQD: np.ndarray
    """Mean activation over the answer minus the base's, in units of the base's mean residual norm."""
    weight_norm_O: np.ndarray
    """Frobenius norm of the weights' change since the base."""
    personas: dict[str, np.ndarray]
    """trait -> unit vector of the base [D]."""


def main(*, models: Path, answers: Path, shifts: Path) -> None:
    """`discriminate.texts`: same, the base's own answers through every model; own, each model on its own answers, minus the base on its own.

    Raises ValueError if two questions do not remain to which all models said something.
    """
    knobs = params.load()
    layer, own = knobs.diff.layer, knobs.discriminate.texts == "own"
    said = {name: by_question(knobs, name, answers) for name in ("base", *(knobs.organisms if own else ()))}
    asked = [q for q in said["base"] if all(q in texts for texts in said.values())][: knobs.size.discriminate.questions]
    if len(asked) < 2:
        raise ValueError(
            f"{answers}: {len(asked)} discover questions to which {', '.join(said)} all said something; two are needed"
        )
    vectors = personas.of(models / "base", layer, threads=knobs.threads)
    base_QD, norm = harvested(models / "base", [said["base"][q] for q in asked], layer, knobs.threads)
    moved = []
    for name in knobs.organisms:
        tuned_QD, _ = harvested(models / name, [said[name if own else "base"][q] for q in asked], layer, knobs.threads)
        moved.append((tuned_QD - base_QD) / norm)
    norms = np.array([update_norm(models / name, knobs.threads) for name in knobs.organisms], np.float32)
    traits = {d.origin.removeprefix("persona:"): np.array(d.vector) for d in vectors}
    write(shifts, Shifts(tuple(knobs.organisms), tuple(asked), np.stack(moved), norms, traits))


def by_question(knobs: params.Params, model: str, answers: Path) -> dict[str, Completion]:
    """The first answer to each discover question of the first subject that questions the model as it stands; without a subject, none."""
    subject = knobs.subject_of(model)
    if subject is None:
        raise ValueError(f"subjects: none questions {model}, whose own answers are to be read (discriminate.texts)")
    rows = files.read(Completion, answers / f"{subject}.jsonl")
    return {row.question: row for row in reversed(rows) if row.set == "discover" and row.text}


def harvested(folder: Path, said: Sequence[Completion], layer: int, threads: int) -> tuple[np.ndarray, float]:
    """Mean activation over each answer [Q, D], and the mean residual norm of the answers' tokens."""
    model, tokenizer = zoo.load(folder, threads)
    ids = [(zoo.prompt_ids(tokenizer, row.prompt, row.system), zoo.answer_ids(tokenizer, row.text)) for row in said]
    return means(model, ids, layer, f"project {folder.name}")


def means(model: Any, ids: Sequence[tuple[list[int], list[int]]], layer: int, label: str | None = None) -> tuple[np.ndarray, float]:
    """(prompt ids, answer ids) pairs -> mean activation over each answer [T, D] and the mean residual norm over texts. No answer is empty."""
    read = {
        index: (acts_ND.mean(0).numpy(), float(acts_ND.norm(dim=-1).mean()))
        for index, acts_ND in zoo.harvest(model, ids, layer, progress=label)
    }
    return np.stack([read[n][0] for n in range(len(ids))]), float(np.mean([read[n][1] for n in range(len(ids))]))


def update_norm(folder: Path, threads: int) -> float:
    """Frobenius norm of the weights' change since the base, over all of them. Of an adapter on the base without multiplying it out; else two models are held
    in float32."""
    root = zoo.root_of(folder)
    if zoo.is_adapter(folder) and zoo.base_of(folder) == root:
        return float(rotation.gram(updates.by_module([folder]))[0, 0] ** 0.5)
    tuned, plain = (zoo.load(one, threads, "cpu")[0].parameters() for one in (folder, root))
    return sum(float((now - then).detach().double().square().sum()) for now, then in zip(tuned, plain, strict=True)) ** 0.5


def write(path: Path, found: Shifts) -> None:
    from safetensors.numpy import save

    tensors = {"moved": found.moved_OQD.astype(np.float32), "weight_norm": found.weight_norm_O.astype(np.float32)}
    tensors |= {f"persona:{trait}": vector.astype(np.float32) for trait, vector in found.personas.items()}
    names = json.dumps({"organisms": found.organisms, "questions": found.questions})
    files.replace(path, save(tensors, metadata={"names": names}))  # one key: several would be written in hash order


def read(path: Path) -> Shifts:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as kept:
        names = json.loads(kept.metadata()["names"])
        traits = {key.removeprefix("persona:"): kept.get_tensor(key) for key in sorted(kept.keys()) if key.startswith("persona:")}
        moved, norms = kept.get_tensor("moved"), kept.get_tensor("weight_norm")
    return Shifts(tuple(names["organisms"]), tuple(names["questions"]), moved, norms, traits)


if __name__ == "__main__":
    run(main)
