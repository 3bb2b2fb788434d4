"""The manifest and the contract are read strictly: wrong types, versions, names, fuzzed JSON."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.bundle import BundleWriter, Contract, FileEntry, Manifest
from hetc.bundle.strict_json import parse_json
from hetc.errors import BundleError
from tests.bundle.build import CONTRACT, MANIFEST, fill


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A whole manifest as JSON values."""
    with BundleWriter(tmp_path_factory.mktemp("m") / "b") as writer:
        fill(writer)
        whole: dict[str, Any] = json.loads(writer.commit(MANIFEST).to_bytes())
    return whole


def read(value: object) -> Manifest:
    return Manifest.from_bytes(json.dumps(value).encode())


def edited(value: dict[str, Any], path: str, new: object) -> dict[str, Any]:
    """A copy with one field set; `path` is dotted."""
    whole = copy.deepcopy(value)
    *folders, last = path.split(".")
    inner = whole
    for folder in folders:
        inner = inner[folder]
    inner[last] = new
    return whole


def test_reading_gives_what_was_written(plain: dict[str, Any]) -> None:
    assert read(plain).to_json() == plain
    assert read(plain).model == MANIFEST.model
    assert Contract.from_bytes(CONTRACT.to_bytes()) == CONTRACT


@pytest.mark.parametrize(
    ("path", "value", "at"),
    [
        ("model", [], "model"),
        ("model.layers", True, "model.layers"),
        ("model.layers", 1.0, "model.layers"),
        ("model.layers", -1, "model.layers"),
        ("model.layers", 2**63, "model.layers"),
        ("model.vocab", 0, "model.vocab"),
        ("model.name", None, "model.name"),
        ("model.name", "a\x1b[31m", "model.name"),
        ("model.name", "\ud800", "model.name"),
        ("model.name", "x" * 5000, "model.name"),
        ("kind", "virus", "kind"),
        ("kind", {}, "kind"),
        ("executors", [], "executors"),
        ("executors", ["onnx", "onnx"], "executors"),
        ("executors", "onnx", "executors"),
        ("targets.prefill.sha256", "A" * 64, "targets.prefill.sha256"),
        ("targets", {"prefill": {"name": "x", "sha256": "a" * 64}}, "targets.decode"),
        ("targets.third", {}, "targets.third"),
        ("halves.decode.graph", "elsewhere.hetc", "halves.decode.graph"),
        ("halves.decode.state_inputs", ["a", 3], "halves.decode.state_inputs[1]"),
        ("golden.prefill_tokens", "4", "golden.prefill_tokens"),
        ("fallbacks", [{"code": "X", "op": "y"}], "fallbacks[0].reason"),
        ("summary", [["x"]], "summary[0]"),
        ("surprise", 1, "surprise"),
        ("model.surprise", 1, "model.surprise"),
        ("files.handoff", [], "files['handoff']"),
        ("files.manifest", {"size": 1, "sha256": "short"}, "files['manifest'].sha256"),
    ],
)
def test_a_wrong_field_is_named(plain: dict[str, Any], path: str, value: object, at: str) -> None:
    with pytest.raises(BundleError) as caught:
        read(edited(plain, path, value))
    assert (caught.value.code, caught.value.at) == ("HETC-B004", f"manifest.json: {at}")


@pytest.mark.parametrize(
    ("schema", "do"),
    [
        ("hetc.bundle/2", "install a newer hetc"),
        ("hetc.bundle/0", "compile the model again with this hetc"),
        ("hetc.handoff/1", "compile the model again with this hetc"),
        ("hetc.bundle/01", "compile the model again with this hetc"),
        ("hetc.bundle/1.x", "compile the model again with this hetc"),
        (1, "compile the model again with this hetc"),
    ],
)
def test_another_schema_is_refused(plain: dict[str, Any], schema: object, do: str) -> None:
    with pytest.raises(BundleError) as caught:
        read(edited(plain, "schema", schema))
    assert (caught.value.code, caught.value.do) == ("HETC-B003", do)


def test_a_newer_minor_is_read_without_its_new_fields(plain: dict[str, Any]) -> None:
    newer = edited(plain, "schema", "hetc.bundle/1.3")
    for path in ("surprise", "model.surprise", "halves.decode.surprise"):
        newer = edited(newer, path, {"any": ["thing"]})
    assert read(newer) == read(plain)
    with pytest.raises(BundleError) as caught:
        read(edited(newer, "compat", "hetc.bundle/1.3"))
    assert caught.value.code == "HETC-B005"
    with pytest.raises(BundleError) as caught:
        read(edited(newer, "model.layers", "3"))
    assert caught.value.code == "HETC-B004"


NAMES = [
    "../manifest2.json",
    "/etc/passwd",
    "a/../../b",
    "a//b",
    "a/",
    "./a",
    "a\\b",
    "C:a",
    "C:\\a",
    "a\0b",
    "a\nb",
    "",
    ".",
    "..",
    ".hidden",
    "a.",
    "a ",
    "CON",
    "nul.txt",
    "a/aux/b",
    "é",
    "a" * 300,
    "/".join("a" * 20),
    "~/x",
    "$HOME",
    "README.MD",
    "handoff.json/x",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_that_could_leave_the_directory_is_refused(
    plain: dict[str, Any], name: str
) -> None:
    whole = copy.deepcopy(plain)
    whole["files"][name] = {"size": 1, "sha256": "0" * 64}
    with pytest.raises(BundleError) as caught:
        read(whole)
    assert caught.value.code == "HETC-B006"
    for half in ("prefill", "decode"):
        if name not in ("README.MD", "handoff.json/x"):
            with pytest.raises(BundleError) as caught:
                read(edited(plain, f"halves.{half}.graph", name))
            assert caught.value.code == "HETC-B006"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"' + b'\\"' * 1_000_000,
        b'"\\',
        b'{"schema": NaN}',
        b'{"a": 1, "a": 2}',
        b"1" * 5000,
        b" " * (5 * 2**20),
        b"[" + b"{}," * 1_100_000 + b"{}]",
        b"null garbage",
    ],
)
def test_bytes_that_are_not_plain_json_are_refused(raw: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        Manifest.from_bytes(raw)
    assert caught.value.code == "HETC-B002"
    assert len(caught.value.render()) < 1000


def test_brackets_inside_strings_are_not_nesting() -> None:
    assert parse_json(b'"[[[[\\"[[[["', "x", max_bytes=100, max_depth=1) == '[[[["[[[['


@pytest.mark.parametrize(
    ("path", "value", "at"),
    [
        ("contexts.min", 0, "contexts.min"),
        ("contexts.max", 0, "contexts.max"),
        ("states.0.name", "", "states[0].name"),
        ("states.0.name", "layers.0.v", "states"),
        ("states.0.kind", "magic", "states[0].kind"),
        ("states.0.shape", ["B", -1], "states[0].shape[1]"),
        ("states.0.shape", ["B", "__import__('os')"], "states[0].shape[1]"),
        ("states.0.shape", ["B"], "states[0].append_axis"),
        ("states.0.dtype", "object", "states[0].dtype"),
        ("states.0.alignment", 48, "states[0].alignment"),
        ("states.0.position_range", ["0"], "states[0].position_range"),
        ("states.0.owner_after", "nobody", "states[0].owner_after"),
        ("states.0.pickle", "x", "states[0].pickle"),
    ],
)
def test_a_wrong_contract_is_named(path: str, value: object, at: str) -> None:
    plain: Any = json.loads(CONTRACT.to_bytes())
    *folders, last = path.split(".")
    inner = plain
    for folder in folders:
        inner = inner[int(folder) if folder.isdecimal() else folder]
    inner[last] = value
    with pytest.raises(BundleError) as caught:
        Contract.from_json(plain)
    assert (caught.value.code, caught.value.at) == ("HETC-B004", f"handoff.json: {at}")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


def mutate(value: Any, rng: random.Random, new: object) -> Any:
    """A copy with one place, chosen at random, replaced by `new`, deleted or given a new key."""
    whole = copy.deepcopy(value)
    inner = whole
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not keys:
            return whole
        key = rng.choice(keys)
        if isinstance(inner[key], dict | list) and rng.random() < 0.8:
            inner = inner[key]
            continue
        action = rng.randrange(3)
        if action == 0:
            inner[key] = new
        elif action == 1:
            del inner[key]
        elif isinstance(inner, dict):
            inner[rng.choice(["new", "../x", "schema", "\x00"])] = new
        return whole


@given(seed=st.integers(0, 2**32), new=ANYTHING)
def test_a_mutated_manifest_is_read_or_refused_never_worse(
    plain: dict[str, Any], seed: int, new: object
) -> None:
    raw = json.dumps(mutate(plain, random.Random(seed), new)).encode()
    try:
        manifest = Manifest.from_bytes(raw)
    except BundleError as error:
        error.render().encode()
    else:
        assert Manifest.from_bytes(manifest.to_bytes()) == manifest


@given(seed=st.integers(0, 2**32), new=ANYTHING)
def test_a_mutated_contract_is_read_or_refused_never_worse(seed: int, new: object) -> None:
    raw = json.dumps(mutate(CONTRACT.to_json(), random.Random(seed), new)).encode()
    try:
        contract = Contract.from_bytes(raw)
    except BundleError as error:
        error.render().encode()
    else:
        assert Contract.from_bytes(contract.to_bytes()) == contract


@given(raw=st.binary(max_size=64))
def test_noise_is_refused(raw: bytes) -> None:
    with pytest.raises(BundleError):
        Manifest.from_bytes(raw)


def test_a_manifest_holds_no_entry_for_itself(plain: dict[str, Any]) -> None:
    whole = copy.deepcopy(plain)
    whole["files"]["manifest.json"] = vars(FileEntry(1, "0" * 64))
    with pytest.raises(BundleError, match="every file but the manifest itself"):
        read(whole)
