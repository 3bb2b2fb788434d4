"""Threads that stay: one for each unit, all running one job at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

Job = Callable[[int], None]
# How long a caller sleeps whom nobody wakes: an interrupt may have taken the call with it.
_LOST_SECONDS = 0.05


class ThreadPool:
    """`run(job)` calls `job(0)`, `job(1)`, ... at the same time, each on a thread of its own.

    Jobs wait for each other inside, at barriers: once one has begun, all must. So an interrupt
    (Ctrl-C) that comes meanwhile is raised when all are done, and the caller runs none of them:
    of code in Python one cannot know where it was interrupted. Callers take turns. Threads start
    with the first job, and again in a forked child; they do not keep the process from ending.
    """

    def __init__(self, units: int) -> None:
        self.units = units
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._turn = threading.RLock()
        self._generation = 0
        self._finished = [0] * self.units
        self._errors: list[BaseException] = []
        self._inboxes: list[SimpleQueue[tuple[int, Job | None]]] = [
            SimpleQueue() for _ in range(self.units)
        ]
        self._woken: SimpleQueue[int] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def turn(self) -> threading.RLock:
        """To be held while what a job is given is made ready: nobody else runs one meanwhile."""
        if self._process != os.getpid():
            # The threads of the parent are not here, nor whoever of them had the turn.
            self._reset()
        return self._turn

    def run(self, job: Job, units: int | None = None) -> None:
        """Run `job` on the first `units` (all of them where None), and return when all are done.

        Raises what one of them raised.
        """
        with self.turn():
            self._start_threads()
            self._complete(job, units or self.units)
            if self._errors:
                raise self._errors.pop()

    def close(self) -> None:
        """End the threads; a later `run` starts new ones."""
        with self.turn():
            if self._threads:
                self._complete(None, self.units)
            for thread in self._threads:
                thread.join()
            self._threads.clear()

    def _complete(self, job: Job | None, units: int) -> None:
        """Hand out `job` and wait for all; an interrupt only begins this anew."""
        interrupt: KeyboardInterrupt | None = None
        self._generation += 1
        generation = self._generation
        while min(self._finished[:units]) < generation:
            try:
                # Who has it already passes it over.
                for inbox in self._inboxes[:units]:
                    inbox.put((generation, job))
                while min(self._finished[:units]) < generation:
                    self._sleep()
            except KeyboardInterrupt as caught:
                interrupt = caught
        if interrupt is not None:
            raise interrupt

    def _sleep(self) -> None:
        try:
            self._woken.get(timeout=_LOST_SECONDS)
        except Empty:
            return

    def _start_threads(self) -> None:
        if not self._threads:
            self._threads = [
                threading.Thread(
                    target=self._serve, args=(unit,), name=f"hetc-unit-{unit}", daemon=True
                )
                for unit in range(self.units)
            ]
            for thread in self._threads:
                thread.start()

    def _serve(self, unit: int) -> None:
        while True:
            generation, job = self._inboxes[unit].get()
            if generation <= self._finished[unit]:
                continue
            try:
                if job is not None:
                    job(unit)
            # It is raised where `run` was called.
            except BaseException as error:  # noqa: BLE001
                self._errors.append(error)
            self._finished[unit] = generation
            self._woken.put(unit)
            if job is None:
                return
