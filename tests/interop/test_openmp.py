"""One more OpenMP thread while steps run, and none of it afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hetc.interop import openmp
from hetc.interop.openmp import SoonAsleep

# In a process of its own, where nobody else starts threads or ends them.
COUNTED = """
import os, time
from hetc.interop import openmp

def threads():
    return len(os.listdir("/proc/self/task"))

def reached(count):
    end = time.monotonic() + 10
    while threads() != count and time.monotonic() < end:
        time.sleep(0.01)
    return threads() == count

openmp._QUIET_SECONDS = 0.3
soon = openmp.SoonAsleep()
before = threads()
for _ in range(2):
    soon.step()
    soon.step()
    assert reached(before + 2), "a thread and the other one of its team"
    assert soon.is_held
    assert reached(before), "both have ended"
    assert not soon.is_held
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux has them")
def test_a_team_of_two_is_there_until_no_step_comes() -> None:
    clean = {name: value for name, value in os.environ.items() if name not in openmp._SET}
    command = [sys.executable, "-c", COUNTED]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", openmp._SET)
def test_what_somebody_set_is_left_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "active")
    soon = SoonAsleep()
    soon.step()
    assert not soon.is_held
