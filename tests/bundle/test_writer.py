"""A bundle appears whole or not at all, the same bytes for the same input, over nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from hetc.bundle import BundleWriter, open_bundle
from hetc.errors import BundleError
from tests.bundle.build import CONTRACT, MANIFEST, TENSORS, fill, make_bundle, sources, tree, values


def test_what_was_written_is_read(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        assert opened.contract == CONTRACT
        assert opened.manifest.contract_sha256 == CONTRACT.sha256
        assert replace(opened.manifest, contract_sha256="", files={}) == MANIFEST
        assert opened.weight_names() == tuple(sorted(TENSORS))
        for name in TENSORS:
            stored = opened.weight(name)
            assert stored.dtype == values(name).dtype
            assert np.array_equal(stored, values(name))
            assert not stored.flags.writeable
        assert opened.read_bytes("README.md") == b"# tiny\n"


def test_the_same_input_gives_the_same_bytes_in_any_order(tmp_path: Path, bundle: Path) -> None:
    again = make_bundle(tmp_path / "again", reverse=True)
    assert tree(again) == tree(bundle)


def test_the_manifest_holds_no_path_of_this_machine(bundle: Path) -> None:
    raw = (bundle / "manifest.json").read_text()
    assert str(bundle.parent) not in raw
    assert raw.endswith("}\n")


def test_the_library_reads_the_tensors_and_large_ones_are_aligned(bundle: Path) -> None:
    file = bundle / "weights/model.safetensors"
    with safe_open(file, framework="numpy") as library:
        assert set(library.keys()) == set(TENSORS)
        assert np.array_equal(library.get_tensor("layers.0.bias"), values("layers.0.bias"))
    with open_bundle(bundle) as opened:
        for entry in opened.tensors("weights/model.safetensors").entries.values():
            alignment = 64 if (entry.end - entry.begin) % 64 == 0 else entry.dtype.itemsize
            assert entry.begin % alignment == 0, entry


def test_tensors_are_loaded_one_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []
    most = 0

    class Tracked(np.ndarray[Any, Any]):
        def __del__(self) -> None:
            alive.pop()

    def load() -> np.ndarray[Any, Any]:
        nonlocal most
        alive.append(1)
        most = max(most, len(alive))
        return np.zeros((4, 4), np.float32).view(Tracked)

    with BundleWriter(tmp_path / "b") as writer:
        writer.write_tensors("w.safetensors", [(f"t{i}", "f32", (4, 4), load) for i in range(5)])
    assert most <= 2  # The next one is made before the last name for the one before is dropped.


def test_shards_hold_at_most_the_limit_and_are_one_to_the_reader(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b", shard_bytes=1100) as writer:
        for name in ("prefill/graph.hetc", "prefill/model.onnx", "decode/graph.hetc"):
            writer.write_bytes(name, b"x")
        writer.write_bytes("handoff.json", CONTRACT.to_bytes())
        names = writer.write_tensors("weights/model.safetensors", sources())
        writer.commit(MANIFEST)
    assert names == [f"weights/model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    with open_bundle(tmp_path / "b") as opened:
        for name in TENSORS:
            assert np.array_equal(opened.weight(name), values(name))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with BundleWriter(tmp_path / "new" / "b") as writer:
            fill(writer)
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_inside_a_loader_leaves_nothing(tmp_path: Path) -> None:
    def load() -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), BundleWriter(tmp_path / "b") as writer:
        writer.write_tensors("weights/model.safetensors", [("t", "f32", (2,), load)])
    assert list(tmp_path.iterdir()) == []


def test_leaving_without_commit_leaves_nothing(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        fill(writer)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from hetc.bundle import BundleWriter
from hetc.bundle import staging
from tests.bundle.build import MANIFEST, fill
where, moment = sys.argv[1:]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
real, calls = Path.rename, []
def rename(self, to):
    calls.append(1)
    if moment == "rename" or (moment == "second" and len(calls) == 2):
        die()
    return real(self, to)
Path.rename = rename
with BundleWriter(where, overwrite=True) as writer:
    fill(writer)
    if moment == "fill":
        die()
    writer.commit(MANIFEST)
"""


def kill_a_writer(path: Path, moment: str) -> None:
    """Runs a writer in another process, which SIGKILL ends at `moment`."""
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", KILLED, path, moment], cwd=root, check=False)
    assert run.returncode == -signal.SIGKILL


@pytest.mark.parametrize("moment", ["fill", "rename"])
def test_a_killed_write_leaves_no_bundle_and_the_next_one_cleans_up(
    tmp_path: Path, moment: str
) -> None:
    kill_a_writer(tmp_path / "b", moment)
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".b.partial-")
    make_bundle(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_killed_while_replacing_the_old_bundle_comes_back(bundle: Path) -> None:
    before = tree(bundle)
    kill_a_writer(bundle, "second")
    assert not bundle.exists()
    with pytest.raises(BundleError) as caught, BundleWriter(bundle):
        pass
    assert caught.value.code == "HETC-B020"
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
    assert tree(bundle) == before


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as first:
        fill(first)
        with pytest.raises(BundleError) as caught, BundleWriter(tmp_path / "b"):
            pass
        assert caught.value.code == "HETC-B022"
        first.commit(MANIFEST)
    open_bundle(tmp_path / "b").close()


def no_space(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_error_with_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(BundleError) as caught, BundleWriter(tmp_path / "b") as writer:
        writer.write_bytes("a.bin", b"12345")
    assert caught.value.code == "HETC-B021"
    assert caught.value.expected == "5 bytes for this file"
    assert caught.value.found.endswith("bytes available")
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_found_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(BundleError) as caught, BundleWriter(tmp_path / "b") as writer:
        writer.write_tensors("weights/model.safetensors", sources(["layers.10.weight"]))
    assert caught.value.code == "HETC-B021"
    assert caught.value.expected == "1024 bytes for this file"
    assert caught.value.found == "100 bytes available"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "hetc-test", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let the test mount a disk")
    try:
        with pytest.raises(BundleError) as caught, BundleWriter(disk / "b") as writer:
            writer.write_bytes("big.bin", bytes(2**20))
        assert caught.value.code == "HETC-B021"
        assert caught.value.expected == f"{2**20} bytes for this file"
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_existing_bundle_is_replaced_only_when_told(bundle: Path) -> None:
    with pytest.raises(BundleError) as caught:
        make_bundle(bundle)
    assert caught.value.code == "HETC-B020"
    assert caught.value.found == "a bundle"
    make_bundle(bundle, overwrite=True, extra=("report.html",))
    assert (bundle / "report.html").exists()
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
    open_bundle(bundle).close()


def test_a_failing_overwrite_leaves_the_old_bundle(bundle: Path) -> None:
    before = tree(bundle)

    def failing() -> None:
        with BundleWriter(bundle, overwrite=True) as writer:
            fill(writer)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        failing()
    assert tree(bundle) == before


def test_an_empty_directory_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    open_bundle(make_bundle(tmp_path / "b")).close()


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_link(path: Path) -> None:
    path.symlink_to("elsewhere")


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text('{"schema": "other/1", "files": {}}')


def a_bundle_with_notes(path: Path) -> None:
    make_bundle(path)
    (path / "notes.txt").write_text("mine")


@pytest.mark.parametrize("occupy", [a_file, a_link, a_folder, a_bundle_with_notes])
def test_nothing_foreign_is_ever_overwritten(
    tmp_path: Path, occupy: Callable[[Path], None]
) -> None:
    occupy(tmp_path / "b")
    with pytest.raises(BundleError) as caught:
        make_bundle(tmp_path / "b", overwrite=True)
    assert caught.value.code == "HETC-B020"
    assert caught.value.at == str(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "a\\b", "C:x", "", ".x", "manifest.json"]
)
def test_names_that_a_reader_would_refuse_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError) as caught:
        make_bundle(tmp_path / "b", extra=(name,))
    assert caught.value.code in {"HETC-B006", "HETC-B004"}
    assert list(tmp_path.iterdir()) == []


def test_a_loader_that_gives_something_else_is_refused(tmp_path: Path) -> None:
    def load() -> np.ndarray[Any, Any]:
        return np.zeros((2, 2), ml_dtypes.bfloat16)

    with pytest.raises(BundleError) as caught, BundleWriter(tmp_path / "b") as writer:
        writer.write_tensors("w.safetensors", [("t", "f32", (2, 2), load)])
    assert caught.value.code == "HETC-B023"
    assert (caught.value.expected, caught.value.found) == ("f32[2, 2]", "bfloat16[2, 2]")


def test_a_contract_that_the_halves_do_not_share_is_not_committed(tmp_path: Path) -> None:
    decode = replace(MANIFEST.halves["decode"], states=("layers.0.v", "layers.0.k"))
    swapped = replace(MANIFEST, halves={**MANIFEST.halves, "decode": decode})
    with pytest.raises(BundleError) as caught:
        make_bundle(tmp_path / "b", manifest=swapped)
    assert caught.value.code == "HETC-B014"
    other = replace(MANIFEST, contract_sha256="0" * 64)
    with pytest.raises(BundleError) as caught:
        make_bundle(tmp_path / "b", manifest=other)
    assert caught.value.code == "HETC-B023"
    assert list(tmp_path.iterdir()) == []
