"""A Prefect server on 127.0.0.1 for as long as one command needs it."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def server(port: int, address: str, home: Path) -> Iterator[None]:
    """A Prefect server on 127.0.0.1, started here and stopped at the end; it logs to server.log in its home.

    Raises ValueError if the port is taken or the server does not come up within five minutes (busy cores).
    """
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ValueError(f"port {port} is taken; use the server there: PREFECT_API_URL={address}, or --port")
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-prompt"]
    with (home / "server.log").open("w") as log:
        # a session of its own: Ctrl-C reaches this process first, which tells the server to pause the schedule
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(process, address, Path(log.name))
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_for(process: subprocess.Popen, address: str, log: Path, patience: float = 300) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with direct.open(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise ValueError(f"the Prefect server did not come up; see {log}")


def end_on_hangup() -> None:
    """A terminal that closes ends the command as Ctrl-C does, its server with it; under nohup nothing changes."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGINT))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
