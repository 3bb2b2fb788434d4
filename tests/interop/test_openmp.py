"""One more OpenMP thread while steps run, and none of it afterwards."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from hetc.interop import openmp
from hetc.interop.openmp import SoonAsleep

TASKS = Path("/proc/self/task")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "_QUIET_SECONDS", 0.2)
    for name in openmp._SET:
        monkeypatch.delenv(name, raising=False)


def wait_until(threads: int) -> None:
    """Until the process has so many, or for ten seconds."""
    end = time.monotonic() + 10
    while len(list(TASKS.iterdir())) != threads and time.monotonic() < end:
        time.sleep(0.01)
    assert len(list(TASKS.iterdir())) == threads


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux has them")
def test_a_team_of_two_is_there_until_no_step_comes() -> None:
    before = len(list(TASKS.iterdir()))
    soon = SoonAsleep()
    assert not soon.is_held
    for _ in range(2):
        soon.step()
        soon.step()
        assert soon.is_held
        wait_until(before + 2)
        wait_until(before)
        assert not soon.is_held


@pytest.mark.parametrize("name", openmp._SET)
def test_what_somebody_set_is_left_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "active")
    soon = SoonAsleep()
    soon.step()
    assert not soon.is_held
