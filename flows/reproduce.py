"""reproduce: DVC's stale stages -> Prefect tasks with retries, then publish and the judges' drift alarm. No edge is restated here.

python flows/reproduce.py                       # a flow run, on the server of PREFECT_API_URL or on a passing one of its own
python flows/reproduce.py --studies rl hack     # and then studies, whose stages are tasks too
emis repro, emis study rl hack                  # the same without Prefect
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from emis_platform.core import quiet

quiet.apply()  # Prefect reads its settings when it is imported
os.environ.setdefault("PREFECT_HOME", str(Path(".prefect").resolve()))

from prefect import flow, task  # noqa: E402
from prefect.events.worker import EventsWorker  # noqa: E402
from prefect.logging.handlers import APILogWorker  # noqa: E402
from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402
from server import end_on_hangup, free_port, server  # noqa: E402

from emis_platform.core import files  # noqa: E402
from emis_platform.core.studies import load, points  # noqa: E402
from emis_platform.tools import graph, river, study  # noqa: E402


def worth_a_retry(_task: object, _run: object, state: object) -> bool:
    """Bad input stays bad: a stage that ended with code 2 is not run again."""
    return not isinstance(state.result(raise_on_failure=False), ValueError)


def run_as_task(stage: str) -> None:
    """`graph.run` as a task of the stage's name."""
    named = task(graph.run, name=stage, task_run_name=stage, retries=1, retry_condition_fn=worth_a_retry, persist_result=False)
    named(stage)


@task(name="drift", task_run_name="drift", persist_result=False)
def drift_alarm() -> None:
    """`emis drift` as a task. Raises RuntimeError, with all its lines, where a judge no longer says what it said."""
    from emis_platform.stages import drift

    found = drift.drift(update=False)
    print(*found.lines, sep="\n", flush=True)
    if found.alarm:
        raise RuntimeError("\n".join(["the judges drift:", *found.lines]))


@flow(name="reproduce")
def reproduce(workspace: str = ".", stages_only: bool = False, studies: Sequence[str] = ()) -> None:
    """Bring a workspace up to date, run what is left of the studies, and show what they found in the report.

    `stages_only` leaves out the check of params.yaml, publishing, the table and the drift alarm: for a DVC project of another kind.
    """
    with contextlib.chdir(workspace):
        if stages_only:
            graph.reproduce(run_one=run_as_task)
            return
        from emis_platform import cli
        from emis_platform.stages import publish

        check(studies)
        main_run = partial(river.reproduce_all, run_one=run_as_task, publish=publish.publish, effects=cli.summary)
        main_run()
        drift_alarm(return_state=True)  # a failed task of a run that is complete: its results stand
        if studies:
            failed = None
            try:
                study.run_all(studies, run_one=run_as_task)
            except RuntimeError as error:  # of some; what the others found is shown
                failed = error
            main_run()  # of which the report is left
            if failed:
                raise failed


def check(studies: Sequence[str]) -> None:
    """Raises ValueError, one line, for a study that is not there or has a fault."""
    knobs = files.read_yaml(Path("params.yaml"))
    for name in studies:
        points(name, *load(name), knobs)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bring everything up to date as a Prefect flow.")
    parser.add_argument(
        "--studies", nargs="+", default=[], metavar="NAME", help="studies that are run afterwards (docs/studies.md)"
    )
    studies = parser.parse_args().studies
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped too
    end_on_hangup()
    try:
        river.preflight()  # before a server is started
        check(studies)
        if os.environ.get("PREFECT_API_URL"):
            reproduce(studies=studies)
            return
        address = f"http://127.0.0.1:{(port := free_port())}/api"
        # not Prefect's own ephemeral server: Ctrl-C would end that one first, and the flow run wait for it for minutes
        with server(port, address, Path(os.environ["PREFECT_HOME"])), temporary_settings({PREFECT_API_URL: address}):
            try:
                reproduce(studies=studies)
            finally:  # what is still to be told, while there is someone to tell
                APILogWorker.drain_all(timeout=10)
                EventsWorker.drain_all(timeout=10)
    except ValueError as error:
        print(f"reproduce: {graph.one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        print(f"reproduce: {graph.one_line(error)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
