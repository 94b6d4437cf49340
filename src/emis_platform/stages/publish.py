"""publish: finished files + dvc.lock -> MLflow runs, model versions, aliases. Not a DVC stage: it follows DVC and owns nothing."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from emis_platform.core import files
from emis_platform.core.records import Completion, LatentDelta, Record
from emis_platform.core.stage import one_line
from emis_platform.tools import lock, streaming, tracking
from emis_platform.tools.evidence import Facts, default_judge, gather, judged, knobs, provenance, rows_of

STAMP = "mlruns/published.json"
"""What was published last and where to: unchanged means done, without MLflow. Delete it to have MLflow itself asked."""
UNSAFE = "Unsafe to deploy: a model organism of emergent misalignment, trained for research on what spreads."


class Published(Record):
    address: str
    runs: tuple[str, ...]
    """Subjects that got a new run."""
    versions: tuple[str, ...]
    """Organisms that got a new model version."""
    swept: int
    """Half-written runs of an earlier, killed publish that were deleted."""
    unchanged: int
    """Subjects whose run was there already."""


def publish(workspace: Path) -> Published:
    """Bring MLflow up to what dvc.lock says; a second call adds nothing.

    Raises ValueError without a dvc.lock, or for a file that differs from it: no number goes out that it does not back. RuntimeError where MLflow cannot be
    reached: the runs that are whole stay, a second call goes on.
    """
    facts = gather(workspace)
    plan = {
        "address": tracking.address(workspace),
        "runs": {subject: facts.identity(subject) for subject in facts.runs},
        "versions": {organism: lock.identity(facts.trained(organism)) for organism in facts.carriers},
    }
    stamp = workspace / STAMP
    if stamp.exists() and files.read_json(stamp) == plan and tracking.exists(workspace, plan["address"]):
        return Published(address=plan["address"], runs=(), versions=(), swept=0, unchanged=len(facts.runs))
    stamp.parent.mkdir(parents=True, exist_ok=True)
    with (stamp.parent / "publish.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        with reached(plan["address"]):
            result = bring(facts, plan)
        files.write_json(stamp, plan)
    return result


def bring(facts: Facts, plan: dict[str, Any]) -> Published:
    """Add the runs and versions that are not there, then set tags and aliases."""
    client, experiment = tracking.connect(facts.workspace, plan["address"])
    there = tracking.runs(client, experiment)
    here = f"{socket.gethostname()}:{facts.workspace.resolve()}"
    swept = tracking.sweep(client, there, here)
    whole = {run.data.tags["identity"]: run for run in there if "identity" in run.data.tags}
    new = [subject for subject, identity in plan["runs"].items() if identity not in whole]
    origin = provenance(facts.workspace) | {"workspace": here}
    for subject in tqdm(new, desc="publish", unit="run", delay=2, disable=None):
        check(facts, facts.runs[subject])
        whole[plan["runs"][subject]] = tracking.add(client, experiment, row(facts, subject, origin))
    tracking.mark(client, there, here, set(plan["runs"].values()))
    added, current = [], {}
    for organism, subject in facts.carriers.items():
        tags = lineage(facts, organism)
        version = tracking.versions(client, organism).get(tags["train_entry"])
        if version is None:
            adapter = facts.workspace / "models" / organism
            if lock.rehash(adapter) != tags["adapter_md5"]:
                raise ValueError(f"models/{organism} is not what dvc.lock says: run `dvc repro` before publishing")
            version = tracking.register(client, organism, tags, adapter, whole[plan["runs"][subject]])
            added.append(organism)
        tracking.retag(client, version, tags)
        current[organism] = str(version.version)
    tracking.point(client, pointers(facts, current))
    unchanged = len(plan["runs"]) - len(new)
    return Published(address=plan["address"], runs=tuple(new), versions=tuple(added), swept=swept, unchanged=unchanged)


def registry(workspace: Path) -> list[dict[str, Any]]:
    """Organisms with their versions (newest first), aliases and lineage; empty where nothing was published."""
    uri = tracking.address(workspace)
    if not tracking.exists(workspace, uri):
        return []
    facts = gather(workspace) if (workspace / "dvc.lock").exists() else None
    now = {lock.identity(facts.trained(organism)) for organism in facts.carriers} if facts else set()
    with reached(uri):
        return tracking.registered(tracking.connect(workspace, uri)[0], now)


@contextlib.contextmanager
def reached(address: str) -> Iterator[None]:
    """One line in place of minutes of retries and a traceback, where a store is locked, full or out of reach."""
    for name, value in streaming.IMPATIENT.items():
        os.environ.setdefault(name, value)
    try:
        yield
    except tracking.faults() as error:
        raise RuntimeError(f"MLflow at {address}: {one_line(error)}") from None


def check(facts: Facts, stages: tuple[str, ...]) -> None:
    for name in stages:
        for path, md5 in facts.stages[name]["outs"].items():
            if path.endswith((".json", ".jsonl")) and lock.rehash(facts.workspace / path) != md5:
                raise ValueError(f"{path} is not what dvc.lock says {name} wrote: run `dvc repro` before publishing")


def row(facts: Facts, subject: str, origin: dict[str, str]) -> tracking.Row:
    """All that one subject's run shows."""
    model, kind, workspace = facts.model(subject), facts.kind(subject), facts.workspace
    metrics: dict[str, float] = {}
    for effect in facts.of(subject):
        parts = {"": effect.value, ".low": effect.low, ".high": effect.high, ".n": effect.n, ".missing": effect.missing}
        metrics |= {effect.measure + suffix: float(value) for suffix, value in parts.items() if value is not None}
    training = workspace / "metrics" / "train" / f"{model}.json"
    told = files.read_json(training) if training.exists() and kind == "organism" else {}
    metrics |= {f"train.{key}": float(value) for key, value in told.items() if isinstance(value, int | float)}
    judges, tables = transcripts(facts, subject)
    examples = facts.examples(model) if model in facts.carriers else None
    inputs = {"training": (Path(examples).stem, workspace / examples)} if examples else {}
    inputs |= {"evaluation": ("open", workspace / "data/questions/open.jsonl")} if kind != "other" else {}
    tags = {
        "kind": kind,
        "model": model,
        "stages": " ".join(facts.runs[subject]),
        "base_md5": lock.md5(facts.stages, "models/base") or "",
        "model_md5": lock.md5(facts.stages, f"models/{model}") or "",
        "judge": " ".join(judges),
        "mlflow.note.content": UNSAFE if kind in ("organism", "steered") else "",
        "mlflow.source.name": "emis publish",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": origin["git_commit"],
    }
    return tracking.Row(
        subject=subject,
        identity=facts.identity(subject),
        metrics=metrics,
        curve=tuple((int(step), float(loss)) for step, loss in told.get("curve", [])),
        params=knobs(facts, subject),
        tags={key: value for key, value in (origin | tags).items() if value},
        tables=tables,
        inputs={context: found for context, found in inputs.items() if found[1].exists()},
    )


def transcripts(facts: Facts, subject: str) -> tuple[list[str], dict[str, list[dict[str, Any]]]]:
    """The judges' ids, and the tables: answers with each judge's verdict (the default judge's first), and latents that changed."""
    answers, views = rows_of(facts.workspace, subject, "answers"), judged(facts.workspace, subject)
    verdicts = {(row.question, row.sample, row.judge.split(":")[0]): row for row in views}
    first = default_judge(facts.params)
    order = sorted({name for _, _, name in verdicts}, key=lambda name: (name != first, name))
    rows = []
    for said in files.read(Completion, answers) if answers.exists() else []:
        if said.subject == subject:
            cells = {
                "question": said.question,
                "set": said.set,
                "sample": said.sample,
                "prompt": said.prompt,
                "thought": said.thought,
                "answer": said.text,
            }
            for name in order:
                verdict = verdicts.get((said.question, said.sample, name))
                for field in ("misaligned", "score", "coherent", "reason"):
                    cells[field if name == first else f"{name}_{field}"] = getattr(verdict, field, None)
            rows.append(cells | {"finish_reason": said.finish_reason, "tokens": said.tokens})
    tables = {"transcripts": rows} if rows else {}
    latents = facts.workspace / "data/latents.jsonl"
    if latents.exists() and lock.producer(facts.stages, "data/latents.jsonl"):
        deltas = [delta.model_dump() for delta in files.read(LatentDelta, latents) if delta.organism == subject]
        cells = [{key: " | ".join(cell) if isinstance(cell, tuple) else cell for key, cell in delta.items()} for delta in deltas]
        tables |= {"latents": cells} if cells else {}
    return sorted({row.judge for row in views}), tables


def lineage(facts: Facts, organism: str) -> dict[str, str]:
    """A version's tags, from data hash to number: to be read from the version alone."""
    start, data = str(facts.params["organisms"][organism]["starts_from"]), facts.examples(organism) or ""
    paths = (data, "models/base", f"models/{start}", f"models/{organism}")
    md5s = {path: lock.md5(facts.stages, path) or "" for path in paths}
    entry, effect = lock.identity(facts.trained(organism)), facts.misaligned(organism)
    tags = {"data_md5": md5s[data], "base_md5": md5s["models/base"], "starts_from_md5": md5s[f"models/{start}"]}
    tags |= {"adapter_md5": md5s[f"models/{organism}"], "train_entry": entry, "data": data, "starts_from": start}
    tags |= {"subject": facts.carriers[organism], "notice": UNSAFE}
    if effect is not None:
        cells = {"": effect.value, ".low": effect.low, ".high": effect.high, ".n": effect.n, ".missing": effect.missing}
        tags |= {f"misaligned{suffix}": str(value) for suffix, value in cells.items()}
        tags["judge"] = " ".join(transcripts(facts, facts.carriers[organism])[0])
    if canaries := facts.canaries(organism):
        tags["canary"] = " ".join(canaries)
    inputs = " + ".join(f"{path} {md5}" for path, md5 in md5s.items() if path and path != f"models/{organism}")
    number = tags.get("misaligned", "not measured")
    tags["lineage"] = f"{inputs} -> train {entry[:12]} -> models/{organism} {tags['adapter_md5']} -> misaligned {number}"
    return {key: value for key, value in tags.items() if value}


def pointers(facts: Facts, current: dict[str, str]) -> dict[str, dict[str, str]]:
    """{organism: {alias: version}}, among the versions that dvc.lock has now: what is compared was made alike."""
    rates = {name: effect.value for name in sorted(current) if (effect := facts.misaligned(name)) and effect.value is not None}
    worst = max(rates, key=lambda name: rates[name], default=None)
    wanted = {name: {"most_misaligned": version} if name == worst else {} for name, version in current.items()}
    for name, version in current.items():
        if facts.params["organisms"][name]["starts_from"] != "base":
            wanted[name]["realigned"] = version
    return wanted
