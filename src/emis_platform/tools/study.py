"""studies/<name>.yaml -> a workspace of its own for each of its values -> metrics/studies/<name>.json.

A workspace is a copy of the files that no stage makes (30 MB), not a set of links, so that a running study does not see the repository
change; its stages import the copied code. It shares the repository's DVC cache, run cache included, and starts with the repository's
dvc.lock: what a study has in common with the main run, or with another study, is restored and not run.
"""

import contextlib
import fcntl
import filecmp
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from emis_platform.core import files, studies
from emis_platform.core.records import Effect
from emis_platform.core.studies import RESULTS, Asked, Found, Point, Run, Study, StudyEffect
from emis_platform.lab import pooling
from emis_platform.report import pictures
from emis_platform.tools import evidence, graph, lock, river, shapes, tracking

WORKSPACES, TRAINING, BASE = Path("work/studies"), Path("metrics/train"), Path("models/base")
FIGURES = Path("metrics/figures")
AS_IT_STANDS = Asked()
SIZED = "bases.base"
"""A sweep over it is one over models, whose sizes may be told apart."""
BESIDE = (".dvc/config", ".dvcignore", "dvc.yaml")
LISTED, RESULT, TIMES = "study.sources.json", "study.result.json", "study.seconds.json"


def run_all(names: Sequence[str], *, dry: bool = False, asked: Asked = AS_IT_STANDS, **how: Any) -> None:
    """`run` of each, with the same options. One that fails does not hold up the others; RuntimeError names those that did. ValueError for a bad overlay, before the first runs."""
    loaded = {name: studies.load(name, asked) for name in names}
    for name, (study, overlay) in loaded.items():
        studies.points(name, study, overlay, files.read_yaml(Path("params.yaml")))
    expected = sum(study.minutes for study, _ in loaded.values())
    if len(names) > 1 and not dry:
        print(f"{len(names)} studies, about {expected:g} min if nothing of them is cached: {', '.join(names)}", flush=True)
    failed = {}
    for name in names:
        try:
            run(name, dry=dry, asked=asked, **how)
        except (RuntimeError, ValueError) as error:
            if len(names) == 1:
                raise
            failed[name] = str(error)
            print(f"study {name} failed: {error}", flush=True)
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(names)} studies failed: {', '.join(failed)}")


def run(
    name: str,
    *,
    only: str | None = None,
    dry: bool = False,
    jobs: int = 1,
    asked: Asked = AS_IT_STANDS,
    run_one: Callable[[str], object] | None = None,
) -> None:
    """Run a study, or what is left of it, and write its results once all its workspaces are done.

    only: one workspace by its value; dry: say what would run; jobs: workspaces at a time; asked: other seeds or scale than the file says;
    run_one: as in `graph.reproduce`, where one workspace runs at a time. Raises ValueError for bad input and where
    the study runs already, RuntimeError for a stage that failed.
    """
    study, overlay = studies.load(name, asked)
    points, place = studies.points(name, study, overlay, files.read_yaml(Path("params.yaml"))), f"{name}{asked.place}"
    labels = [point.label for point in points]
    if only is not None and only not in labels:
        there = (
            f"no value {only}; there is: {', '.join(labels)}"
            if study.axes or study.seeds
            else f"{name} has one workspace, no sweep"
        )
        raise ValueError(f"--only: {there}")
    chosen = [point for point in points if only in (None, point.label)]
    if dry:
        for point in chosen:
            plan(place, study, point)
        return
    if jobs > 1 and len(chosen) > 1:
        at_once(name, chosen, jobs, asked)
    else:
        for point in chosen:
            print(f"study {name} {point.label}".rstrip(), flush=True)
            finish(place, study, point, run_one)
    if only is None:
        print(collect(name, study, points, asked), flush=True)
    else:
        print(
            f"{only} is finished; `{command(name, asked)}` writes {RESULTS}/{name}.json once all of {len(points)} are", flush=True
        )


def command(name: str, asked: Asked) -> str:
    return " ".join(["emis study", name, *asked.words])


def plan(name: str, study: Study, point: Point) -> None:
    """Make the workspace, bring back what the cache has, and print the stages that are left to run."""
    with ready(name, point, fresh=study.fresh):
        stages, left = graph.restore(study.targets)
    heading = f"{folder(name, point)}: {len(stages)} stages, {len(left)} would run"
    print(f"{heading} (the whole study, at the seeds and scale of its file: {study.minutes:g} min)", *left, sep="\n  ")


def finish(name: str, study: Study, point: Point, run_one: Callable[[str], object] | None = None) -> None:
    """Bring one workspace up to date and keep its effects in it; a finished one is only looked through."""
    machine, code = processor(), evidence.commit(Path("."))
    made, made_by = (lock.read(Path(".")), reference_cpu()) if study.fresh else ({}, None)
    with ready(name, point, fresh=study.fresh):
        river.preflight()
        graph.restore(study.targets)
        seconds = files.read_json(Path(TIMES)) if Path(TIMES).exists() else {}
        clock = time.monotonic()

        def after(stage: str) -> None:
            nonlocal clock
            now = time.monotonic()
            seconds[stage], clock = round(now - clock, 1), now
            files.write_json(Path(TIMES), seconds)

        ran = graph.reproduce(targets=study.targets, run_one=run_one, after=after)
        knobs, locked = files.sha256(Path("params.yaml")), files.sha256(Path("dvc.lock"))
        old = finished(Path(RESULT))
        if old and (old.params_sha256, old.lock) == (knobs, locked) and not (study.fresh and ran):
            return  # of a second run as well: another machine that only looks at it has not run it
        found = Run(
            label=point.label,
            at=point.at,
            seed=point.seed,
            date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
            minutes=round(sum(seconds.values()) / 60, 1),
            params_sha256=knobs,
            lock=locked,
            code=code,
            machine=machine,
            effects=(*effects(), *([identical(made, lock.read(Path(".")), made_by)] if study.fresh else [])),
            parameters=shapes.read(BASE).parameters if SIZED in point.at else None,
            rewards={
                path.stem: told["rl"] for path in sorted(TRAINING.glob("*.json")) if (told := files.read_json(path)).get("rl")
            },
        )
        files.write_json(Path(RESULT), found.model_dump(mode="json"))


def effects() -> tuple[Effect, ...]:
    """All effects of the working directory, as its own copy of `emis effects` lists them."""
    asked = subprocess.run([sys.executable, "-m", "emis_platform.cli", "effects", "--json"], capture_output=True, text=True)
    if asked.returncode:
        raise RuntimeError(asked.stderr.strip() or f"emis effects ended with {asked.returncode} in {Path.cwd()}")
    return tuple(Effect.model_validate(row) for row in json.loads(asked.stdout))


def reference_cpu() -> str | None:
    """The processor that the repository's run was made on, as `emis verify --write-reference` noted it with the run."""
    return files.read_json(evidence.REFERENCE)["machine"]["cpu"] if evidence.REFERENCE.exists() else None


def identical(made: dict[str, lock.Entry], again: dict[str, lock.Entry], made_by: str | None = None) -> Effect:
    """`rerun_identical`: share of the outputs that a second run made to the same bytes; every output is looked at, so its interval is the value. Says
    which differ. Made by another processor it is `rerun_identical_elsewhere`, another question: rounding differs between them, and a training carries it on.

    Missing: outputs of stages whose params, code or files that no stage makes have changed since the first run.
    """
    outs = {path for entry in again.values() for path in entry["outs"]}
    made_here = lambda path: any(out == path or out.startswith(f"{path}/") for out in outs)  # noqa: E731
    given = lambda entry: (entry["params"], {path: md5 for path, md5 in entry["deps"].items() if not made_here(path)})  # noqa: E731
    same = {name for name, entry in again.items() if name in made and given(made[name]) == given(entry)}
    pairs = {path: (md5, made[name]["outs"].get(path)) for name in same for path, md5 in again[name]["outs"].items()}
    if not pairs:
        raise ValueError("dvc.lock: no stage of it was run again as it stands; bring it up to date with `emis repro` first")
    if differ := sorted(path for path, (one, other) in pairs.items() if one != other):
        print(f"{len(differ)} of {len(pairs)} outputs differ:", *differ, sep="\n  ", flush=True)
    share = 1 - len(differ) / len(pairs)
    elsewhere = made_by not in (None, evidence.cpu())
    return Effect(
        subject="rerun",
        measure="rerun_identical_elsewhere" if elsewhere else "rerun_identical",
        value=share,
        low=share,
        high=share,
        n=len(pairs),
        missing=len(outs) - len(pairs),
    )


def at_once(name: str, points: list[Point], jobs: int, asked: Asked) -> None:
    """Several workspaces at a time, a process each; what it says goes to study.log in its workspace."""
    running: list[subprocess.Popen[bytes]] = []

    def one(point: Point) -> int:
        log = folder(f"{name}{asked.place}", point) / "study.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        print(f"study {name} {point.label}: {log}", flush=True)
        with log.open("wb") as out:
            words = [sys.executable, "-m", "emis_platform.cli", "study", name, f"--only={point.label}", *asked.words]
            running.append(subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT))
            return running[-1].wait()

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    pool = ThreadPoolExecutor(jobs)
    try:
        codes = dict(zip([point.label for point in points], pool.map(one, points), strict=True))
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()
        raise
    finally:
        pool.shutdown()
        signal.signal(signal.SIGTERM, before)
    if bad := [label for label, code in codes.items() if code]:
        raise RuntimeError(f"{', '.join(bad)} failed; see study.log in {WORKSPACES / f'{name}{asked.place}'}/<value>")


def collect(name: str, study: Study, points: list[Point], asked: Asked) -> str:
    """Write metrics/studies/<name>.json and its figures from the workspaces' results, if all are there; returns a line that says so. What was asked at `tiny` stays
    beside its workspaces."""
    runs = [
        run
        for point in points
        if (run := finished(folder(f"{name}{asked.place}", point) / RESULT)) and run.params_sha256 == digest(point)
    ]
    if len(runs) < len(points):
        return f"{len(runs)} of {len(points)} workspaces are finished; {RESULTS}/{name}.json is written when all are"
    swept = bool(study.axes or study.seeds)
    together = lambda digests: hashlib.sha256("\n".join(digests).encode()).hexdigest() if swept else digests[0]  # noqa: E731
    told = [run.model_dump(mode="json", exclude={"effects", "code", "machine", "rewards"}) for run in runs]
    found = Found(
        study=name,
        question=study.question,
        command=command(name, asked),
        date=max(run.date for run in runs),
        minutes=round(sum(run.minutes for run in runs), 1),
        params_sha256=together([run.params_sha256 for run in runs]),
        lock=together([run.lock for run in runs]),
        code=", ".join(sorted({run.code for run in runs})),
        machine=", ".join(sorted({run.machine for run in runs})),
        effects=(*pooled(runs), *slopes(runs)),
        sweep={"paths": [axis.path for axis in study.axes], "seeds": list(study.seeds), "runs": told} if swept else None,
        rewards={f"{run.label}/{name}" if swept else name: rows for run in runs for name, rows in run.rewards.items()},
    )
    whole = found.model_dump(mode="json")
    if not swept:
        whole["effects"] = [effect.model_dump() for effect in runs[0].effects]
    if asked.scale == "tiny":  # walks the stages; its numbers are no results
        trial = WORKSPACES / f"{name}{asked.place}" / f"{name}.json"
        files.write_json(trial, whole)
        return f"{trial}: {len(found.effects)} effects of a trial; {RESULTS} keeps what it has"
    result, note = RESULTS / f"{name}.json", RESULTS / f"{name}.md"
    old = files.sha256(result) if result.exists() else None
    files.write_json(result, whole)
    drawn = pictures.of_study(found)
    for path, text in drawn.items():
        files.replace(FIGURES / path, text)
    for path in set(FIGURES.glob(f"{name}.*.svg")) - {FIGURES / path for path in drawn}:
        path.unlink()
    told = f"{result}: {len(found.effects)} effects, {found.minutes:g} min of stages"
    return (
        f"{told}; {note} was written to other results: is it still true?" if note.exists() and files.sha256(result) != old else told
    )


def pooled(runs: list[Run]) -> tuple[StudyEffect, ...]:
    """Effects of all workspaces, those of equal swept values pooled over seeds; in the order in which they come."""
    rows: dict[tuple[str, str, str], list[tuple[Run, Effect]]] = {}
    for run in runs:
        for effect in run.effects:
            rows.setdefault((json.dumps(run.at), effect.subject, effect.measure), []).append((run, effect))
    return tuple(
        StudyEffect(
            **pooling.over_seeds([effect for _, effect in row]).model_dump(),
            at=row[0][0].at,
            seeds=sum(effect.value is not None for _, effect in row),
            by_seed={run.seed: effect.value for run, effect in row if run.seed is not None},
        )
        for row in rows.values()
    )


def slopes(runs: list[Run]) -> list[StudyEffect]:
    """`size_slope` of each subject's misaligned share over the sizes of the swept bases, where there are three and more, with all else equal."""
    size = {json.dumps(run.at): run.parameters for run in runs}
    rows: dict[tuple[str, str], list[tuple[int, StudyEffect]]] = {}
    for effect in pooled(runs):
        parameters = size[json.dumps(effect.at)]
        if effect.measure == "misaligned" and parameters:
            beside = {path: value for path, value in effect.at.items() if path != SIZED}
            rows.setdefault((json.dumps(beside), effect.subject), []).append((parameters, effect))
    found = []
    for (beside, _), row in rows.items():
        if slope := pooling.over_sizes(row, "size_slope"):
            seeds = min(effect.seeds for _, effect in row if effect.seeds)
            found.append(StudyEffect(**slope.model_dump(), at=json.loads(beside), seeds=seeds))
    return found


def listing() -> list[tuple[str, ...]]:
    """Name, workspaces, expected minutes, date of the results, question: a heading, then one row a study."""
    rows: list[tuple[str, ...]] = [("study", "workspaces", "minutes", "finished", "question")]
    knobs = files.read_yaml(Path("params.yaml"))
    for name in studies.names():
        try:
            study, overlay = studies.load(name)
            count = len(studies.points(name, study, overlay, knobs))
        except ValueError as error:  # of one file: the others can be run
            rows.append((name, "", "", "faulty", str(error)))
            continue
        result = RESULTS / f"{name}.json"
        done = str(files.read_json(result)["date"]) if result.exists() else "not yet"
        rows.append((name, str(count), f"{study.minutes:g}", done, study.question))
    return rows


@contextlib.contextmanager
def ready(name: str, point: Point, *, fresh: bool = False) -> Iterator[None]:
    """Stand in the point's workspace, made or brought up to date, with its code before any other; held against a second `emis study`.
    Its trainings are seen live where the repository's are."""
    home, seen, before = folder(name, point), tracking.address(Path.cwd()), dict(os.environ)
    (home / ".dvc/tmp").mkdir(parents=True, exist_ok=True)
    with (home / ".dvc/tmp/study.lock").open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            raise ValueError(f"this study runs already in {home} (process {held.read().strip()})") from None
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        make(home, point, fresh=fresh)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str((home / "src").resolve()), before.get("PYTHONPATH")]))
        os.environ["MLFLOW_TRACKING_URI"] = seen
        try:
            with contextlib.chdir(home):
                yield
        finally:
            for name in ("PYTHONPATH", "MLFLOW_TRACKING_URI"):
                os.environ.pop(name)
                os.environ |= {name: before[name]} if name in before else {}


def make(home: Path, point: Point, *, fresh: bool = False) -> None:
    """Copy what differs from the repository's files, and drop what the repository no longer has. Safe to repeat, and to kill. fresh: with a cache of
    its own, and without the repository's dvc.lock."""
    sources = graph.sources()
    if outside := [path for path in sources if path.is_absolute() or ".." in path.parts]:
        raise ValueError(f"dvc.yaml: a study cannot take {outside[0]} along: it lies outside of {Path.cwd()}")
    code = [path for path in Path("src").rglob("*") if not path.match("*.egg-info/*") and "__pycache__" not in path.parts]
    wanted = {path for path in (*sources, *code, *map(Path, BESIDE)) if path.is_file()}
    if not fresh:
        wanted -= {
            path for path in RESULTS.glob("*") if path.suffix in (".json", ".md")
        }  # a study does not depend on what another one found
    listed = home / LISTED
    for gone in {Path(path) for path in (files.read_json(listed) if listed.exists() else [])} - wanted:
        (home / gone).unlink(missing_ok=True)
    files.write_json(listed, sorted(path.as_posix() for path in wanted))
    for path in sorted(wanted):
        take(path, home / path)
    cache, kinds = graph.cache()
    cache = home / ".dvc/cache" if fresh else cache
    commas = ",".join(kinds)
    settings = f'[core]\nno_scm = true\n[cache]\ndir = "{cache.resolve()}"\ntype = {commas}\n'
    write(home / ".dvc/config.local", settings)
    write(home / "params.yaml", text(point))
    if not fresh and Path("dvc.lock").exists() and not (home / "dvc.lock").exists():
        files.replace(home / "dvc.lock", Path("dvc.lock").read_bytes())


def take(source: Path, target: Path) -> None:
    if target.exists() and filecmp.cmp(source, target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    shutil.copy2(source, partial)
    partial.replace(target)


def write(path: Path, content: str) -> None:
    """Only what differs, so that its time stays."""
    if not path.exists() or path.read_text() != content:
        files.replace(path, content)


def folder(name: str, point: Point) -> Path:
    return WORKSPACES / name / point.label


def text(point: Point) -> str:
    """The point's params.yaml. Folders that no stage makes are named from the root: relative to a workspace they would be others."""

    def named(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: named(inner, name) for name, inner in value.items()}
        mine = key in ("path", "folder", "model") and isinstance(value, str) and not value.startswith(("models/", "data/"))
        return Path(value).resolve().as_posix() if mine and (key == "path" or ("/" in value and Path(value).is_dir())) else value

    parts = ("bases", "dictionary", "generated", "judges", "cards")
    return yaml.safe_dump({key: named(value) if key in parts else value for key, value in point.knobs.items()}, sort_keys=False)


def digest(point: Point) -> str:
    return hashlib.sha256(text(point).encode()).hexdigest()


def finished(path: Path) -> Run | None:
    return Run.model_validate(files.read_json(path)) if path.exists() else None


def processor() -> str:
    """`2 x <model>`, without the machine's name."""
    return f"{os.cpu_count()} x {evidence.cpu()}"
