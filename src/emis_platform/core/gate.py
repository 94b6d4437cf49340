"""Threads that ask one server -> who of them may send when, and whether the money is there."""

import threading
import time
from dataclasses import dataclass, field

from emis_platform.core.asks import Endpoint


class Stopped(Exception):
    """The run ends: nothing more is sent."""


@dataclass
class Gate:
    """What the threads share: who may send when, and what may be spent."""

    options: Endpoint
    spent: float
    """US dollars, with the worst case of each attempt whose answer was lost on the way."""
    flying: list[float] = field(default_factory=list)
    """Worst case in US dollars of each request in flight."""
    turn_at: float = 0.0
    """Monotonic seconds of the next free turn under `requests_per_minute`."""
    shut_until: float = 0.0
    """Monotonic seconds until when the server asked for quiet."""
    stop: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def enter(self, worst: float) -> None:
        """Wait until a request may be sent. Raises ValueError if it could cost more than the ceiling leaves, Stopped at the end."""
        ceiling = self.options.ceiling_usd
        with self.changed:
            while ceiling is not None and self.spent + sum(self.flying) + worst > ceiling and not self.stop.is_set():
                if not self.flying:
                    raise ValueError(
                        f"ceiling_usd {ceiling:g}: {self.spent:.6f} spent, the next request to {self.options.model} may cost "
                        f"{worst:.6f}; a re-run with a higher ceiling goes on from the cache"
                    )
                self.changed.wait(0.2)
            self.flying.append(worst)
            turn = max(time.monotonic(), self.turn_at)
            if self.options.requests_per_minute:
                self.turn_at = turn + 60 / self.options.requests_per_minute
        while not self.stop.is_set() and (left := max(turn, self.shut_until) - time.monotonic()) > 0:
            self.stop.wait(left)
        if self.stop.is_set():
            self.leave(worst, 0.0)
            raise Stopped

    def leave(self, worst: float, cost: float) -> None:
        with self.changed:
            self.flying.remove(worst)
            self.spent += cost
            self.changed.notify_all()

    def shut(self, seconds: float) -> None:
        """Nobody sends for so long: a server's Retry-After is meant for the key, not for one request."""
        with self.changed:
            self.shut_until = max(self.shut_until, time.monotonic() + seconds)
