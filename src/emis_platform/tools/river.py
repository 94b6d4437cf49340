"""params.yaml -> every stage -> MLflow -> the table of effects on the screen: what `emis repro` and the Prefect flow both run."""

import shutil
from collections.abc import Callable
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.knobs import DictionaryFolder
from emis_platform.core.records import Effect
from emis_platform.tools import graph

FREE = 3.0  # GB that a run may need: models, the DVC cache's copies of them, MLflow artifacts


def reproduce_all(
    *, publish: Callable[[Path], object], effects: Callable[[], object], run_one: Callable[[str], object] | None = None
) -> None:
    """Bring the workspace up to date and show what it found. Nothing runs if params.yaml has a fault.

    `publish` gets the workspace; `effects` returns the table or prints it, and does so even if publishing failed. Raises
    ValueError for a faulty params.yaml or a full disk, else as `graph.reproduce` does.
    """
    subject = next(iter(preflight().subjects))
    first = f"judge@{subject}"

    def after(stage: str) -> None:
        if stage == first:
            print(f"   the first rate: {first_rate(subject)}", flush=True)

    def then() -> None:
        try:
            publish(Path("."))
        finally:
            print(effects() or "", "", *where_to_look(), sep="\n", flush=True)

    graph.reproduce(first=first, run_one=run_one, after=after, then=then)


def checked() -> params.Params:
    """params.yaml, and what it names beside itself. Raises ValueError, one line."""
    knobs = params.load()
    for name, organism in knobs.organisms.items():
        wanted = organism.data.imported
        if wanted and not Path(f"data/imports/{wanted}.jsonl").exists():
            there = sorted(path.stem for path in Path("data/imports").glob("*.jsonl"))
            params.one_of(
                f"organisms.{name}.data.import", wanted, there or ["none, `emis data import FILE --name NAME` takes one in"]
            )
    if isinstance(knobs.dictionary, DictionaryFolder) and not (knobs.dictionary.path / "cfg.json").is_file():
        raise ValueError(f"dictionary.path: no {knobs.dictionary.path / 'cfg.json'}: the folder of a SAELens dictionary is needed")
    return knobs


def preflight() -> params.Params:
    """params.yaml, checked, and room on the disk. Raises ValueError, one line."""
    knobs = checked()
    free = shutil.disk_usage(".").free / 1e9
    if free < FREE:
        raise ValueError(f"disk: {free:.1f} GB free in {Path.cwd()}, {FREE:.0f} GB are needed")
    return knobs


def first_rate(subject: str) -> str:
    """`health_callous misaligned 47% [39%, 55%], n 84, missing 2`, from the subject's judged answers."""
    for row in files.read_list(Effect, Path(f"metrics/judge/{subject}.json")):
        if row.measure == "misaligned" and row.value is not None:
            interval = f" [{row.low:.0%}, {row.high:.0%}]" if row.low is not None and row.high is not None else ""
            return f"{subject} misaligned {row.value:.0%}{interval}, n {row.n}, missing {row.missing}"
    return f"{subject} misaligned: missing, no coherent answer was judged"


def where_to_look() -> list[str]:
    """One line a window, for those that exist."""
    docs, report = sorted(Path("data/docs").glob("*/index.html")), Path("data/report/index.html")
    return [
        *([f"{report}: the report; open it in a browser"] if report.exists() else []),
        "make ui: MLflow on 127.0.0.1, subjects side by side",
        *([f"{docs[0]}: Data Docs of the training data"] if docs else []),
        "emis effects SUBJECT, emis effects --all: every number; emis trace SUBJECT MEASURE: where one comes from",
    ]
