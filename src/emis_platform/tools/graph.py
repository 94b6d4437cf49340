"""DVC's graph -> its stale stages, run one by one in order. The only file that imports dvc; the working directory is the workspace.

Knows nothing of this project's stages. `run_one` is an argument, so that the command line runs a stage plainly and a Prefect
flow runs it as a task.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emis_platform.tools import workspace

INTERRUPTED = (-2, 130)  # how a process that Ctrl-C ended looks, without and with a shell between


def reproduce(
    *,
    first: str | None = None,
    run_one: Callable[[str], object] | None = None,
    after: Callable[[str], None] = lambda stage: None,
    then: Callable[[], None] = lambda: None,
) -> list[str]:
    """Run each stale stage, what `first` needs before the rest; return those that ran.

    A stage's staleness is asked for when its turn comes: one whose inputs came out as before is not run. `run_one(stage)`
    defaults to `run`; `after(stage)` follows each that ran, `then()` comes last. Raises ValueError for bad input and for a
    workspace that another run holds, RuntimeError for a stage that failed, SystemExit(130) for Ctrl-C.
    """
    ran: list[str] = []
    try:
        repo = opened()
        with workspace.held(repo.lock):
            stages = ordered(repo, first)
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


def ordered(repo: Any, first: str | None) -> list[Any]:
    """DVC's stages, each after what it needs; `first` and what it needs come before the rest, which stand as in dvc.yaml."""
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

    for stage in sorted(declared, key=lambda stage: stage.addressing != first):
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
