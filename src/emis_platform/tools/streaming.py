"""Lines on stdin -> a run in MLflow's experiment `live`: the process beside a training, started by tools/live.py. It ends with its input.

The first line has the run's tags; then come {"step", "time" (ms), "values": {name: number}} and last {"status"}. Input that ends without a
status is of a training that was killed.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from emis_platform.core import quiet
from emis_platform.core.stage import one_line

EVERY = 5.0
"""Seconds from one batch to the next; a batch costs some 10 ms of a core with SQLite."""
LAST = 120
"""Seconds without a batch that got through, and seconds after the end of the input, at which it gives up."""
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's own would try for minutes; what the user set stands."""


def follow(tags: dict[str, str], lines: list[str], over: threading.Event, workspace: Path) -> None:
    """Write what `lines` grows by, until `over` is set. Raises what MLflow raises: at once as the run begins, after LAST later on."""
    from emis_platform.tools import tracking

    began = time.time()
    client, experiment = tracking.connect(workspace, tracking.address(workspace), tracking.LIVE)
    tags |= {"workspace": f"{socket.gethostname()}:{workspace.resolve()}"}
    run, known = tracking.going(client, experiment, tags["organism"], tags, began)
    sent, through, ended, status = 0, time.monotonic(), False, "KILLED"
    while not ended:
        ended = over.wait(EVERY)
        rows = [json.loads(line) for line in lines[sent:]]
        try:
            tracking.extend(client, run, [row for row in rows if row.get("step", 0) > known])
        except tracking.faults():  # of the store: what is wrong with the rows or with this file is told at once
            if ended or time.monotonic() - through > LAST:
                raise
            continue
        sent, through = sent + len(rows), time.monotonic()
        status = rows[-1].get("status", status) if rows else status
    client.set_terminated(run, status)


def read(lines: list[str], over: threading.Event) -> None:
    """Take all that comes as it comes, so that the training never waits."""
    for line in sys.stdin:
        if line.endswith("\n"):  # else it was killed in the midst of one
            lines.append(line)
    signal.alarm(LAST)
    over.set()


def main() -> None:
    os.nice(10)
    quiet.apply()
    for name, value in IMPATIENT.items():
        os.environ.setdefault(name, value)
    tags = json.loads(sys.stdin.readline())
    lines: list[str] = []
    over = threading.Event()
    threading.Thread(target=read, args=(lines, over), daemon=True).start()
    try:
        follow(tags, lines, over, Path.cwd())
    except Exception as error:
        sys.exit(one_line(error)[:300])
    os._exit(0)  # at once: all is written, a training may be waiting, and MLflow's modules take long to tidy up


if __name__ == "__main__":
    main()
