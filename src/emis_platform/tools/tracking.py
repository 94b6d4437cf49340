"""Runs, model versions and aliases -> MLflow: the only file that knows it. Every write is safe to repeat.

A run is whole when it carries the tag `identity`, written last: one without it is left of a killed publish, and `sweep` deletes it.
"""

import fcntl
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import time
import warnings
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from emis_platform.core import files, quiet
from emis_platform.core.records import Record

EXPERIMENT, LIVE = "emis", "live"
"""What was published; trainings while they run."""
DATABASE, ARTIFACTS = "mlruns/mlflow.db", "mlruns/artifacts"
ALIASES = ("most_misaligned", "realigned")
"""`latest` is MLflow's own word, reserved: `models:/<organism>@latest` is always the version with the highest number."""
OURS = {"publisher": "emis publish"}


class Row(Record):
    """One run to be: a subject's numbers with all that they stand on."""

    subject: str
    identity: str
    """sha256 of the dvc.lock entries behind it: a second run of the same identity is never made."""
    metrics: dict[str, float]
    curve: tuple[tuple[int, float], ...] = ()
    """(step, training loss)."""
    params: dict[str, str]
    tags: dict[str, str]
    tables: dict[str, list[dict[str, Any]]]
    """Artifact name without suffix -> rows of equal keys."""
    inputs: dict[str, tuple[str, Path]]
    """Context (`training`, `evaluation`) -> (name, JSON lines file); a datasheet beside the file (.md) is logged with it."""


def address(workspace: Path) -> str:
    """MLFLOW_TRACKING_URI, or the workspace's own SQLite file. A file is named from the root: a study's stages run in a folder of their own."""
    asked = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"
    return f"sqlite:///{workspace.resolve() / asked.removeprefix('sqlite:///')}" if asked.startswith("sqlite:///") else asked


def exists(workspace: Path, uri: str) -> bool:
    """False if the address is an SQLite file that is not there, so that looking makes none, or holds no experiment `emis`."""
    if not uri.startswith("sqlite:///"):
        return True
    path = workspace / uri.removeprefix("sqlite:///")
    if not path.exists():
        return False
    with closing(sqlite3.connect(path)) as database, suppress(sqlite3.Error):
        return (EXPERIMENT,) in database.execute("select name from experiments")
    return False


def connect(workspace: Path, uri: str, name: str | None = None) -> tuple[Any, str]:
    """A client and the id of an experiment (`emis`); makes database and experiment where there are none (seconds, once)."""
    quiet.apply()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    name = name or EXPERIMENT
    for library in ("mlflow", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)
    if uri.startswith("sqlite:///"):
        database = workspace.resolve() / uri.removeprefix("sqlite:///")
        uri = f"sqlite:///{database}"
        if not database.exists():
            create(database)
    client = MlflowClient(uri, uri)
    found = client.get_experiment_by_name(name)
    if found:
        return client, found.experiment_id
    location = (workspace.resolve() / ARTIFACTS).as_uri() if uri.startswith("sqlite:///") else None
    kind = {"mlflow.experimentKind": "custom_model_development"}
    try:
        return client, client.create_experiment(name, artifact_location=location, tags=kind)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return client, client.get_experiment_by_name(name).experiment_id  # another process was quicker


def create(database: Path) -> None:
    """An empty MLflow database, by a rename, unless another process makes it meanwhile. It is built in memory: on a disk its hundred
    migrations wait ten seconds for fsync."""
    from mlflow import MlflowClient

    database.parent.mkdir(parents=True, exist_ok=True)
    partial = database.with_name(f"{database.name}.partial")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with database.with_name(f"{database.name}.lock").open("w") as lock, tempfile.TemporaryDirectory(dir=memory) as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if database.exists():
            return
        uri = f"sqlite:///{folder}/mlflow.db"
        MlflowClient(uri, uri).search_experiments(max_results=1)
        with closing(sqlite3.connect(f"{folder}/mlflow.db")) as built, closing(sqlite3.connect(partial)) as target:
            built.backup(target)
        partial.replace(database)


def faults() -> tuple[type[Exception], ...]:
    """What a store that is locked, full or out of reach raises."""
    from mlflow.exceptions import MlflowException

    return MlflowException, OSError


def runs(client: Any, experiment: str) -> list[Any]:
    """All runs that were published from anywhere, whole or not."""
    found, page = [], None
    while page is None or page:
        answer = client.search_runs([experiment], f"tags.publisher = '{OURS['publisher']}'", max_results=1000, page_token=page)
        found, page = found + list(answer), answer.token or ""
    return found


def sweep(client: Any, found: list[Any], workspace: str) -> int:
    """Delete what a killed publish of this workspace left half-written; how many."""
    half = [run for run in found if "identity" not in run.data.tags and run.data.tags.get("workspace") == workspace]
    for run in half:
        client.delete_run(run.info.run_id)
    return len(half)


def add(client: Any, experiment: str, row: Row) -> Any:
    """Write one run whole; its identity goes last."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    run = client.create_run(experiment, now, OURS | {"workspace": row.tags["workspace"], "subject": row.subject}, row.subject)
    tables = json.dumps([{"path": f"{name}.json", "type": "table"} for name in row.tables])
    metrics = [Metric(name, value, now, 0) for name, value in row.metrics.items()]
    metrics += [Metric("train.loss", value, now, step) for step, value in row.curve]
    params = [Param(name, value[:6000]) for name, value in row.params.items()]
    tags = [RunTag(name, value[:8000]) for name, value in {**row.tags, "mlflow.loggedArtifacts": tables}.items()]
    for start in range(0, max(len(metrics), len(params) * 10, len(tags) * 10), 1000):
        tenth = slice(start // 10, start // 10 + 100)
        client.log_batch(run.info.run_id, metrics[start : start + 1000], params[tenth], tags[tenth])
    if row.inputs:
        client.log_inputs(run.info.run_id, [dataset(name, path, context) for context, (name, path) in row.inputs.items()])
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in row.tables.items():
            columns = list(rows[0]) if rows else []
            table = {"columns": columns, "data": [[item[column] for column in columns] for item in rows]}
            Path(folder, f"{name}.json").write_text(json.dumps(table, ensure_ascii=False))
        for name, path in row.inputs.values():
            if path.with_suffix(".md").exists():
                shutil.copyfile(path.with_suffix(".md"), Path(folder, f"datasheet_{name}.md"))
        client.log_artifacts(run.info.run_id, folder)
    client.set_terminated(run.info.run_id)
    client.log_batch(run.info.run_id, tags=[RunTag("current", "true"), RunTag("identity", row.identity)])
    return client.get_run(run.info.run_id)


def going(client: Any, experiment: str, name: str, tags: dict[str, str], began: float) -> tuple[str, int]:
    """The id of a training's run and the last step that it holds: the one of the same `training` and `workspace` that did not finish, now
    RUNNING again, or a new one and 0. began: seconds since 1970."""
    left = client.search_runs([experiment], f"tags.training = '{tags['training']}' and attributes.status != 'FINISHED'")
    run = next((run for run in left if run.data.tags.get("workspace") == tags["workspace"]), None)
    if run is None:
        from_here = {"mlflow.source.name": "emis", "mlflow.source.type": "LOCAL"}
        return client.create_run(experiment, int(began * 1000), tags | from_here, name).info.run_id, 0
    client.update_run(run.info.run_id, "RUNNING")
    held = [point.step for metric in run.data.metrics for point in client.get_metric_history(run.info.run_id, metric)]
    return run.info.run_id, max(held, default=0)


def extend(client: Any, run: str, rows: list[dict[str, Any]]) -> None:
    """Add the `values` of each row at its `step` and `time` (ms)."""
    from mlflow.entities import Metric

    metrics = [Metric(name, value, row["time"], row["step"]) for row in rows for name, value in row["values"].items()]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run, metrics[start : start + 1000])


def dataset(name: str, path: Path, context: str) -> Any:
    """A JSON lines file as a logged input; its digest is the start of the file's sha256."""
    import pandas
    from mlflow.data import from_pandas
    from mlflow.entities import DatasetInput, InputTag

    frame = pandas.read_json(path, lines=True, dtype=False, convert_dates=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = from_pandas(frame, source=str(path.resolve()), name=name, digest=files.sha256(path)[:32])
    return DatasetInput(data._to_mlflow_entity(), [InputTag("mlflow.data.context", context)])


def mark(client: Any, found: list[Any], workspace: str, current: set[str]) -> None:
    """Tag this workspace's runs `current` or not, so that one filter shows the present table."""
    for run in found:
        tags = run.data.tags
        wanted = str(tags.get("identity") in current).lower()
        if tags.get("workspace") == workspace and tags.get("identity") and tags.get("current") != wanted:
            client.set_tag(run.info.run_id, "current", wanted)


def versions(client: Any, organism: str) -> dict[str, Any]:
    """{hash of the train entry: model version}."""
    return {found.tags.get("train_entry", ""): found for found in client.search_model_versions(f"name = '{organism}'")}


def register(client: Any, organism: str, tags: dict[str, str], adapter: Path, run: Any) -> Any:
    """A new version whose source is a copy of the adapter folder among the run's artifacts."""
    if run.data.tags.get("adapter_of") != tags["train_entry"]:
        client.log_artifacts(run.info.run_id, str(adapter), "adapter")
        client.set_tag(run.info.run_id, "adapter_of", tags["train_entry"])
    if organism not in organisms(client):
        client.create_registered_model(organism, OURS, "A model organism of emergent misalignment: unsafe to deploy.")
    source = f"{run.info.artifact_uri}/adapter"
    return client.create_model_version(
        organism, source, run.info.run_id, tags, description=tags.get("notice"), await_creation_for=0
    )


def retag(client: Any, version: Any, tags: dict[str, str]) -> None:
    """Bring a version's tags up to date: its organism may have been judged anew."""
    for name, value in tags.items():
        if version.tags.get(name) != value:
            client.set_model_version_tag(version.name, version.version, name, value)


def organisms(client: Any) -> list[str]:
    """Names of the registered models that emis made."""
    found, page = [], None
    while page is None or page:
        answer = client.search_registered_models(max_results=100, page_token=page)
        found, page = (
            found + [model.name for model in answer if model.tags.get("publisher") == OURS["publisher"]],
            answer.token or "",
        )
    return found


def aliases(client: Any, organism: str) -> dict[str, str]:
    """{alias: version}, asked one by one: a search of registered models returns none (mlflow#16734)."""
    from mlflow.exceptions import MlflowException

    there = {}
    for alias in ("latest", *ALIASES):
        try:
            there[alias] = str(client.get_model_version_by_alias(organism, alias).version)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
    return there


def point(client: Any, wanted: dict[str, dict[str, str]]) -> None:
    """Set {organism: {alias: version}}, and take the two aliases away from every other organism."""
    for organism in organisms(client):
        there = aliases(client, organism)
        for alias in ALIASES:
            version = wanted.get(organism, {}).get(alias)
            if version is None and alias in there:
                client.delete_registered_model_alias(organism, alias)
            elif version is not None and there.get(alias) != version:
                client.set_registered_model_alias(organism, alias, version)


def registered(client: Any, current: set[str]) -> list[dict[str, Any]]:
    """The registry as plain data; `current` are the hashes of the train entries that dvc.lock has now."""
    found = []
    for organism in sorted(organisms(client)):
        there = aliases(client, organism)
        rows = [
            {
                "version": int(version.version),
                "aliases": [alias for alias, target in there.items() if target == str(version.version)],
                "current": entry in current,
                "run_id": version.run_id,
                "source": version.source,
                "lineage": dict(sorted(version.tags.items())),
            }
            for entry, version in versions(client, organism).items()
        ]
        rows.sort(key=lambda row: -row["version"])
        found.append({"organism": organism, "aliases": {alias: int(target) for alias, target in there.items()}, "versions": rows})
    return found
