"""A workspace -> held by one run: a lock that dies with its process, and the traces of a killed run cleared away."""

import fcntl
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def held(dvc_lock: AbstractContextManager[Any]) -> Iterator[None]:
    """Hold the working directory. SIGTERM ends the run as Ctrl-C does; a stage never outlives it.

    Raises ValueError that names the process if another run, ours or plain `dvc repro`, is at work here.
    """
    tmp = Path(".dvc/tmp")
    tmp.mkdir(exist_ok=True)
    with (tmp / "reproduce.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise taken(lock.read().strip()) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        with dvc_lock:
            forget_the_dead(tmp / "rwlock")
        for process in stage_processes():
            print(f"ending a stage (process {process.pid}) that a killed run left behind", flush=True)
            end(process)
        main = threading.current_thread() is threading.main_thread()
        ours = main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # Prefect sets its own
        if ours:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            yield
        finally:
            if ours:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for process in stage_processes():
                end(process)


def forget_the_dead(rwlock: Path) -> None:
    """Drop DVC's list of readers and writers if a killed run left it.

    DVC by itself forgets a process that is gone, but stops at a half-written list, and at a number that belongs to another
    process by now (after a restart of a container, say): one that started after the list was last written.
    """
    import psutil

    try:
        listed = json.loads(rwlock.read_text())
    except FileNotFoundError:
        return
    except json.JSONDecodeError:
        listed = {}
    rows = [*listed.get("write", {}).values(), *(row for rows in listed.get("read", {}).values() for row in rows)]
    for pid in {row["pid"] for row in rows} - {os.getpid()}:
        try:
            started = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            continue
        if started <= rwlock.stat().st_mtime:
            raise taken(pid)
    rwlock.unlink()


def taken(pid: int | str) -> ValueError:
    return ValueError(f"another run (process {pid}) is at work in {Path.cwd()}; wait for it, or stop it and run again")


def stage_processes() -> list[Any]:
    """Processes that DVC started for a stage of this workspace: while it is `held`, our own or those of a killed run."""
    import psutil

    above = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            continue
        if process.pid not in above and "DVC_STAGE" in environment and environment.get("DVC_ROOT") == os.getcwd():
            found.append(process)
    return found


def end(process: Any) -> None:
    import psutil

    try:
        process.terminate()
        process.wait(5)
    except psutil.TimeoutExpired:
        process.kill()
    except psutil.NoSuchProcess:
        pass
