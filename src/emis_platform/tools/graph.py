"""DVC's graph -> its stale stages, run one by one in order. The only file that imports dvc; the working directory is the workspace.

Knows nothing of this project's stages. `run_one` is an argument, so that the command line runs a stage plainly and a Prefect
flow runs it as a task.
"""

import difflib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from emis_platform.tools import workspace

INTERRUPTED = (-2, 130)  # how a process that Ctrl-C ended looks, without and with a shell between


def reproduce(
    *,
    first: str | None = None,
    targets: Collection[str] = (),
    run_one: Callable[[str], object] | None = None,
    after: Callable[[str], None] = lambda stage: None,
    then: Callable[[], None] = lambda: None,
) -> list[str]:
    """Run each stale stage, what `first` needs before the rest; return those that ran. `targets`: only these and what they need.

    A stage's staleness is asked for when its turn comes: one whose inputs came out as before is not run. `run_one(stage)`
    defaults to `run`; `after(stage)` follows each that ran, `then()` comes last. Raises ValueError for bad input and for a
    workspace that another run holds, RuntimeError for a stage that failed, SystemExit(130) for Ctrl-C.
    """
    ran: list[str] = []
    try:
        repo = opened()
        with workspace.held(repo.lock):
            stages = ordered(repo, first, targets)
            stale = stale_ones(repo, stages)
            print(f"{len(stages)} stages, {len(stale)} to bring up to date", flush=True)
            for number, stage in enumerate(stages, start=1):
                if stage not in stale or not is_stale(repo, stage):
                    continue
                name, start = stage.addressing, time.monotonic()
                print(f"── {name} ({number} of {len(stages)})", flush=True)
                (run_one or run)(name)
                print(f"   {name}: {time.monotonic() - start:.0f} s", flush=True)
                ran.append(name)
                after(name)
            then()
    except KeyboardInterrupt:
        print("\nstopped; finished work is kept; run again to go on", file=sys.stderr)
        raise SystemExit(130) from None
    except busy() as error:
        raise ValueError(f"another DVC command is at work in {Path.cwd()}: {one_line(error)}") from None
    return ran


def plan(first: str | None = None) -> list[tuple[str, bool]]:
    """Every stage's name in the order of running, and whether it, or what it needs, is stale by DVC's own status."""
    repo = opened()
    stages = ordered(repo, first)
    stale = stale_ones(repo, stages)
    return [(stage.addressing, stage in stale) for stage in stages]


def ordered(repo: Any, first: str | None, targets: Collection[str] = ()) -> list[Any]:
    """DVC's stages, each after what it needs; `first` and what it needs come before the rest, which stand as in dvc.yaml.

    `targets`: names (`train`: all of a foreach) to which to keep, with what they need. Raises ValueError for one that is not there.
    """
    from dvc.exceptions import DvcException

    try:
        graph, declared = repo.index.graph, repo.index.stages  # an edge leads from a stage to one that it needs
    except DvcException as error:
        raise ValueError(f"dvc.yaml: {one_line(error)}") from None
    done: dict[Any, None] = {}

    def visit(stage: Any) -> None:
        if stage not in done:
            for need in declared:
                if graph.has_edge(stage, need):
                    visit(need)
            done[stage] = None

    there = {name for stage in declared if stage.cmd for name in (stage.addressing, stage.addressing.split("@")[0])}
    for name in targets:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            raise ValueError(f"targets: no stage {name}" + (f" (did you mean {near[0]}?)" if near else "") + " in dvc.yaml")
    wanted = [s for s in declared if not targets or {s.addressing, s.addressing.split("@")[0]} & set(targets)]
    for stage in sorted(wanted, key=lambda stage: stage.addressing != first):
        visit(stage)
    return [stage for stage in done if stage.cmd]


def stale_ones(repo: Any, stages: list[Any]) -> set[Any]:
    """The stale stages of an ordered list, and all that need one of them."""
    stale: set[Any] = set()
    for stage in stages:
        if any(repo.index.graph.has_edge(stage, other) for other in stale) or is_stale(repo, stage):
            stale.add(stage)
    return stale


def is_stale(repo: Any, stage: Any) -> bool:
    """DVC's own answer: command, dependencies, parameters or outputs differ from dvc.lock."""
    with repo.lock:
        return stage.changed()


def restore(targets: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Bring back the outputs of every stage whose result lies in DVC's cache, and run nothing: (all stages, those left to run).

    Raises ValueError for a workspace that another run holds.
    """
    repo = opened()
    with workspace.held(repo.lock):
        stages, left = ordered(repo, None, targets), []
        for stage in stages:
            waits = any(repo.index.graph.has_edge(stage, other) for other in left)
            if waits or (is_stale(repo, stage) and not restored(repo, stage)):
                left.append(stage)
    return [stage.addressing for stage in stages], [stage.addressing for stage in left]


def restored(repo: Any, stage: Any) -> bool:
    """Bring back a stale stage's outputs as dvc.lock has them, or else as an equal run left them; False if they are not in the cache."""
    from dvc.exceptions import DvcException

    try:
        with repo.lock:
            locked = not stage.changed_stage() and stage.deps_cached() and all(out.hash_info for out in stage.outs)
            if not locked:
                stage.save_deps()
                for out in stage.outs:
                    out.hash_info = type(out.hash_info)()
            repo.stage_cache.restore(stage, dry=True)
            if locked:
                stage.remove_outs()
                repo.stage_cache.restore(stage)
    except (DvcException, OSError):
        return False
    if not locked:
        run(stage.addressing)  # writes dvc.lock, which takes longer the more stages it has
    return True


def sources() -> list[Path]:
    """The files that stages read and no stage writes or wrote: what a copy of this workspace needs beside dvc.yaml."""
    from emis_platform.core import files

    repo = opened()
    locked = (files.read_yaml(Path("dvc.lock")) or {}).get("stages", {}) if Path("dvc.lock").exists() else {}
    made = {Path(out["path"]) for entry in locked.values() for out in entry.get("outs") or []}
    made |= {Path(os.path.relpath(out.fs_path)) for stage in repo.index.stages if stage.cmd for out in stage.outs}
    found: set[Path] = set()
    for path in {Path(os.path.relpath(dep.fs_path)) for stage in repo.index.stages for dep in stage.deps} - made:
        inner = path.rglob("*") if path.is_dir() else [path]
        found |= {p for p in inner if p.is_file() and not ({p, *p.parents} & made) and "__pycache__" not in p.parts}
    return sorted(path for path in found if not path.name.endswith(".partial"))


def cache() -> tuple[Path, list[str]]:
    """The folder of DVC's cache, run cache included, and the kinds of link that lead from it into a workspace."""
    repo = opened()
    return Path(repo.cache.local_cache_dir), list(repo.cache.local.cache_types)


def run(stage: str) -> None:
    """Run one stage as `dvc repro --single-item` does, its output on the terminal, unless DVC's run cache has the result.

    Raises ValueError if it ended with code 2 (bad input, told by the stage in a line of its own), KeyboardInterrupt if Ctrl-C
    ended it, RuntimeError for every other end.
    """
    from dvc.exceptions import DvcException, ReproductionError

    here = str(Path(sys.executable).parent)  # a stage's `python` is this one
    if os.environ.get("PATH", "").split(os.pathsep)[0] != here:
        os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", "")])
    try:
        opened().reproduce(stage, single_item=True)
    except ReproductionError as error:
        cause = error.__cause__ or error
        code = re.search(r"exited with (-?\d+)$", str(cause))
        if code and int(code[1]) in INTERRUPTED:
            raise KeyboardInterrupt from None
        if code and int(code[1]) == 2:
            raise ValueError(f"{stage}: bad input, see the line above") from None
        if isinstance(cause, busy()):
            raise cause from None
        if isinstance(cause, OSError):
            raise ValueError(f"{stage}: {cause.strerror}: {cause.filename}") from None
        raise RuntimeError(f"{stage}: {one_line(cause)}") from None
    except DvcException as error:
        raise ValueError(f"{stage}: {one_line(error)}") from None


def opened() -> Any:
    """The workspace as DVC sees it now, quiet unless something is wrong."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    url = os.environ.get("EMIS_DVC_REMOTE")
    remote = {"core": {"remote": "environment"}, "remote": {"environment": {"url": url}}} if url else None
    try:
        return Repo(".", config=remote)
    except NotDvcRepoError:
        raise ValueError(f"no DVC workspace in {Path.cwd()}") from None


def move(way: str) -> int:
    """`push` or `pull` every output to or from DVC's remote (EMIS_DVC_REMOTE, or the one in .dvc/config); returns how many outputs that was."""
    from dvc.exceptions import DvcException

    repo = opened()
    if not repo.config["core"].get("remote"):
        raise ValueError(
            f"{way}: no DVC remote; set EMIS_DVC_REMOTE to a folder or an address, or add one with `dvc remote add -d`"
        )
    try:
        done = getattr(repo, way)(run_cache=True)
    except DvcException as error:
        raise ValueError(f"{way}: {one_line(error)}") from None
    return done if isinstance(done, int) else len(done["added"]) + len(done["modified"])


def track(path: str) -> str:
    """`dvc add`: a file that no stage makes gets a hash of its own in <path>.dvc, and goes along with push and pull."""
    from dvc.exceptions import DvcException

    try:
        opened().add(path)
    except DvcException as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    return f"tracked by {path}.dvc"


def busy() -> type[Exception]:
    from dvc.lock import LockError

    return LockError


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
