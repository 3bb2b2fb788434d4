"""Damaged `.pt2` archives: each compiles, or is refused by one clear error."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hetc.driver import CompileOptions, compile_bundle
from tests.frontends.fuzzing import damaged, damaged_json, outcome


def _saved() -> bytes:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(module, (torch.ones(3, 4),), dynamic_shapes=shapes)
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


SAVED = _saved()
with zipfile.ZipFile(io.BytesIO(SAVED)) as _file:
    ENTRIES = {name: _file.read(name) for name in _file.namelist()}
JSON = tuple(name for name in ENTRIES if name.endswith(".json"))


def compiled(data: bytes, folder: Path) -> str:
    """The outcome of compiling an archive of these bytes; nothing is written beside it."""
    path = folder / "model.pt2"
    path.write_bytes(data)
    found = outcome(lambda: compile_bundle(path, folder / "out", CompileOptions(), overwrite=True))
    assert {entry.name for entry in folder.iterdir()} <= {"model.pt2", "out"}
    return found


def archive(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as target:
        for name, content in entries.items():
            target.writestr(name, content)
    return file.getvalue()


@st.composite
def changed(draw: Any) -> bytes:
    """The archive with its JSON changed, or an entry left out, cut off, renamed or put in."""
    entries = dict(ENTRIES)
    kind = draw(st.sampled_from(("json", "json", "json", "drop", "cut off", "rename", "put in")))
    name = draw(st.sampled_from(JSON if kind == "json" else tuple(entries)))
    if kind == "json":
        value = draw(damaged_json(json.loads(entries[name])))
        entries[name] = json.dumps(value).encode()
    elif kind == "drop":
        del entries[name]
    elif kind == "cut off":
        entries[name] = entries[name][: len(entries[name]) // 2]
    else:
        place = draw(st.sampled_from(("../../", "/", "C:\\", "x" * 300)))
        content = entries.pop(name) if kind == "rename" else entries[name]
        entries[f"{place}{name}"] = content
    return archive(entries)


@settings(max_examples=60)
@given(data=damaged(SAVED))
def test_damaged_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    compiled(data, tmp_path_factory.mktemp("bytes"))


@settings(max_examples=80)
@given(data=changed())
def test_changed_entries(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    compiled(data, tmp_path_factory.mktemp("entries"))


@pytest.mark.slow
@settings(max_examples=1000)
@given(data=st.one_of(damaged(SAVED), changed()))
def test_many(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    compiled(data, tmp_path_factory.mktemp("many"))


def test_the_archive_itself_compiles(tmp_path: Path) -> None:
    assert compiled(SAVED, tmp_path) == "ok"
    assert compiled(archive(ENTRIES), tmp_path) == "ok"


def test_a_bomb(tmp_path: Path) -> None:
    bomb = archive({**ENTRIES, "model/data/bomb": bytes(2**26)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**18
    assert compiled(bomb, tmp_path) == "HETC-I220"


def test_a_zip_file_of_a_later_version(tmp_path: Path) -> None:
    directory = SAVED.rindex(b"PK\x01\x02")
    later = SAVED[: directory + 6] + b"\xff" + SAVED[directory + 7 :]
    assert compiled(later, tmp_path) == "HETC-I220"


@pytest.mark.parametrize("place", ["../../", "/", "x/../../"])
def test_names_that_leave_the_archive(place: str, tmp_path: Path) -> None:
    entries = {f"{place}{name}": content for name, content in ENTRIES.items()}
    assert compiled(archive({**ENTRIES, **entries}), tmp_path) == "HETC-I220"


def test_json_that_never_ends(tmp_path: Path) -> None:
    (model,) = (name for name in JSON if name.endswith("models/model.json"))
    for content in (b"[" * 100_000, b"{" * 10, b"1" * 5000, b"", b"\xff"):
        assert compiled(archive({**ENTRIES, model: content}), tmp_path) == "HETC-I220", content[:9]
