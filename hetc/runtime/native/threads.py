"""Threads that stay: one for each unit, the caller among them, all running one job at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

Job = Callable[[int], None]


class ThreadPool:
    """`run(job)` calls `job(0)` here and `job(1)`, ... on threads of the pool, at the same time.

    Jobs wait for each other inside (at barriers), so that every one must really be running: two
    threads that call `run` at once take turns. Threads start with the first job and are daemons: a
    pool that is not closed does not keep the process from ending.
    """

    def __init__(self, units: int) -> None:
        self.units = units
        self._job: Job | None = None
        self._start = [threading.Semaphore(0) for _ in range(units - 1)]
        self._done = threading.Semaphore(0)
        self._turn = threading.Lock()
        self._threads: list[threading.Thread] = []

    def run(self, job: Job) -> None:
        """Run `job` on every unit, and return when all are done."""
        with self._turn:
            self._start_threads()
            self._job = job
            for start in self._start:
                start.release()
            try:
                job(0)
            finally:
                for _ in self._start:
                    self._done.acquire()
                self._job = None

    def close(self) -> None:
        """End the threads; a later `run` starts new ones."""
        with self._turn:
            self._job = None
            for start in self._start[: len(self._threads)]:
                start.release()
            for thread in self._threads:
                thread.join()
            self._threads.clear()

    def _start_threads(self) -> None:
        if not self._threads:
            self._threads = [
                threading.Thread(
                    target=self._serve, args=(unit,), name=f"hetc-unit-{unit}", daemon=True
                )
                for unit in range(1, self.units)
            ]
            for thread in self._threads:
                thread.start()

    def _serve(self, unit: int) -> None:
        while True:
            self._start[unit - 1].acquire()
            job = self._job
            if job is None:
                return
            try:
                job(unit)
            finally:
                self._done.release()
