"""The native engine as a bundle's executor; test_architectures has every family."""

from __future__ import annotations

import importlib.metadata
import sys
import threading
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

import hetc
from hetc import runtime
from hetc.bundle import OpenBundle
from hetc.cli import main
from hetc.driver import CompileOptions, compile_bundle, load
from hetc.driver.verify import QUANTIZED_STATE, verify
from hetc.errors import BundleError, HetcError, MissingDependency, RuntimeFault
from hetc.ir.types import Array
from hetc.runtime import Bundle
from hetc.runtime.native import NativeOptions, jit, native_executors
from tests.driver.conftest import Subjects
from tests.driver.models import build, eager, save, tokens
from tests.driver.stepping import largest_error

TOLERANCE = 1e-4


def loaded(path: Path, threads: int) -> Bundle:
    offered = {"native": native_executors(NativeOptions(threads))}
    return runtime.load(path, executors=offered, executor="native")


def test_states_pass_from_one_executor_to_the_other(subjects: Subjects) -> None:
    """Prefilled by ONNX Runtime, decoded natively, and the other way round."""
    subject = subjects("gemma2")
    ids = tokens(2, 20)
    expected = eager(subject.model, ids)[:, 12:]
    with load(subject.path, executor="native") as native:
        for first, second in ((subject.bundle, native), (native, subject.bundle)):
            _, state = first.prefill(ids[:, :12].numpy())
            found, _ = second.decode(ids[:, 12:].numpy(), state)
            assert np.abs(found - expected).max() <= TOLERANCE


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 1e-2), ("bf16", 5e-2)])
def test_narrow_weights(subjects: Subjects, dtype: str, tolerance: float, tmp_path: Path) -> None:
    subject = subjects("qwen3")
    ids = tokens(2, 20)
    expected = eager(subject.model, ids)
    path = compile_bundle(subject.source, tmp_path / "bundle", CompileOptions(dtype=dtype)).path
    with load(path, executor="native") as bundle:
        error = largest_error(bundle, ids.numpy(), expected, 12, 1)
    assert 0 < error <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_quantized_weights_are_those_of_every_executor(
    subjects: Subjects, quantize: str, tmp_path: Path
) -> None:
    """In portable code, which rounds no input, the logits are those of ONNX Runtime."""
    ids = tokens(2, 20).numpy()
    path = compile_bundle(
        subjects("llama").source, tmp_path / "bundle", CompileOptions(quantize=quantize)
    ).path
    portable = {"native": native_executors(NativeOptions(variant="portable"))}
    with load(path, executor="onnx") as bundle:
        expected, state = bundle.prefill(ids[:, :12])
        steps, _ = bundle.decode(ids[:, 12:13], state)
    with runtime.load(path, executors=portable, executor="native") as bundle:
        found, state = bundle.prefill(ids[:, :12])
        ours, _ = bundle.decode(ids[:, 12:13], state)
    for one, other in ((found, expected), (ours, steps)):
        assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


def test_keys_and_values_in_8_bits(subjects: Subjects, tmp_path: Path) -> None:
    """Near the model's own, and other executors take them over as the contract has them."""
    subject, ids = subjects("llama"), tokens(2, 20)
    options = CompileOptions(kv="int8", strict=True)
    path = compile_bundle(subject.source, tmp_path / "bundle", options).path
    expected = eager(subject.model, ids)
    with load(path, executor="native") as bundle, load(path, executor="onnx") as onnx:
        error = largest_error(bundle, ids.numpy(), expected, 12, 1)
        _, state = bundle.prefill(ids[:, :12].numpy())
        steps, _ = onnx.decode(ids[:, 12:].numpy(), state)
    assert TOLERANCE < error <= QUANTIZED_STATE * np.abs(expected).max()
    assert np.abs(steps - expected[:, 12:]).max() <= QUANTIZED_STATE * np.abs(expected).max()
    assert verify(path, executor="native").ok


def test_latents_keep_their_type(subjects: Subjects, tmp_path: Path) -> None:
    """Keys are a latent and a rotated part side by side: no row has a scale of its own."""
    source, options = subjects("deepseek_v3").source, CompileOptions(kv="int8")
    found = compile_bundle(source, tmp_path / "bundle", options).manifest
    assert [fallback.code for fallback in found.fallbacks] == ["HETC-E046"]
    assert found.executors[0] == "native"
    with pytest.raises(HetcError, match="HETC-P020"):
        compile_bundle(source, tmp_path / "strict", CompileOptions(kv="int8", strict=True))


def test_text_is_generated(subjects: Subjects) -> None:
    path = subjects("llama").path
    with load(path, executor="native") as native, load(path, executor="onnx") as onnx:
        prompts = [[3, 4, 5], [6, 7, 8], [9] * 20]
        found = native.generate(prompts, max_new_tokens=12)
        expected = onnx.generate(prompts, max_new_tokens=12)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.token_ids == theirs.token_ids
            assert ours.executors == {"prefill": "native", "decode": "native"}


def test_no_thread_stays(subjects: Subjects) -> None:
    before = threading.active_count()
    for _ in range(3):
        with loaded(subjects("llama").path, 3) as bundle:
            bundle.generate([3, 4, 5], max_new_tokens=3)
            assert threading.active_count() == before + 3
        assert threading.active_count() == before


def test_two_bundles_in_one_process(subjects: Subjects, tmp_path: Path) -> None:
    other = compile_bundle(
        save(build("llama", hidden_size=48), tmp_path / "m"), tmp_path / "b", CompileOptions()
    ).path
    with loaded(subjects("llama").path, 2) as one, loaded(other, 2) as two:
        alone = [bundle.generate([3, 4, 5], max_new_tokens=8).token_ids for bundle in (one, two)]
        found: dict[int, tuple[int, ...]] = {}

        def generate(place: int, bundle: Bundle) -> None:
            found[place] = bundle.generate([3, 4, 5], max_new_tokens=8).token_ids

        callers = [
            threading.Thread(target=generate, args=(place, bundle))
            for place, bundle in enumerate((one, two))
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert [found[0], found[1]] == alone


def test_one_thread_and_three(subjects: Subjects) -> None:
    """Sums are parted as threads are, so that only the last bits may differ; the same number of
    threads gives the same bits."""
    ids = tokens(1, 20).numpy()
    found: list[Array] = []
    for threads in (1, 3, 3):
        with loaded(subjects("qwen3").path, threads) as bundle:
            logits, state = bundle.prefill(ids[:, :12])
            found.append(np.concatenate([logits, bundle.decode(ids[:, 12:], state)[0]], 1))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    assert np.array_equal(found[1], found[2])


def _no_package(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


def test_without_torch_mlir(subjects: Subjects, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not its code was kept: who asks for the engine hears what it needs."""
    path = subjects("llama").path
    load(path, executor="native").close()
    monkeypatch.setattr("importlib.metadata.version", _no_package)
    with pytest.raises(MissingDependency, match="torch-mlir"):
        load(path, executor="native")


def test_a_broken_torch_mlir(subjects: Subjects, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is there, and cannot be imported."""
    monkeypatch.setitem(sys.modules, "torch_mlir.execution_engine", None)
    offered = {"native": native_executors(NativeOptions(code_folder=None))}
    with pytest.raises(MissingDependency, match="torch-mlir"):
        runtime.load(subjects("llama").path, executors=offered, executor="native")


def test_what_does_not_compile_names_half_and_remedy(
    subjects: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "_PIPELINE", "builtin.module(no-such-pass)")
    with pytest.raises(RuntimeFault, match="HETC-R040") as caught:
        load(subjects("llama").path, executor="native")
    assert caught.value.at.startswith("prefill (native/prefill.")
    assert "--executor onnx" in caught.value.do


def test_what_does_not_compile_names_stage_and_op(
    subjects: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = OpenBundle.read_bytes

    def broken(files: OpenBundle, name: str) -> bytes:
        """No norm has a root that MLIR knows."""
        raw = read(files, name)
        first, stage, rest = raw.partition(b"// stage Norm")
        return first + stage + rest.replace(b"llvm.intr.sqrt", b"llvm.intr.no", 1)

    monkeypatch.setattr(OpenBundle, "read_bytes", broken)
    with pytest.raises(RuntimeFault, match="HETC-R040") as caught:
        load(subjects("llama").path, executor="native")
    assert ", stage Norm of rms_norm input_layernorm" in caught.value.at
    assert "error: " in caught.value.found
    assert "--executor onnx" in caught.value.do


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("importlib.metadata.version", _no_package, "needs the package torch-mlir"),
        ("hetc.runtime.native.jit._PIPELINE", "builtin.module(no)", "HETC-R040"),
    ],
)
def test_without_the_engine_the_next_executor_runs(
    name: str,
    fault: object,
    said: str,
    subjects: Subjects,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And `hetc run` says why."""
    options = CompileOptions(quantize="int8")
    path = compile_bundle(subjects("llama").source, tmp_path / "bundle", options).path
    monkeypatch.setattr(name, fault)
    assert main(["run", str(path), "--tokens", "3,4,5", "-n", "2"]) == 0
    *notes, timings = capsys.readouterr().err.splitlines()
    (note,) = [line for line in notes if line.startswith("note: an executor was passed over: ")]
    assert said in note
    assert "onnx" in timings


@pytest.mark.parametrize("kind", ["weights.bin", "layout.json", "prefill.*.mlir"])
def test_a_changed_file_is_no_reason_for_the_next_executor(
    kind: str, subjects: Subjects, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copytree(subjects("llama").path, tmp_path / "bundle")
    for file in (path / "native").glob(kind):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    with pytest.raises(BundleError, match="HETC-B011"):
        load(path)
    assert main(["run", str(path), "--tokens", "3,4,5", "-n", "2"]) == 2
    assert capsys.readouterr().out == ""


def test_a_closed_bundle_says_so(subjects: Subjects) -> None:
    bundle = hetc.load(subjects("llama").path, executor="native")
    bundle.close()
    with pytest.raises(RuntimeFault, match="HETC-R004"):
        bundle.prefill([[3, 4]])
