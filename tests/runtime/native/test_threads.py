"""The pool runs a job on every unit at once, whatever happens meanwhile, and leaves no thread."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from hetc.runtime.native.threads import ThreadPool


@pytest.mark.parametrize("units", [1, 2, 3])
def test_every_unit_runs_at_the_same_time(units: int) -> None:
    pool, meeting = ThreadPool(units), threading.Barrier(units)
    met: list[int] = []

    def job(unit: int) -> None:
        meeting.wait(timeout=10)
        met.append(unit)

    for _ in range(3):
        pool.run(job)
    pool.close()
    assert sorted(met) == sorted([*range(units)] * 3)


def test_closing_ends_the_threads_and_running_starts_new_ones() -> None:
    before = threading.active_count()
    pool = ThreadPool(3)
    for _ in range(2):
        pool.run(lambda unit: None)
        assert threading.active_count() == before + 3
        pool.close()
        assert threading.active_count() == before


def test_callers_take_turns() -> None:
    pool, running, most = ThreadPool(2), [0], [0]
    counted = threading.Lock()

    def job(unit: int) -> None:
        with counted:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.001)
        with counted:
            running[0] -= 1

    callers = [threading.Thread(target=pool.run, args=(job,)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    pool.close()
    assert most[0] <= 2


def test_what_a_job_raises_is_raised_when_all_are_done() -> None:
    pool, ended = ThreadPool(2), threading.Event()

    def job(unit: int) -> None:
        if unit == 0:
            raise ValueError("of unit 0")
        threading.Event().wait(0.01)
        ended.set()

    with pytest.raises(ValueError, match="of unit 0"):
        pool.run(job)
    assert ended.is_set()
    pool.run(lambda unit: None)
    pool.close()


def test_an_interrupt_comes_when_all_are_done() -> None:
    """Every unit waits for the others: were one left out, this would never end."""
    pool, meeting = ThreadPool(2), threading.Barrier(2)
    begun, ended = threading.Event(), [0]

    def job(unit: int) -> None:
        begun.set()
        meeting.wait(timeout=10)
        threading.Event().wait(0.05)
        meeting.wait(timeout=10)
        ended[0] += 1

    def interrupt() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        pool.run(job)
    sender.join()
    assert ended[0] == 2
    pool.run(lambda unit: None)
    pool.close()


def test_a_forked_child_has_threads_of_its_own() -> None:
    pool = ThreadPool(2)
    pool.run(lambda unit: None)
    child = os.fork()
    if child == 0:
        ran: list[int] = []
        pool.run(ran.append)
        os._exit(0 if sorted(ran) == [0, 1] else 1)
    deadline = time.monotonic() + 10
    found, status = 0, 1
    while not found and time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    if not found:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    pool.run(lambda unit: None)
    pool.close()
