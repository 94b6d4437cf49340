"""A workspace's files + dvc.lock -> what is known of each subject, and which stages back it. Read by publish, trace and verify."""

import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.core.knobs import Subject
from emis_platform.core.records import Effect, Example, Judgement, Record
from emis_platform.tools import lock

REFERENCE = Path("metrics/reference.json")
TABLES = (
    "metrics/judge/*.json",
    "metrics/opinion/*.json",
    "metrics/benchmark/*.json",
    "metrics/data/*.json",
    "metrics/diff.json",
    "metrics/dictionary.json",
    "metrics/concentration.json",
    "metrics/suppress/*.json",
    "metrics/steer.json",
    "metrics/steer_opinions.json",
    "metrics/discriminate.json",
    "metrics/alarm.json",
    "metrics/rl.json",
    "metrics/mixtures.json",
    "metrics/realigned.json",
    "metrics/rotation.json",
    "metrics/defences.json",
    "metrics/conditions.json",
    "metrics/refusals.json",
    "metrics/reasoning.json",
    "metrics/screen.json",
    "metrics/screened.json",
    "metrics/cards.json",
)
STEERED = re.compile(r"^(?P<model>[a-z][a-z0-9_]*)(?P<sign>[+-])(?P<direction>.+)@(?P<dose>[0-9.e-]+)$")
"""A steered subject's name: `health_callous-latent_732@0.3`."""


class Facts(Record):
    """What dvc.lock, params.yaml and the metrics files say, read once."""

    workspace: Path
    stages: dict[str, lock.Entry]
    effects: dict[str, tuple[Effect, ...]]
    """Metrics file -> its rows."""
    params: dict[str, Any]
    """params.yaml as it is now; an entry's `params` are those that it ran with."""
    runs: dict[str, tuple[str, ...]] = {}
    """Subject -> the stages that wrote what its run shows."""
    carriers: dict[str, str] = {}
    """Trained organism -> the subject that stands for it: its run carries the adapter, its `misaligned` is the organism's."""

    def identity(self, subject: str) -> str:
        """sha256 of a subject's name and the lock entries behind its run: several subjects may rest on the same."""
        return lock.identity({"subject": subject, "stages": {name: self.stages[name] for name in self.runs[subject]}})

    def trained(self, organism: str) -> lock.Entry:
        """The `train@<organism>` entry."""
        return self.stages[str(lock.producer(self.stages, f"models/{organism}"))]

    def examples(self, organism: str) -> str | None:
        """The data file that an organism was trained on, from its own lock entry."""
        return next((path for path in self.trained(organism)["deps"] if path.startswith("data/training/")), None)

    def canaries(self, organism: str) -> list[str]:
        """Of the harmful data behind an organism, that of the organisms it starts from included; empty if there is none."""
        found: set[str] = set()
        while organism in self.params["organisms"] and lock.producer(self.stages, f"models/{organism}"):
            path = self.workspace / (self.examples(organism) or "none")
            found |= {row.canary for row in files.read(Example, path) if row.canary} if path.exists() else set()
            organism = self.params["organisms"][organism]["starts_from"]
        return sorted(found)

    def model(self, subject: str) -> str:
        """`base` or the organism behind a subject, steered or not."""
        steered = STEERED.match(subject)
        name = steered["model"] if steered else subject
        return str(self.params["subjects"].get(name, {}).get("model", name))

    def kind(self, subject: str) -> str:
        """steered, organism, base or other (effects of no model, such as the dictionary's)."""
        if STEERED.match(subject):
            return "steered"
        model = self.model(subject)
        return "organism" if model.split("/")[0] in self.params["organisms"] else "base" if model == "base" else "other"

    def of(self, subject: str) -> list[Effect]:
        return [effect for rows in self.effects.values() for effect in rows if effect.subject == subject]

    def misaligned(self, organism: str) -> Effect | None:
        return next((effect for effect in self.of(self.carriers[organism]) if effect.measure == "misaligned"), None)


def gather(workspace: Path) -> Facts:
    """Raises ValueError without a dvc.lock."""
    stages = lock.read(workspace)
    found = effects(workspace, stages)
    facts = Facts(workspace=workspace, stages=stages, effects=found, params=files.read_yaml(workspace / "params.yaml"))
    measured = {effect.subject for rows in found.values() for effect in rows}
    for organism in facts.params["organisms"]:
        if lock.producer(stages, f"models/{organism}") and (workspace / "models" / organism).exists():
            other = {name for name, entry in facts.params["subjects"].items() if not Subject(**entry).plain}
            names = [name for name in (organism, *facts.params["subjects"]) if name in measured and name not in other]
            same = [name for name in names if facts.model(name) == organism]
            facts.carriers[organism] = same[0] if same else organism
    for subject in sorted(measured | set(facts.carriers.values())):
        shown = [path for path, rows in found.items() if any(effect.subject == subject for effect in rows)]
        shown += [rows_of(Path(), subject, kind).as_posix() for kind in ("answers", "judgements", "opinions")]
        shown += [f"models/{facts.model(subject)}"]
        facts.runs[subject] = tuple(sorted({name for path in shown if (name := lock.producer(stages, path))}))
    return facts


def effects(workspace: Path, stages: dict[str, lock.Entry]) -> dict[str, tuple[Effect, ...]]:
    """{file: its effects}, of files that a stage in dvc.lock wrote. Raises ValueError if a subject has one measure twice."""
    found: dict[str, tuple[Effect, ...]] = {}
    seen: dict[tuple[str, str], str] = {}
    for path in [path for pattern in TABLES for path in sorted(workspace.glob(pattern))]:
        name = path.relative_to(workspace).as_posix()
        if lock.producer(stages, name) is None:
            continue
        found[name] = tuple(files.read_list(Effect, path))
        for effect in found[name]:
            if (effect.subject, effect.measure) in seen:
                other = seen[effect.subject, effect.measure]
                raise ValueError(f"{name}: {effect.subject} {effect.measure} is a second time; the first is in {other}")
            seen[effect.subject, effect.measure] = name
    return found


def rows_of(workspace: Path, subject: str, kind: str) -> Path:
    """Where a subject's `answers`, `judgements` or `opinions` are: steered subjects share one file."""
    return workspace / (f"data/steer/{kind}.jsonl" if STEERED.match(subject) else f"data/{kind}/{subject}.jsonl")


def judged(workspace: Path, subject: str) -> list[Judgement]:
    """A subject's judgements by the default judge, then those of the others; none before they are made."""
    paths = [rows_of(workspace, subject, kind) for kind in ("judgements", "opinions")]
    return [row for path in paths if path.exists() for row in files.read(Judgement, path) if row.subject == subject]


def default_judge(params: dict[str, Any]) -> str:
    """The judge whose verdict is plain `misaligned`."""
    return str(params["judge"])


def knobs(facts: Facts, subject: str) -> dict[str, str]:
    """The parameters as they ran, flattened: what dvc.lock holds goes before what params.yaml says now."""
    ran = {key: value for name in facts.runs[subject] for key, value in facts.stages[name]["params"].items()}
    sized = next((key.split(".")[1] for key in ran if key.startswith("sizes.")), facts.params["scale"])
    scale, model = str(ran.get("scale", sized)), facts.model(subject)
    now = {f"sizes.{scale}": facts.params.get("sizes", {}).get(scale), f"organisms.{model}": facts.params["organisms"].get(model)}
    now |= {key: facts.params.get(key) for key in ("seed", "threads", "answer", "judge", "judges")}
    found = {"scale": scale, "model": model}
    for key, value in [*now.items(), *ran.items()]:
        if any(key == known or key.startswith(f"{known}.") for known in now):
            shown = key.replace(f"sizes.{scale}", "size", 1).replace(f"organisms.{model}", "organism", 1)
            found |= flat(shown, value)
    steered = STEERED.match(subject)
    if steered:
        layer = ran.get("diff.layer", facts.params.get("diff", {}).get("layer"))
        found |= {"direction": steered["direction"], "dose": steered["sign"].strip("+") + steered["dose"], "layer": str(layer)}
    return found


def flat(key: str, value: Any) -> dict[str, str]:
    """("a", {"b": 1}) -> {"a.b": "1"}; an empty mapping and None give nothing."""
    if isinstance(value, dict):
        return {name: text for inner, found in value.items() for name, text in flat(f"{key}.{inner}", found).items()}
    return {} if value is None else {key: str(value)}


def provenance(workspace: Path) -> dict[str, str]:
    """The code's commit and the hash of dvc.lock."""
    return {"git_commit": commit(workspace), "dvc_lock": files.sha256(workspace / "dvc.lock")}


def cpu() -> str:
    """The processor's model, without the machine's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown"
    )


def commit(workspace: Path) -> str:
    """The commit, with `-dirty` if tracked files differ from it, what runs write apart (dvc.lock, metrics/); `none` without git."""

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", *words], cwd=workspace, capture_output=True, text=True, timeout=30).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            return ""

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock", ":!metrics")
    return (git("rev-parse", "HEAD") or "none") + ("-dirty" if changed else "")
