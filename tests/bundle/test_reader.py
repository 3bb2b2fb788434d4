"""A bundle that was tampered with in any way is one clear error, and nothing of it is used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hetc.bundle import check_compat, open_bundle
from hetc.errors import BundleError
from tests.bundle.build import CONTRACT, make_bundle, tree
from tests.golden import Golden

FILES = sorted(
    [
        "README.md",
        "decisions.json",
        "decode/graph.hetc",
        "handoff.json",
        "manifest.json",
        "prefill/graph.hetc",
        "prefill/model.onnx",
        "tokenizer/tokenizer.json",
        "weights/model.safetensors",
    ]
)


def test_the_list_of_files_above_is_the_whole_bundle(bundle: Path) -> None:
    assert sorted(tree(bundle)) == FILES


def refusal(bundle: Path) -> BundleError:
    """The error of opening a spoilt bundle; every one says what, where and what to do."""
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    error = caught.value
    assert error.at
    assert error.do
    assert error.found
    return error


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [flip, truncate, append, empty, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_every_file_is_guarded(bundle: Path, name: str, spoil: Callable[[Path], None]) -> None:
    spoil(bundle / name)
    error = refusal(bundle)
    if name != "manifest.json":
        codes = {flip: "HETC-B011", Path.unlink: "HETC-B009"}
        assert (error.code, error.at) == (codes.get(spoil, "HETC-B010"), name)


def test_every_bit_of_the_manifest_matters_or_changes_what_is_read(bundle: Path) -> None:
    """A flipped bit is refused or gives a manifest that says something else: never a crash."""
    path = bundle / "manifest.json"
    raw = path.read_bytes()
    with open_bundle(bundle) as opened:
        before = opened.manifest
    for position in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        try:
            with open_bundle(bundle) as opened:
                blank = raw[position : position + 1].isspace()
                assert opened.manifest != before or blank
        except BundleError:
            continue


def test_swapped_files_are_refused(bundle: Path) -> None:
    one, other = bundle / "prefill/graph.hetc", bundle / "decode/graph.hetc"
    raw = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(raw)
    assert refusal(bundle).code == "HETC-B010"


def test_swapped_files_of_one_size_are_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", extra=("a.html", "b.html"))
    (bundle / "a.html").write_bytes(b"b.html")
    (bundle / "b.html").write_bytes(b"a.html")
    error = refusal(bundle)
    assert (error.code, error.at) == ("HETC-B011", "a.html")


@pytest.mark.parametrize("name", ["extra.txt", ".DS_Store", "weights/._model", "a/b/c.txt"])
def test_a_file_that_is_not_listed_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_text("x")
    error = refusal(bundle)
    assert (error.code, error.at) == ("HETC-B008", name)


def test_a_hostile_file_name_does_not_reach_the_terminal(bundle: Path) -> None:
    (bundle / "\x1b[2Jx").write_text("x")
    assert refusal(bundle).render().isprintable() is False  # It has line breaks,
    assert "\x1b" not in refusal(bundle).render()  # but no escape.


def to_outside(bundle: Path) -> None:
    secret = bundle.parent / "secret"
    shutil.move(bundle / "README.md", secret)
    (bundle / "README.md").symlink_to(secret)


def to_inside(bundle: Path) -> None:
    (bundle / "README.md").unlink()
    (bundle / "README.md").symlink_to("decisions.json")


def of_a_folder(bundle: Path) -> None:
    shutil.move(bundle / "weights", bundle.parent / "w")
    (bundle / "weights").symlink_to(bundle.parent / "w")


def dangling(bundle: Path) -> None:
    (bundle / "extra").symlink_to("/nowhere")


def pipe(bundle: Path) -> None:
    (bundle / "README.md").unlink()
    os.mkfifo(bundle / "README.md")


def manifest_link(bundle: Path) -> None:
    shutil.move(bundle / "manifest.json", bundle.parent / "m")
    (bundle / "manifest.json").symlink_to(bundle.parent / "m")


def manifest_pipe(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")


def deep(bundle: Path) -> None:
    (bundle / "/".join("abcdefghijk")).mkdir(parents=True)


@pytest.mark.parametrize(
    "spoil",
    [to_outside, to_inside, of_a_folder, dangling, pipe, manifest_link, manifest_pipe, deep],
)
def test_links_pipes_and_depth_are_refused(bundle: Path, spoil: Callable[[Path], None]) -> None:
    spoil(bundle)
    assert refusal(bundle).code == "HETC-B007"


def test_a_hard_link_is_a_file_like_any_other(bundle: Path, tmp_path: Path) -> None:
    """It cannot be told from a file, deduplicating tools make it, and its content is hashed."""
    secret = tmp_path / "secret"
    secret.write_bytes((bundle / "README.md").read_bytes())
    (bundle / "README.md").unlink()
    (bundle / "README.md").hardlink_to(secret)
    open_bundle(bundle).close()
    secret.write_bytes(b"another")
    assert refusal(bundle).at == "README.md"


def test_a_link_to_the_whole_bundle_is_the_users_choice(bundle: Path) -> None:
    (bundle.parent / "link").symlink_to(bundle)
    open_bundle(bundle.parent / "link").close()


def test_what_is_no_bundle(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none", tmp_path / "empty", bundle / "README.md"):
        assert refusal(path).code == "HETC-B001"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(bundle: Path) -> None:
    (bundle / "README.md").chmod(0)
    assert refusal(bundle).code == "HETC-B016"


def test_sizes_hashes_at_first_use(bundle: Path) -> None:
    flip(bundle / "README.md")
    flip(bundle / "weights/model.safetensors")
    flip(bundle / "prefill/model.onnx")
    with open_bundle(bundle, check="sizes") as opened:
        assert opened.read_bytes("decisions.json")
        uses: list[Callable[[], object]] = [
            lambda: opened.read_bytes("README.md"),
            lambda: opened.weight("layers.0.weight"),
            lambda: opened.path("prefill/model.onnx"),
        ]
        for use in uses:
            with pytest.raises(BundleError) as caught:
                use()
            assert caught.value.code == "HETC-B011"


def test_a_file_changed_after_opening_is_not_read(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        flip(bundle / "README.md")
        with pytest.raises(BundleError, match="was changed"):
            opened.read_bytes("README.md")


def test_names_that_are_not_there(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        for use in (opened.read_bytes, opened.path, opened.tensors, opened.weight):
            with pytest.raises(BundleError) as caught:
                use("../../etc/passwd")
            assert caught.value.code == "HETC-B013"
        tensors = opened.tensors("weights/model.safetensors")
        assert tensors.get("none") is None
        with pytest.raises(BundleError, match="no such tensor in the file"):
            tensors["none"]


def test_arrays_outlive_the_bundle_and_a_closed_one_says_so(bundle: Path) -> None:
    opened = open_bundle(bundle)
    array = opened.weight("layers.10.weight")
    opened.close()
    assert np.isfinite(array).all()
    for use in (opened.weight, opened.tensors, opened.path, opened.read_bytes):
        with pytest.raises(BundleError) as caught:
            use("weights/model.safetensors")
        assert caught.value.code == "HETC-B015"


def test_a_contract_of_another_compile_is_refused(bundle: Path) -> None:
    raw = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(raw.replace(CONTRACT.sha256, "0" * 64, 1))
    error = refusal(bundle)
    assert (error.code, error.at) == ("HETC-B004", "manifest.json: contract_sha256")


def test_compat_reads_the_manifest_only(bundle: Path) -> None:
    for name in set(FILES) - {"manifest.json"}:
        (bundle / name).unlink()
    assert check_compat(bundle, {"h200", "sn40l"}) == ()
    (reason,) = check_compat(bundle, {"h200"})
    assert str(reason) == "HETC-B030 at targets.decode: the decode half was compiled for sn40l"


def test_messages(bundle: Path, golden: Golden) -> None:
    flip(bundle / "prefill/model.onnx")
    lines = [refusal(bundle).render()]
    (bundle / "notes.txt").write_text("x")
    lines.append(refusal(bundle).render())
    (bundle / "notes.txt").unlink()
    to_inside(bundle)
    lines.append(refusal(bundle).render())
    raw = (bundle / "manifest.json").read_text()
    for old, new in [
        ('"hetc.bundle/1.1",\n  "summary"', '"hetc.bundle/2",\n  "summary"'),
        ('"layers": 1', '"layers": true'),
        ('"README.md"', '"../README.md"'),
        ('"compat": "hetc.bundle/1"', '"compat": "hetc.bundle/1.4"'),
    ]:
        (bundle / "manifest.json").write_text(raw.replace(old, new, 1))
        lines.append(refusal(bundle).render())
    golden("refusals.txt", "\n\n".join(lines) + "\n")
