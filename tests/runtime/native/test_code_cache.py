"""Kept code runs as compiled code does, and none runs that another may have made."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hetc.runtime.native import code_cache, jit
from hetc.runtime.native.code_cache import CodeCache, user_folder
from hetc.runtime.native.jit import Compiled
from hetc.runtime.native.object_code import ObjectCode, UnknownObject, can_link

pytestmark = pytest.mark.skipif(not can_link(), reason="object files of another kind")

FACTORS = [1.5, 2, 3, 4, 5, 6, 7, 8]
# Constants in memory, a function of the system and one of the module: all kinds of relocation.
TEXT = """module {
llvm.func @sched_yield() -> i32
func.func private @twice(%x: vector<8xf32>) -> vector<8xf32> attributes {no_inline} {
  %y = arith.addf %x, %x : vector<8xf32>
  return %y : vector<8xf32>
}
func.func @half(%at: !llvm.ptr) attributes {llvm.emit_c_interface} {
  %x = llvm.load %at {alignment = 4 : i64} : !llvm.ptr -> vector<8xf32>
  %factors = arith.constant dense<FACTORS> : vector<8xf32>
  %product = arith.mulf %x, %factors : vector<8xf32>
  %ignored = llvm.call @sched_yield() : () -> i32
  %y = func.call @twice(%product) : (vector<8xf32>) -> vector<8xf32>
  llvm.store %y, %at {alignment = 4 : i64} : vector<8xf32>, !llvm.ptr
  return
}
}
""".replace("FACTORS", str([float(factor) for factor in FACTORS]))


def compiled(folder: Path, text: str = TEXT) -> Compiled:
    return Compiled(text, "half", at="test", code_cache=CodeCache(folder))


def runs(function: Compiled) -> bool:
    """Whether it computes what it says."""
    given = np.arange(8, dtype=np.float32)
    expected = 2 * given * np.array(FACTORS, np.float32)
    function(given.ctypes.data)
    return bool(np.array_equal(given, expected))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache with the code of TEXT."""
    made = compiled(tmp_path / "code")
    assert runs(made)
    assert not made.was_kept
    return tmp_path / "code"


def the_file(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_code_is_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "_mlir", lambda: pytest.fail("the compiler is not needed"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compiled(folder)
    assert found.was_kept
    assert runs(found)


def test_only_this_user_can_read_it(folder: Path) -> None:
    assert the_file(folder).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["_PIPELINE", "_OPTIMIZE", "cpu_identity", "text"])
def test_the_key_holds_all_that_code_depends_on(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {
        "_PIPELINE": jit._PIPELINE.replace("1}", "0}"),
        "_OPTIMIZE": 1,
        "cpu_identity": lambda: "another CPU",
    }
    text = TEXT.replace("1.5", "9.5") if name == "text" else TEXT
    if name != "text":
        monkeypatch.setattr(jit, name, changed[name])
    assert not compiled(folder, text).was_kept
    assert len(list(folder.iterdir())) == 2


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def take_that_of_another_key(file: Path) -> None:
    compiled(file.parent, TEXT.replace("1.5", "9.5"))
    (other,) = set(file.parent.iterdir()) - {file}
    other.replace(file)


def link(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


def make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def let_others_write_the_file(file: Path) -> None:
    file.chmod(0o622)


def let_others_write_the_folder(file: Path) -> None:
    file.parent.chmod(0o777)


@pytest.mark.parametrize(
    "tamper",
    [
        flip,
        truncate,
        empty,
        take_that_of_another_key,
        link,
        make_pipe,
        let_others_write_the_file,
        let_others_write_the_folder,
    ],
)
def test_what_may_be_foreign_is_compiled_anew(tamper: Callable[[Path], None], folder: Path) -> None:
    tamper(the_file(folder))
    with pytest.warns(RuntimeWarning, match="HETC-R043"):
        found = compiled(folder)
    assert not found.was_kept
    assert runs(found)


def test_code_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: user + 1)
    with pytest.warns(RuntimeWarning, match="another user"):
        assert not compiled(folder).was_kept


def test_a_damaged_file_is_replaced(folder: Path) -> None:
    flip(the_file(folder))
    with pytest.warns(RuntimeWarning):
        compiled(folder)
    assert compiled(folder).was_kept


def test_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "code").write_text("no folder")
    with pytest.warns(RuntimeWarning, match="code cannot be kept|is not used"):
        found = compiled(tmp_path / "code")
    assert runs(found)


def test_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_cache, "_MOST_FILES", 2)
    for number in range(3):
        compiled(tmp_path, TEXT.replace("1.5", f"{number}.5"))
    assert len(list(tmp_path.iterdir())) == 2
    assert compiled(tmp_path, TEXT.replace("1.5", "2.5")).was_kept


def test_objects_that_are_not_known(folder: Path) -> None:
    code = the_file(folder).read_bytes()
    with pytest.raises(UnknownObject, match="no ELF file"):
        ObjectCode(b"MZ" + code, "_mlir_half")
    with pytest.raises(UnknownObject, match="machine 183"):
        ObjectCode(code[:18] + b"\xb7\0" + code[20:], "_mlir_half")
    with pytest.raises(UnknownObject, match="no function other"):
        ObjectCode(code, "other")
    with pytest.raises(UnknownObject, match="it needs no_such_yie"):
        ObjectCode(code.replace(b"\0sched_yield\0", b"\0no_such_yie\0"), "_mlir_half")


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert user_folder() == Path("/caches/hetc/native")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert user_folder() == Path("/home/me/.cache/hetc/native")
    monkeypatch.setenv("HOME", "nowhere")
    assert user_folder() is None
