"""`.pt2` files: the round trip, damage, and files that would run code if PyTorch loaded them."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hetc.errors import InputError
from hetc.frontends.torch_export import import_exported, load_pt2
from hetc.frontends.torch_export.archive_text import check_expression, check_target, check_tree
from hetc.ir.text import print_graph
from tests.frontends.torch_models import assert_same, export, tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "llama.pt2"
    torch.export.save(export(tiny("llama")), path)
    return path


def test_round_trip(saved: Path) -> None:
    imported = import_exported(load_pt2(saved), source=str(saved))
    assert print_graph(imported.graph) == print_graph(import_exported(export(tiny("llama"))).graph)
    assert_same(imported, tiny("llama"))


Edit = Callable[[str, bytes], bytes | None]


def rewritten(saved: Path, folder: Path, edit: Edit, extra: dict[str, bytes] | None = None) -> Path:
    """A copy of the archive with entries changed, left out (None) or added."""
    path = folder / "edited.pt2"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        root = source.namelist()[0].partition("/")[0]
        for name in source.namelist():
            content = edit(name.partition("/")[2], source.read(name))
            if content is not None:
                target.writestr(name, content)
        for name, content in (extra or {}).items():
            target.writestr(f"{root}/{name}", content)
    return path


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def in_json(entry: str, change: Callable[[Any], None]) -> Edit:
    """Change one JSON entry of the archive."""

    def edit(name: str, content: bytes) -> bytes:
        if name != entry:
            return content
        data = json.loads(content)
        change(data)
        return json.dumps(data).encode()

    return edit


def replace_text(old: str, new: str) -> Edit:
    """Replace text of the program; fails where it has none."""

    def edit(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        assert old.encode() in content
        return content.replace(old.encode(), new.encode())

    return edit


def test_pickled_sample_inputs_are_never_read(saved: Path, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    bomb = pickle.dumps(Bomb(flag))
    path = rewritten(
        saved, tmp_path, lambda name, content: bomb if "sample_inputs" in name else content
    )
    import_exported(load_pt2(path))
    assert not flag.exists()
    # The bomb is real.
    pickle.loads(bomb)  # noqa: S301
    assert flag.exists()


def pickled_weight(data: Any) -> None:
    next(iter(data["config"].values()))["use_pickle"] = True


def custom_object(data: Any) -> None:
    payload = next(iter(data["config"].values()))
    payload["path_name"] = "opaque_obj_0"


WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SYMBOL = "Symbol('s70', positive=True, integer=True)"
RUNS_CODE: dict[str, Edit] = {
    "pickled weight": in_json(WEIGHTS, pickled_weight),
    "custom object": in_json(CONSTANTS, custom_object),
    "evaluated size": replace_text(SYMBOL, "__import__('os').getpid()"),
    "attribute in a size": replace_text(SYMBOL, "Symbol('s70').__class__"),
    "op outside torch.ops": replace_text("torch.ops.aten.embedding.default", "torch.os.system"),
    "operator that calls": replace_text(
        "torch.ops.aten.embedding.default", "_operator.methodcaller"
    ),
    "tree that imports": replace_text("builtins.tuple", "collections.defaultdict"),
}


@pytest.mark.parametrize("name", RUNS_CODE)
def test_files_that_would_run_code_are_refused(saved: Path, tmp_path: Path, name: str) -> None:
    path = rewritten(saved, tmp_path, RUNS_CODE[name])
    with pytest.raises(InputError) as caught:
        load_pt2(path)
    assert caught.value.code == "HETC-I221"
    assert str(path) in caught.value.at


def test_old_pickled_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    path = rewritten(
        saved, tmp_path, lambda _name, content: content, {"data/weights/model.pt": b"x"}
    )
    with pytest.raises(InputError, match=r"model\.pt is pickled"):
        load_pt2(path)


def no_program(name: str, content: bytes) -> bytes | None:
    return None if name.startswith("models/") else content


def test_damaged_files_are_refused(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    broken = {
        "missing": None,
        "empty": b"",
        "text": b"not a zip file at all",
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:5000] + bytes(64) + whole[5064:],
    }
    for name, content in broken.items():
        path = tmp_path / f"{name}.pt2"
        if content is not None:
            path.write_bytes(content)
        if name == "flipped":
            # Weights are numbers: a damaged one loads. Damage to the table of contents does not.
            path.write_bytes(whole[:-5000] + bytes(5000))
        with pytest.raises(InputError) as caught:
            load_pt2(path)
        assert caught.value.code == "HETC-I220", name
    with pytest.raises(InputError, match="no exported program inside"):
        load_pt2(rewritten(saved, tmp_path, no_program))


def drop_weights(data: Any) -> None:
    data["config"].clear()


def wrong_version(data: Any) -> None:
    data["schema_version"]["major"] = 999


INCOMPLETE: dict[str, Edit] = {
    "no weights": in_json(WEIGHTS, drop_weights),
    "another schema": in_json("models/model.json", wrong_version),
    "no graph": in_json("models/model.json", lambda data: data.pop("graph_module")),
    "no tensor": lambda name, content: None if name == "data/weights/weight_3" else content,
    "short tensor": lambda name, content: (
        content[:8] if name == "data/weights/weight_3" else content
    ),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_incomplete_programs_are_refused(saved: Path, tmp_path: Path, name: str) -> None:
    path = rewritten(saved, tmp_path, INCOMPLETE[name])
    with pytest.raises(InputError) as caught:
        import_exported(load_pt2(path))
    assert caught.value.code in ("HETC-I220", "HETC-I222")


def test_compressed_archives_are_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.pt2"
    with (
        zipfile.ZipFile(saved) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(InputError, match="compressed entries"):
        load_pt2(path)


def test_a_program_from_another_device_arrives_on_the_cpu(saved: Path, tmp_path: Path) -> None:
    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith(".json"):
            return content
        return content.replace(b'"type": "cpu", "index": null', b'"type": "cuda", "index": 0')

    path = rewritten(saved, tmp_path, edit)
    assert_same(import_exported(load_pt2(path)), tiny("llama"))


@pytest.mark.parametrize(
    "text",
    [
        "Mul(Integer(2), Symbol('s70', positive=True, integer=True), Symbol('s72'))",
        "Max(1, s0 - 1)",
        "Pow(s0, 2) <= 4096",
        "-int_oo",
    ],
)
def test_sizes_are_accepted(text: str) -> None:
    assert check_expression(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "open('x')",
        "(lambda: 1)()",
        "Symbol('s0').func",
        "[x for x in s0]",
        "'s0'",
        "Symbol('os.system')",
        "eval",
        "s0 if s1 else s2",
        "f'{s0}'",
        "1 +",
        7,
    ],
)
def test_code_in_sizes_is_seen(text: object) -> None:
    assert check_expression(text)


def test_targets_and_trees() -> None:
    assert check_target("torch.ops.aten.mul.Tensor") == ""
    assert check_target("torch.ops.higher_order.wrap_with_set_grad_enabled") == ""
    assert check_target("_operator.add") == ""
    assert check_target("model.layers.0.weight") == ""
    for name in (
        "torch.load",
        "torch.ops.__class__.x",
        "_operator.attrgetter",
        "math.__loader__",
        "#x:y",
    ):
        assert check_target(name), name
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    enum = {
        "type": "builtins.dict",
        "context": '[{"__enum__": true, "fqn": "os:x"}]',
        "children_spec": [leaf],
    }
    assert check_tree(json.dumps([1, leaf])) == ""
    assert check_tree(json.dumps([1, enum]))
