"""Jobs that come in one by one -> replies of the generation engine, decoded together where their sampling settings agree."""

import queue
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from emis_platform.tools import generation, models

TOGETHER = 16
"""Answers that are decoded together at most."""
CACHED = 16_384
"""Tokens of key-value cache at most: 0.75 GB for the bundled model."""
GATHER_S = 0.01
"""How long the first of several jobs waits for those beside it."""


class Ended(Exception):
    """The engine was told to end."""


@dataclass(frozen=True, eq=False)
class Job:
    """One answer that waits for the engine."""

    request: generation.Request
    temperature: float
    max_tokens: int
    reply: "Future[generation.Reply]" = field(default_factory=Future)


class Engine:
    """One thread that decodes. A reply depends on its prompt, seed and settings, not on the jobs beside it: see tools/generation.py."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.stop = model, models.stop_ids(model, tokenizer)
        self.inbox: queue.Queue[Job | None] = queue.Queue()
        self.waiting: list[Job] = []
        self.ended = threading.Event()
        self.hook = models.decoder(model).register_forward_pre_hook(self.may_go_on)
        self.thread = threading.Thread(target=self.run, daemon=True)

    @property
    def load(self) -> int:
        """Jobs that wait."""
        return self.inbox.qsize() + len(self.waiting)

    def end(self) -> None:
        """Stop at the next token; jobs that are not done get Ended."""
        self.ended.set()
        self.inbox.put(None)

    def run(self) -> None:
        while not self.ended.is_set():
            self.gather()
            batch = self.pick()
            if not batch:
                continue
            try:
                for job, reply in zip(batch, self.decode(batch), strict=True):
                    job.reply.set_result(reply)
            except BaseException as fault:
                if not isinstance(fault, Ended):
                    traceback.print_exc()
                for job in batch:
                    job.reply.set_exception(fault)
        self.hook.remove()
        self.gather()
        for job in self.pick(everything=True):
            job.reply.set_exception(Ended())

    def may_go_on(self, *_: Any) -> None:
        if self.ended.is_set():
            raise Ended

    def gather(self) -> None:
        """Move what came in to `waiting`; with nothing there, wait for a first job and a moment for those beside it."""
        if not self.waiting and not self.ended.is_set():
            first = self.inbox.get()
            self.waiting += [first] if first else []
            time.sleep(GATHER_S)
        while not self.inbox.empty():
            job = self.inbox.get()
            self.waiting += [job] if job else []

    def pick(self, everything: bool = False) -> list[Job]:
        """Take the first job and those that share its settings, without those that nobody waits for any more."""

        def fits(job: Job) -> bool:
            first = self.waiting[0]
            return everything or (job.temperature, job.max_tokens) == (first.temperature, first.max_tokens)

        taken = [job for job in self.waiting if fits(job)]
        taken = taken if everything else taken[:TOGETHER]
        self.waiting = [job for job in self.waiting if job not in taken]
        return [job for job in taken if job.reply.set_running_or_notify_cancel()]

    def decode(self, batch: Sequence[Job]) -> list[generation.Reply]:
        longest = max(len(job.request.prompt) for job in batch) + batch[0].max_tokens
        return generation.generate(
            self.model,
            [job.request for job in batch],
            stop=self.stop,
            max_new_tokens=batch[0].max_tokens,
            temperature=batch[0].temperature,
            slots=max(1, min(TOGETHER, CACHED // longest)),
        )
