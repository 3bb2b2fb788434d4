"""The machine at hand: plausible numbers, a cache that is used, and no way to make it raise."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from hetc import targets
from hetc.targets import cpu, host
from hetc.targets.cpu import CPU
from hetc.targets.measure import Measurement

KNOWN_CPU = CPU("Test CPU", "x86_64", 2, ("avx2",), 2 << 20, 32 << 20, 8 << 30)
KNOWN = Measurement(9e10, 8e10, 3e10, 2e11)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[CPU]:
    """Measuring replaced by known numbers; the list grows by one for every measurement."""
    calls: list[CPU] = []

    def measure(facts: CPU) -> Measurement:
        calls.append(facts)
        return KNOWN

    monkeypatch.setattr(host, "measure", measure)
    return calls


def test_measured_numbers_are_plausible(tmp_path: Path) -> None:
    device = targets.measured_device(cache_folder=tmp_path)
    assert device.units is not None
    assert 1 <= device.units.value <= (os.cpu_count() or 1)
    # From a slow single-board computer to a large server.
    assert 1e8 < device.memory().bandwidth.value < 5e12
    assert 1e8 < device.rate("f32").value < 1e14
    assert device.memory().bytes.value > 1 << 28
    assert (device.kind, device.main_memory) == ("cpu", "dram")
    assert "measured on this machine" in device.rate("f32").source
    assert device.rate("bf16") == device.rate("f32"), "computed in f32 where nothing else is known"
    (file,) = tmp_path.iterdir()
    assert (
        json.loads(file.read_text("utf-8"))["measured"].keys() == Measurement.__annotations__.keys()
    )


def test_second_time_comes_from_the_cache(tmp_path: Path, counted: list[CPU]) -> None:
    first = host.measured_device(cache_folder=tmp_path)
    assert host.measured_device(cache_folder=tmp_path) == first
    assert len(counted) == 1
    host.measured_device(cache_folder=tmp_path, refresh=True)
    assert len(counted) == 2


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        '{"measured": {}}',
        '{"measured": {"l2_bandwidth": 1}}',
        '{"measured": {"l2_bandwidth": 1, "l3_bandwidth": 1, "dram_bandwidth": 0, "f32_rate": 1}}',
        '{"measured": {"l2_bandwidth": NaN, "l3_bandwidth":1, "dram_bandwidth": 1, "f32_rate": 1}}',
        '{"measured": [1, 2, 3, 4]}',
    ],
)
def test_damaged_cache_is_measured_anew(tmp_path: Path, counted: list[CPU], damage: str) -> None:
    good = host.measured_device(cache_folder=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(damage, "utf-8")
    assert host.measured_device(cache_folder=tmp_path) == good
    assert len(counted) == 2
    assert host.measured_device(cache_folder=tmp_path) == good
    assert len(counted) == 2, "the damaged file was replaced"


def test_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, counted: list[CPU]) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder", "utf-8")
    assert host.measured_device(cache_folder=in_the_way).name == "host"
    assert len(counted) == 1


def test_load_host_uses_the_cache_folder_of_the_platform(
    tmp_path: Path, counted: list[CPU], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert targets.load("host").name == "host"
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "hetc"]
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert host.default_cache_folder() == Path.home() / ".cache" / "hetc"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert host.default_cache_folder() == Path.home() / "Library" / "Caches" / "hetc"


def test_unknown_caches_are_left_out() -> None:
    bare = CPU("", "riscv64", 1, (), 0, 0, 4 << 30)
    device = host.as_device(bare, Measurement(0.0, 0.0, 1e9, 1e9))
    assert [memory.name for memory in device.memories] == ["dram"]
    full = host.as_device(KNOWN_CPU, KNOWN)
    assert [memory.name for memory in full.memories] == ["l2", "l3", "dram"]
    assert full.sha256 == host.as_device(KNOWN_CPU, KNOWN).sha256


CPUINFO = "\n\n".join(
    f"processor\t: {number}\nmodel name\t: Xeon\nphysical id\t: 0\ncore id\t\t: {number % 2}\n"
    "flags\t\t: fpu avx2 avx512_vnni"
    for number in range(4)
)


def test_linux_counts_physical_cores_and_reads_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_usable_cpus", lambda: {0, 1, 2, 3})
    facts = cpu._from_proc(CPUINFO)
    assert (facts.model, facts.cores, facts.features) == ("Xeon", 2, ("avx2", "avx512_vnni"))
    monkeypatch.setattr(cpu, "_usable_cpus", lambda: {0, 2})
    assert cpu._from_proc(CPUINFO).cores == 1, "two threads of one core"
    monkeypatch.setattr(cpu, "_usable_cpus", lambda: {0, 1, 2})
    arm = "processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n"
    assert cpu._from_proc(arm).features == ("asimd", "i8mm", "bf16")
    assert cpu._from_proc("").cores == 3, "no cpuinfo: what the scheduler offers"


def test_linux_caches_are_counted_once(tmp_path: Path) -> None:
    for number in range(4):
        for index, (level, kind, size, sharers) in enumerate(
            [
                ("1", "Data", "32K", str(number)),
                ("2", "Unified", "1024K", str(number)),
                ("3", "Unified", "32M", "0-1" if number < 2 else "2-3"),
            ]
        ):
            folder = tmp_path / f"cpu{number}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            facts = {"level": level, "type": kind, "size": size, "shared_cpu_list": sharers}
            for name, text in facts.items():
                (folder / name).write_text(text + "\n", "utf-8")
    assert cpu._cache_bytes(tmp_path, 2, {0, 1, 2, 3}) == 4 << 20
    assert cpu._cache_bytes(tmp_path, 3, {0, 1, 2, 3}) == 64 << 20
    assert cpu._cache_bytes(tmp_path, 3, {0, 1}) == 32 << 20
    assert cpu._cache_bytes(tmp_path, 4, {0}) == 0
    assert cpu._cache_bytes(tmp_path / "nowhere", 2, {0}) == 0


def test_macos_reads_sysctl() -> None:
    facts = cpu._from_sysctl(
        {
            "machdep.cpu.brand_string": "Apple M4",
            "hw.perflevel0.physicalcpu": "4",
            "hw.physicalcpu": "10",
            "hw.perflevel0.l2cachesize": "16777216",
            "hw.perflevel0.cpusperl2": "4",
            "hw.memsize": "17179869184",
            "hw.optional.AdvSIMD": "1",
            "hw.optional.arm.FEAT_BF16": "1",
            "hw.optional.arm.FEAT_SME": "0",
        }
    )
    assert (facts.model, facts.cores, facts.l2_bytes) == ("Apple M4", 4, 16 << 20)
    assert facts.features == ("asimd", "bf16")
    nothing = cpu._from_sysctl({})
    assert nothing.cores >= 1
    assert nothing.memory_bytes > 0
