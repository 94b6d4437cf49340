"""schedule: the `reproduce` flow on a clock, one run at a time, against a real Prefect server.

python flows/schedule.py                       # every night at three (UTC), with a server of its own on 127.0.0.1
python flows/schedule.py --every 3600
python flows/schedule.py --studies rl hack     # each run goes on with what is left of them
PREFECT_API_URL=http://127.0.0.1:4200/api python flows/schedule.py     # a server that is there already
"""

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from server import end_on_hangup, server

from emis_platform.core import quiet
from emis_platform.tools import river


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the reproduce flow on a clock, one run at a time.")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--cron", default="0 3 * * *", help="minute hour day month weekday, UTC (default: %(default)s)")
    when.add_argument("--every", type=float, metavar="SECONDS", help="an interval in place of --cron")
    parser.add_argument("--port", type=int, default=4200, help="of the server that is started here (default: %(default)s)")
    parser.add_argument("--stages-only", action="store_true", help="no check of params.yaml, no publishing: another DVC project")
    parser.add_argument("--studies", nargs="+", default=[], metavar="NAME", help="studies that are run after the main run")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped too
    end_on_hangup()
    quiet.apply()
    home = Path(os.environ.setdefault("PREFECT_HOME", str(Path(".prefect").resolve())))
    theirs = os.environ.get("PREFECT_API_URL")
    address = os.environ.setdefault("PREFECT_API_URL", f"http://127.0.0.1:{given.port}/api")  # read when Prefect is imported
    try:
        if not given.stages_only:
            river.preflight()
            from reproduce import check

            check(given.studies)
        clock = schedule(given.cron, given.every)
        with contextlib.nullcontext() if theirs else server(given.port, address, home):
            serve(clock, address, given.stages_only, given.studies)
    except ValueError as error:
        print(f"schedule: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def schedule(cron: str, every: float | None) -> Any:
    """A Prefect schedule: `every` seconds if given, else `cron`. Raises ValueError, one line."""
    from prefect.schedules import Cron, Interval

    if every is not None and every <= 0:
        raise ValueError(f"--every: seconds above 0 are needed, this is {every}")
    try:
        return Cron(cron) if every is None else Interval(every)
    except ValueError:
        raise ValueError(f"--cron: minute hour day month weekday, this is {cron!r}") from None


def serve(clock: Any, address: str, stages_only: bool, studies: list[str]) -> None:
    """Register the schedule and run what falls due, until Ctrl-C or SIGTERM; a run that has begun is let finish."""
    from prefect.runner import Runner
    from reproduce import reproduce

    # Prefect's own leaves the schedule unpaused, and waits for ever where the runner is stopping already
    Runner.handle_sigterm = lambda *_: signal.raise_signal(signal.SIGINT)

    print(
        f"{clock.cron or clock.interval}: fires while this command runs; an ephemeral server, as one flow run has, never fires\n"
        f"UI: {address.removesuffix('/api')}   Ctrl-C stops both",
        flush=True,
    )
    reproduce.serve(
        name="schedule",
        schedule=clock,
        limit=1,
        parameters={"workspace": str(Path.cwd()), "stages_only": stages_only, "studies": studies},
        print_starting_message=False,
    )


if __name__ == "__main__":
    main()
