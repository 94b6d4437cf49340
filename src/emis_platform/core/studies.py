"""studies/<name>.yaml: a question, and what to change in params.yaml to answer it. What a study found: metrics/studies/<name>.json."""

import copy
import itertools
import json
import re
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from emis_platform.core import files, params
from emis_platform.core.knobs import Knobs
from emis_platform.core.records import Effect, Record

FOLDER, RESULTS = Path("studies"), Path("metrics/studies")


class Axis(Knobs):
    path: str = Field(min_length=1)
    """A dotted key of params.yaml: `organisms.health_callous.seed`."""
    values: tuple[Any, ...] = Field(min_length=1)


class Study(Knobs):
    """The key `study` of studies/<name>.yaml; all other keys are laid over params.yaml."""

    question: str = Field(min_length=1, pattern=r"^[^\n]*$")
    minutes: float = Field(gt=0)
    """Expected, on two cores."""
    targets: tuple[str, ...] = ()
    """Stages of dvc.yaml to bring up to date, with what they need; `train` is all of a foreach. None named: all."""
    sweep: Axis | tuple[Axis, ...] = ()
    """One workspace for each value; with several paths, for each combination."""
    seeds: tuple[int, ...] = ()
    """Values of the pipeline's `seed`, which are a sweep too; the effects are pooled over them."""

    fresh: bool = False
    """Nothing comes from the cache: what other runs have made is made again, and held against the repository's dvc.lock (`rerun_identical`)."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (self.sweep,) if isinstance(self.sweep, Axis) else self.sweep


class Asked(Record):
    """How a study is run other than its file says."""

    seeds: tuple[int, ...] = ()
    """In place of the file's; none: as the file says."""
    scale: str | None = None
    """In place of params.yaml's. What the file says of another scale's sizes then changes nothing."""

    @property
    def words(self) -> list[str]:
        """Of the command line."""
        seeds = ["--seeds", ",".join(map(str, self.seeds))] if self.seeds else []
        return seeds + (["--scale", self.scale] if self.scale else [])

    @property
    def place(self) -> str:
        """What its workspaces' folder ends in, beside the one of the study as it stands."""
        return "".join(f".{word.strip('-')}" for word in self.words)


class Point(Record):
    """One workspace of a study."""

    label: str
    """Its folder, `0.05,1`; empty without a sweep."""
    at: dict[str, Any]
    """Swept path -> value; no seed of `seeds`."""
    seed: int | None
    knobs: dict[str, Any]
    """The whole merged params.yaml."""


class StudyEffect(Effect):
    at: dict[str, Any] = {}
    """Swept path -> value."""
    seeds: int = 1
    """Seeds that the value is the mean of."""
    by_seed: dict[int, float | None] = {}
    """Each seed's own value; empty where the study sets no `seeds`."""


class Run(Record):
    """One finished workspace: <workspace>/study.result.json."""

    label: str
    at: dict[str, Any]
    seed: int | None
    date: str
    minutes: float
    """That its stages took, over all resumed runs; what came from the cache took none."""
    params_sha256: str
    """Of its params.yaml."""
    lock: str
    """sha256 of its dvc.lock."""
    code: str
    """The repository's commit when its code was copied."""
    machine: str
    """Processor and count."""
    effects: tuple[Effect, ...]
    parameters: int | None = None
    """Of its base, where the study sweeps over bases."""
    rewards: dict[str, tuple[dict[str, float], ...]] = {}
    """Organism that was trained by a reward -> what was logged, a row a step."""


class Found(Record):
    """What a study found: metrics/studies/<name>.json."""

    study: str
    question: str
    command: str
    date: str
    minutes: float
    params_sha256: str
    lock: str
    """Both of the one workspace; with a sweep, the sha256 of the runs' digests in their order."""
    code: str
    machine: str
    effects: tuple[StudyEffect, ...]
    sweep: dict[str, Any] | None = None
    """{"paths": [...], "seeds": [...], "runs": [each workspace's label, minutes and digests]}."""
    rewards: dict[str, tuple[dict[str, float], ...]] = {}
    """As of a run; `<label>/<organism>` with a sweep."""


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, asked: Asked | None = None) -> tuple[Study, dict[str, Any]]:
    """A study and its overlay, its minutes for as many seeds. Raises ValueError, one line, for the first fault."""
    params.one_of("study", name, names() or ["none"], f"{FOLDER}/{{}}.yaml")
    path = FOLDER / f"{name}.yaml"
    raw = files.read_yaml(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("study"), dict):
        raise ValueError(f"{path}: a mapping with the key `study` is needed")
    try:
        study, overlay = Study.model_validate(raw["study"]), {key: value for key, value in raw.items() if key != "study"}
    except ValidationError as error:
        fault = error.errors()[0]
        fault["loc"] = ("study", *(part for part in fault["loc"] if part not in ("Axis", "tuple[Axis, ...]")))
        raise ValueError(f"{path}: {params.explain(fault, Study)}") from None
    if asked and asked.seeds:
        times = len(asked.seeds) / max(1, len(study.seeds))
        study = study.model_copy(update={"seeds": asked.seeds, "minutes": study.minutes * times})
    return study, overlay | ({"scale": asked.scale} if asked and asked.scale else {})


def merged(below: Any, above: Any, where: str = "") -> Any:
    """`above` over `below`: mappings merge deeply, lists and scalars replace, null removes. Raises ValueError for nothing to remove."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return copy.deepcopy(above)
    out = copy.deepcopy(below)
    for key, value in above.items():
        if value is not None:
            out[key] = merged(below.get(key), value, f"{where}{key}.")
        elif key in below:
            del out[key]
        else:
            raise ValueError(f"{where}{key}: null removes an entry, and there is none; there is: {', '.join(map(str, below))}")
    return out


def points(name: str, study: Study, overlay: dict[str, Any], knobs: dict[str, Any]) -> list[Point]:
    """The study's workspaces, each with its params checked. knobs: params.yaml as read. Raises ValueError, one line."""
    where = f"{FOLDER}/{name}.yaml"
    try:
        base = merged(knobs, overlay)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    seeds = list(study.seeds) or [None]
    found = []
    for *values, seed in itertools.product(*(axis.values for axis in study.axes), seeds):
        at = {axis.path: value for axis, value in zip(study.axes, values, strict=True)}
        changed = copy.deepcopy(base)
        for path, value in (at | ({"seed": seed} if seed is not None else {})).items():
            put(changed, path, value, where)
        label = ",".join(map(word, values + ([seed] if seed is not None else [])))
        params.checked(changed, f"{where} {label}".strip())
        found.append(Point(label=label, at=at, seed=seed, knobs=changed))
    if len({point.label for point in found}) < len(found):
        raise ValueError(f"{where}: study.sweep: two workspaces of one name among {', '.join(point.label for point in found)}")
    return found


def put(knobs: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set a dotted key whose parent is there."""
    *folders, last = path.split(".")
    inner: Any = knobs
    for number, key in enumerate(folders):
        if not isinstance(inner, dict) or not isinstance(inner.get(key), dict):
            there = f"; there is: {', '.join(map(str, inner))}" if isinstance(inner, dict) else ""
            raise ValueError(f"{where}: study.sweep: {path}: no mapping {'.'.join(folders[: number + 1])}{there}")
        inner = inner[key]
    inner[last] = value


def word(value: Any) -> str:
    """A value as a part of a folder's name."""
    text = value if isinstance(value, str) else json.dumps(value, separators=("+", "-"))
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("_.") or "_"
