"""The pool runs a job on every unit at once, and leaves no thread behind."""

from __future__ import annotations

import threading

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
        assert threading.active_count() == before + 2
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


def test_a_job_that_fails_here_is_waited_for() -> None:
    pool, ended = ThreadPool(2), threading.Event()

    def job(unit: int) -> None:
        if unit == 0:
            raise KeyboardInterrupt
        threading.Event().wait(0.01)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        pool.run(job)
    assert ended.is_set()
    pool.run(lambda unit: None)
    pool.close()
