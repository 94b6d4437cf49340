"""verify: outputs against dvc.lock, effects against the committed reference intervals -> what differs. Not a DVC stage."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from emis_platform.core import files
from emis_platform.core.records import Effect, Record
from emis_platform.tools import evidence, lock

PACKAGES = ("torch", "transformers", "peft", "trl", "sae-lens", "lm_eval", "numpy", "scikit-learn", "dvc", "mlflow")


class Verdict(Record):
    rehashed: int
    """Outputs that dvc.lock names."""
    mismatches: tuple[str, ...]
    compared: int
    """Effects held against a reference interval."""
    outside: tuple[str, ...]
    notes: tuple[str, ...]
    """Both machines, and why nothing was compared, if so."""

    @property
    def ok(self) -> bool:
        return not self.mismatches and not self.outside


def rehash(workspace: Path, stages: dict[str, lock.Entry]) -> tuple[list[str], list[str]]:
    """(every output that dvc.lock names, a line for each that is not as it says)."""
    outs = [(name, path, md5) for name, entry in stages.items() for path, md5 in entry["outs"].items()]
    mismatches = []
    for name, path, md5 in tqdm(outs, desc="rehash", unit="out", delay=2, disable=None):
        there = lock.rehash(workspace / path)
        if there != md5:
            mismatches.append(f"{path} ({name}): dvc.lock says {md5}, there is {there or 'nothing'}")
    return [path for _, path, _ in outs], mismatches


def verify(workspace: Path) -> Verdict:
    """Raises ValueError without a dvc.lock; a missing output is a mismatch, a missing reference a note."""
    stages = lock.read(workspace)
    outs, mismatches = rehash(workspace, stages)
    here = snapshot(workspace, stages)
    path = workspace / evidence.REFERENCE
    if not path.exists():
        return verdict(
            outs, mismatches, 0, [], [f"no {evidence.REFERENCE}: no intervals to compare with", f"here: {machine(here)}"]
        )
    there = files.read_json(path)
    notes = [f"here: {machine(here)}", f"reference: {machine(there)}", *differing(here["machine"], there["machine"])]
    if here["scale"] != there["scale"]:
        notes.append(f"not compared: scale here is {here['scale']}, the reference is of {there['scale']}")
        return verdict(outs, mismatches, 0, [], notes)
    ours = {(row["subject"], row["measure"]): Effect.model_validate(row) for row in here["effects"]}
    wanted = [Effect.model_validate(row) for row in there["effects"] if row["low"] is not None and row["high"] is not None]
    outside = [line for reference in wanted if (line := compare(ours.get((reference.subject, reference.measure)), reference))]
    return verdict(outs, mismatches, len(wanted), outside, notes)


def verdict(outs: list[Any], mismatches: list[str], compared: int, outside: list[str], notes: list[str]) -> Verdict:
    return Verdict(rehashed=len(outs), mismatches=tuple(mismatches), compared=compared, outside=tuple(outside), notes=tuple(notes))


def compare(ours: Effect | None, reference: Effect) -> str | None:
    """None if our value lies in the reference interval, both ends included; else what is wrong."""
    name = f"{reference.subject} {reference.measure}"
    assert reference.low is not None and reference.high is not None
    interval = f"the reference has [{reference.low:.4g}, {reference.high:.4g}]"
    if ours is None and reference.measure.endswith("_ppi"):
        return None  # labels count for the very texts that were read: another machine's answers have none (lab/rates.corrected)
    if ours is None:
        return f"{name}: not here; {interval}"
    if ours.value is None:
        return f"{name}: no value (missing {ours.missing}); {interval}"
    return None if reference.low <= ours.value <= reference.high else f"{name}: {ours.value:.4g}; {interval}"


def snapshot(workspace: Path, stages: dict[str, lock.Entry] | None = None) -> dict[str, Any]:
    """This workspace's effects with the machine they were read on: what metrics/reference.json holds."""
    found = evidence.effects(workspace, stages if stages is not None else lock.read(workspace))
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {
        "machine": {"cpu": evidence.cpu(), "python": platform.python_version(), "packages": packages},
        "scale": files.read_yaml(workspace / "params.yaml")["scale"],
        "effects": [effect.model_dump() for rows in found.values() for effect in rows],
    }


def commit_reference(workspace: Path) -> Path:
    """Write metrics/reference.json from this workspace; to be committed by hand. Raises ValueError, and writes nothing, where an output is not what dvc.lock says."""
    _, mismatches = rehash(workspace, lock.read(workspace))
    if mismatches:
        raise ValueError(f"{len(mismatches)} outputs are not what dvc.lock says; `emis repro` first. The first: {mismatches[0]}")
    files.write_json(workspace / evidence.REFERENCE, snapshot(workspace))
    return workspace / evidence.REFERENCE


def machine(found: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(found["machine"]["packages"].items()))
    return f"{found['machine']['cpu']}, Python {found['machine'].get('python', '?')}, {packages}"


def differing(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """Each CPU or package version that is not the reference's."""
    pairs = [("cpu", here["cpu"], there["cpu"])]
    pairs += [(name, here["packages"].get(name), version) for name, version in sorted(there["packages"].items())]
    return [f"differs: {name}: here {ours}, reference {theirs}" for name, ours, theirs in pairs if ours != theirs]
