"""Counting physical cores from a topology."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hetc.runtime.cores import physical_cores


def test_hardware_threads_of_one_core_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 4}, raising=False)
    for cpu, siblings in {0: "0,4", 1: "1,5", 2: "2,6", 4: "0,4"}.items():
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert physical_cores(tmp_path) == 3
    assert physical_cores(tmp_path / "absent") == 4


def test_this_machine_has_some() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


def test_without_affinity_all_cpus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert physical_cores() == (os.cpu_count() or 1)
