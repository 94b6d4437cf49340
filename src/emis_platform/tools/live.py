"""transformers callback: a training's numbers -> a process beside it (tools/streaming.py), which shows them in MLflow while they come.

The training itself knows no MLflow: it writes lines into a pipe. So no import, lock, server or fork of the other side costs it time or changes
what it computes, and when it is killed the other side still says so.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from emis_platform.tools.resuming import say

PROCESS = "emis_platform.tools.streaming"
"""Named, not imported: what shows a training decides nothing in it, and is no part of the code that DVC has it depend on."""
ALWAYS = {name: name for name in ("loss", "learning_rate", "grad_norm")}
PATIENCE = 20.0
"""Seconds that a training waits at its end for the last of it to arrive, at most; usually well below one."""


@contextmanager
def curves(
    organism: str, key: str, *, trainer: str, seed: int, logged: Mapping[str, str] = ALWAYS, monitor: Any = None
) -> Iterator[Any]:
    """A callback to train with inside: what is logged, and what the monitor saw, goes to a run named after the organism.

    key: names the training, as resuming.place does; a run of it that did not finish goes on. logged: transformers' name -> ours. Leaving with
    an exception makes the run FAILED, with KeyboardInterrupt KILLED, as does a kill. Nothing is shown where EMIS_LIVE is 0.
    """
    from transformers import TrainerCallback

    if os.environ.get("EMIS_LIVE") == "0":
        yield TrainerCallback()
        return
    stream = Stream()
    stream.tell({"organism": organism, "trainer": trainer, "seed": str(seed), "training": key})

    class Curves(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            values = {ours: float(logs[name]) for name, ours in logged.items() if name in (logs or {})}
            if values and monitor and monitor.curve and monitor.curve[-1]["step"] == state.global_step:
                values |= {f"persona/{name}": monitor.curve[-1][name] for name in ("drift", *monitor.vectors)}
            if values:
                stream.tell({"step": state.global_step, "time": int(time.time() * 1000), "values": values})

    status = "FAILED"
    try:
        yield Curves()
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        stream.tell({"status": status})
        stream.end()


class Stream:
    """Rows to the process that shows them. What goes wrong ends it with one line on stderr, and nothing else."""

    process: subprocess.Popen[str] | None = None

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in ("DVC_STAGE", "DVC_ROOT")}  # it is no stage
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", PROCESS],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=kept,
                start_new_session=True,  # Ctrl-C is the training's
            )
        except OSError as error:
            off(str(error))

    def tell(self, row: dict[str, Any]) -> None:
        if self.process is None:
            return
        try:
            self.process.stdin.write(json.dumps(row) + "\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            self.end()

    def end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        try:
            said = process.communicate(timeout=PATIENCE)[1].splitlines()
        except subprocess.TimeoutExpired:
            off(f"MLflow has not answered for {PATIENCE:g} s")
            return
        if process.returncode:
            off(said[-1] if said else f"{PROCESS} ended with {process.returncode}")


def off(reason: str) -> None:
    say(f"no live curves: {reason}")
