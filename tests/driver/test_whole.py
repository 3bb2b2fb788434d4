"""Models without phases: every source, both executors, and the model itself as the oracle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import hetc
from hetc.driver import CompileOptions, compile_bundle, inspect, load, verify
from hetc.errors import BundleError, CheckFailed, HetcError, RuntimeFault, StateError, UsageError
from hetc.runtime import Bundle
from tests.driver.models import build, export, save
from tests.driver.whole_models import CASES, DIRECTORIES, MLP, Case, Inputs

TOLERANCE = 1e-4
EXECUTORS = ("onnx", "reference")
SOURCES = ("exported", "pt2", "onnx")


def compiled(source: Any, folder: Path, **options: Any) -> Path:
    return compile_bundle(source, folder / "bundle", CompileOptions(**options)).path


def source_of(kind: str, case: Case, module: nn.Module, folder: Path) -> Any:
    if kind == "onnx":
        return case.onnx(module, folder / "model.onnx")
    program = case.export(module)
    if kind == "exported":
        return program
    torch.export.save(program, folder / "model.pt2")
    return folder / "model.pt2"


def largest_error(bundle: Bundle, inputs: Inputs, expected: Sequence[Any]) -> float:
    given = bundle.run(**{name: tensor.numpy() for name, tensor in inputs.items()})
    pairs = zip(given.values(), expected, strict=True)
    return max(float(np.max(np.abs(found - wanted))) for found, wanted in pairs)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_module(name: str, kind: str, tmp_path: Path) -> None:
    case = CASES[name]
    module = case.module()
    path = compiled(source_of(kind, case, module, tmp_path), tmp_path)
    for executor in EXECUTORS:
        with load(path, executor=executor) as bundle:
            assert bundle.executors == {"forward": executor}
            assert bundle.fallbacks == ()
            for batch in (1, 2, 5):
                inputs = case.inputs(batch)
                expected = case.expected(module, inputs)
                assert largest_error(bundle, inputs, expected) <= TOLERANCE, (executor, batch)
    with hetc.load(path) as bundle:
        assert bundle.executors == {"forward": "onnx"}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_equals_the_saved_model(name: str, tmp_path: Path) -> None:
    case = DIRECTORIES[name]
    module: Any = case.module()
    module.save_pretrained(tmp_path / name)
    with load(compiled(tmp_path / name, tmp_path)) as bundle:
        forward = bundle.manifest.forward
        assert forward is not None
        assert type(module).__name__ in forward.reason
        assert [tensor.name for tensor in forward.inputs] == list(case.inputs(1))
        for batch in (1, 3):
            inputs = case.inputs(batch)
            assert largest_error(bundle, inputs, case.expected(module, inputs)) <= TOLERANCE
        assert verify(bundle.files.root, tmp_path / name).ok


def test_a_traced_module(tmp_path: Path) -> None:
    case = CASES["mlp"]
    module = case.module()
    source = (torch.fx.symbolic_trace(module), tuple(case.inputs(1).values()))
    with load(compiled(source, tmp_path)) as bundle:
        for batch in (1, 4):
            inputs = case.inputs(batch)
            assert largest_error(bundle, inputs, case.expected(module, inputs)) <= TOLERANCE


def test_a_configuration_gives_a_plan(tmp_path: Path) -> None:
    transformers.BertConfig(
        vocab_size=96, hidden_size=32, num_attention_heads=4, architectures=["BertModel"]
    ).save_pretrained(tmp_path / "bert")
    path = compiled(tmp_path / "bert", tmp_path)
    assert inspect(path, CompileOptions()).model["no_phases"].startswith("HETC-I013")
    with load(path) as bundle:
        assert bundle.manifest.kind == "plan"
        with pytest.raises(RuntimeFault, match="HETC-R001"):
            bundle.run(np.zeros((1, 4), np.int64))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_narrow_types(dtype: str, tmp_path: Path) -> None:
    case = CASES["mlp"]
    module = case.module()
    path = compiled(case.export(module), tmp_path, dtype=dtype)
    inputs = case.inputs(3)
    for executor in EXECUTORS:
        with load(path, executor=executor) as bundle:
            assert bundle.manifest.model.dtype == {"bf16": "bf16", "fp16": "f16"}[dtype]
            (found,) = bundle.run(inputs["x"].numpy()).values()
            assert found.dtype == np.float32
            assert largest_error(bundle, inputs, case.expected(module, inputs)) <= 5e-2
    assert verify(path).ok


def test_quantized_matrices(tmp_path: Path) -> None:
    case = CASES["bert"]
    module = case.module()
    path = compiled(case.export(module), tmp_path, quantize="int8")
    with load(path) as bundle:
        assert any("matrices stored in groups" in line for line in bundle.manifest.summary)
        inputs = case.inputs(2)
        error = largest_error(bundle, inputs, case.expected(module, inputs))
        assert 1e-6 < error <= 0.1


def test_a_cut_by_op_may_use_both_devices(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('granularity = "op"\n[pins]\n"0" = "prefill"\n"3" = "decode"\n')
    path = compiled(CASES["mlp"].export(CASES["mlp"].module()), tmp_path, policy=policy)
    decisions = json.loads((path / "decisions.json").read_text())
    assert {record["phase"] for record in decisions["ops"]} == {"forward"}
    where = {record["name"]: record["role"] for record in decisions["ops"]}
    assert (where["0"], where["3"]) == ("prefill", "decode")
    assert [item["kind"] for item in decisions["transfers"]] == ["activation"]
    assert list(decisions["cut"]["phase_seconds"]) == ["forward"]


def test_the_sizes_that_a_cut_is_made_for(tmp_path: Path) -> None:
    program = CASES["bert"].export(CASES["bert"].module())
    path = compiled(program, tmp_path, batch=16, prompt_tokens=512)
    with load(path) as bundle:
        forward = bundle.manifest.forward
        assert forward is not None
        # The export says that a sequence has at most 64 tokens.
        assert forward.planned == {"N0": 16, "N1": 64}
        assert forward.sizes == {"N0": (1, None), "N1": (1, 64)}
        with pytest.raises(RuntimeFault, match="HETC-R071"):
            bundle.run(*(np.ones((1, 65), np.int64) for _ in range(3)))


def test_views_alone_and_nothing_at_all(tmp_path: Path) -> None:
    class Views(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x.transpose(0, 1)

    shapes = ({0: torch.export.Dim("n", min=1)},)
    program = torch.export.export(Views(), (torch.ones(3, 4),), dynamic_shapes=shapes)
    with load(compiled(program, tmp_path)) as bundle:
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        same, turned = bundle.run(x).values()
        np.testing.assert_array_equal(same, x)
        np.testing.assert_array_equal(turned, x.T)


def test_a_language_model_as_one_function(tmp_path: Path) -> None:
    model = build("llama")
    path = compiled(save(model, tmp_path / "llama"), tmp_path, phases="none")
    ids = torch.randint(0, 100, (2, 9))
    with load(path) as bundle:
        assert bundle.manifest.forward is not None
        assert bundle.manifest.forward.reason.startswith("HETC-I011")
        found = bundle.run(ids.numpy(), np.ones((2, 9), np.int64))
        with torch.no_grad():
            expected = model(input_ids=ids).logits.numpy()
        np.testing.assert_allclose(found["logits"], expected, atol=TOLERANCE)


def test_what_cannot_be_split_is_not_compiled_whole_unasked(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=96, hidden_size=32, num_attention_heads=4, num_hidden_layers=1
    )
    program = export(transformers.BertForMaskedLM(config).eval())
    with pytest.raises(StateError, match="HETC-S010") as caught:
        compiled(program, tmp_path)
    (note,) = caught.value.__notes__
    assert "--phases none" in note
    with load(compiled(program, tmp_path, phases="none")) as bundle:
        assert bundle.run(np.ones((1, 5), np.int64))


def test_what_has_no_phases_says_so(tmp_path: Path) -> None:
    path = compiled(CASES["mlp"].export(MLP().eval()), tmp_path)
    with load(path) as bundle:
        for call in (
            lambda: bundle.prefill([1]),
            lambda: bundle.generate([1]),
            lambda: bundle.contract,
            lambda: bundle.manifest.half("decode"),
            lambda: bundle.manifest.request,
        ):
            with pytest.raises(BundleError, match="HETC-B017"):
                call()


def test_what_has_phases_is_no_function(tmp_path: Path) -> None:
    with (
        hetc.compile(save(build("llama"), tmp_path / "llama")) as bundle,
        pytest.raises(BundleError, match="HETC-B018"),
    ):
        bundle.run(np.ones((1, 4), np.int64))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"context": 8}, "--context"),
        ({"kv": "int8"}, "--kv"),
        ({"plan": "plan.json"}, "--plan"),
    ],
)
def test_options_of_phases_are_refused(options: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HETC-U018") as caught:
        compiled(CASES["mlp"].export(MLP().eval()), tmp_path, **options)
    assert named in caught.value.at


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ([], "HETC-R070"),
        ([np.zeros((1, 16), np.float32)] * 2, "HETC-R070"),
        ([np.zeros((1, 16), np.int64)], "HETC-R070"),
        ([np.zeros((1, 16), np.complex64)], "HETC-R070"),
        ([["a"]], "HETC-R070"),
        ([np.zeros((1, 15), np.float32)], "HETC-R071"),
        ([np.zeros((16,), np.float32)], "HETC-R071"),
        ([np.zeros((0, 16), np.float32)], "HETC-R071"),
    ],
)
def test_wrong_inputs(given: list[Any], code: str, mlp_bundle: Path) -> None:
    with load(mlp_bundle) as bundle, pytest.raises(RuntimeFault, match=code):
        bundle.run(*given)


@pytest.fixture(scope="module")
def mlp_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = CASES["mlp"]
    return compiled(case.export(case.module()), tmp_path_factory.mktemp("mlp"))


def test_inputs_of_the_same_kind_are_converted(mlp_bundle: Path) -> None:
    with load(mlp_bundle) as bundle:
        x = np.random.default_rng(0).standard_normal((2, 16))
        (wide,) = bundle.run(x=x).values()
        (same,) = bundle.run(torch.from_numpy(x).float()).values()
        np.testing.assert_array_equal(wide, same)


def test_a_closed_bundle(mlp_bundle: Path) -> None:
    bundle = load(mlp_bundle)
    bundle.close()
    with pytest.raises(RuntimeFault, match="HETC-R004"):
        bundle.run(np.zeros((1, 16), np.float32))


def test_verify_sees_other_weights(tmp_path: Path) -> None:
    case = CASES["resnet"]
    source = source_of("pt2", case, case.module(), tmp_path)
    path = compiled(source, tmp_path)
    found = verify(path, source)
    assert found.ok
    assert [check.name for check in found.checks] == ["files", "golden vectors", "original model"]
    torch.manual_seed(1)
    torch.export.save(case.export(case.make().eval()), tmp_path / "other.pt2")
    found = verify(path, tmp_path / "other.pt2")
    assert not found.ok
    assert found.first_divergence is not None
    assert found.first_divergence["check"] == "original model"
    assert not verify(path, lambda inputs: []).ok


def test_a_pass_that_changes_the_result_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hetc.driver import plan_whole
    from hetc.ir.graph import Graph, rebuild
    from hetc.ir.op import Op

    def damaged(graph: Graph) -> Graph:
        def rewrite(op: Op) -> Op | None:
            return op.replace(eps=0.5) if op.kind == "layer_norm" else None

        return rebuild(graph, rewrite)

    monkeypatch.setattr(plan_whole, "outline_layers", damaged)
    with pytest.raises(CheckFailed, match="HETC-V005"):
        compiled(CASES["mlp"].export(MLP().eval()), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_equal_models_give_equal_bundles(tmp_path: Path) -> None:
    case = CASES["bert"]
    bundles = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        bundles.append(compiled(case.export(case.module()), tmp_path / name))
    a, b = ((path / "manifest.json").read_bytes() for path in bundles)
    assert a == b


@pytest.mark.parametrize("key", ["graph", "onnx", "inputs", "outputs", "sizes", "reason"])
def test_a_damaged_manifest(key: str, tmp_path: Path) -> None:
    path = compiled(CASES["mlp"].export(MLP().eval()), tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    values: tuple[Any, ...] = (None, 7, "nowhere", [], {"a": 1})
    for value in values:
        changed = {**manifest, "forward": {**manifest["forward"], key: value}}
        if changed["forward"] == manifest["forward"] or (key == "onnx" and value is None):
            continue
        if key == "reason" and isinstance(value, str):
            continue
        (path / "manifest.json").write_text(json.dumps(changed) + "\n")
        with pytest.raises(HetcError) as caught:
            load(path)
        # Other inputs than the graph's are seen by whoever runs it.
        codes = ("HETC-B004", "HETC-B006", *(["HETC-R003"] if key in ("inputs", "outputs") else []))
        assert caught.value.code in codes, (key, value)
