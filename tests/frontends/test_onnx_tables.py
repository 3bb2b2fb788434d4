"""Every table function against ONNX's own reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from onnx import NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hetc.errors import InputError, Reason
from hetc.frontends.onnx.context import Context
from hetc.frontends.onnx.item import Item, WeightItem
from hetc.frontends.onnx.table_source import stored
from hetc.frontends.onnx.tensors import NUMBERS, weight_data
from hetc.frontends.onnx.walk import import_nodes
from hetc.ir.interpret import interpret
from hetc.ir.types import Array, TensorType, dtype_of

RNG = np.random.default_rng(7)
OPSET = 23


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values: Any) -> Array:
    return np.array(values, np.int64)


def flags(*shape: int) -> Array:
    return RNG.random(shape) < 0.5


def imported(
    node: NodeProto, inputs: Mapping[str, Array], fixed: Mapping[str, Array], version: int = OPSET
) -> tuple[tuple[Array, ...], tuple[Reason, ...]]:
    """The results of one node, imported with `fixed` as initializers and run by the interpreter."""
    ctx = Context("node")
    for name, array in inputs.items():
        value = ctx.builder.input(name, TensorType(dtype_of(array), array.shape))
        ctx.env[name] = Item(value.type, value)
    for name, array in fixed.items():
        ctx.env[name] = stored(ctx, name, weight_data(numpy_helper.from_array(array, name), None))
    import_nodes(ctx, [node], {"": version, "com.microsoft": 1})
    results = [ctx.env[name] for name in node.output if name]
    values = []
    for item in results:
        assert isinstance(item, Item)
        values.append(item.value)
        if item.value.op is not None:
            ctx.builder.add(item.value.op)
    graph = ctx.builder.finish(values)
    weights = {name: item.data for name, item in ctx.weights.items()}
    outputs = interpret(graph, list(inputs.values()), lambda name: weights[name].load())
    return outputs, tuple(ctx.opaque)


def reference(
    node: NodeProto, inputs: Mapping[str, Array], fixed: Mapping[str, Array], version: int = OPSET
) -> list[Array]:
    """The results of one node by ONNX's evaluator."""
    feeds = {**inputs, **fixed}
    infos = [
        helper.make_tensor_value_info(name, NUMBERS[dtype_of(array)], array.shape)
        for name, array in feeds.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "node", infos, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    return list(ReferenceEvaluator(model).run(None, feeds))


Case = tuple[str, dict[str, Array], dict[str, Array], dict[str, Any]]


def case(
    op: str, *data: Array, fixed: tuple[Any, ...] = (), outputs: int = 1, **attributes: Any
) -> Any:
    """A parameter: `data` are inputs of the graph, `fixed` the initializers after them."""
    names = [f"x{i}" for i in range(len(data))]
    rest = [f"c{i}" if array is not None else "" for i, array in enumerate(fixed)]
    made = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names + rest, made, **attributes)
    inputs = dict(zip(names, data, strict=True))
    known = {n: np.asarray(a) for n, a in zip(rest, fixed, strict=True) if a is not None}
    text = ",".join(f"{key}={value}" for key, value in attributes.items())
    return pytest.param(node, inputs, known, id=f"{op}({text})")


POSITIVE = np.abs(f32(2, 3)) + 0.1
UNARY = [
    "Neg",
    "Abs",
    "Sign",
    "Exp",
    "Sin",
    "Cos",
    "Tan",
    "Tanh",
    "Sigmoid",
    "Erf",
    "Relu",
    "Softplus",
]
UNARY += ["Floor", "Ceil", "Round", "IsNaN"]
BINARY = ["Add", "Sub", "Mul", "Div", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"]
BINARY += ["Max", "Min"]

CASES = [
    *(case(op, f32(2, 3)) for op in UNARY),
    *(case(op, POSITIVE) for op in ("Log", "Sqrt", "Reciprocal")),
    *(case(op, f32(2, 3), f32(3)) for op in BINARY),
    *(case(op, f32(2, 3), fixed=(np.float32(0.5),)) for op in BINARY),
    *(case(op, flags(2, 3), flags(3)) for op in ("And", "Or", "Xor")),
    case("Not", flags(4)),
    case("Sum", f32(2, 3), f32(3), f32(1, 3)),
    case("Mean", f32(2, 3), f32(3), f32(1, 3)),
    case("Pow", f32(2, 3), fixed=(np.float32(2),)),
    case("Pow", POSITIVE, fixed=(i64(3),)),
    case("Div", i64(7, -7, 8), i64(2, 2, -3)),
    case("Mod", i64(7, -7, 8), i64(3, 3, -3)),
    case("Mod", i64(7, -7, 8), i64(3, 3, -3), fmod=1),
    case("IsInf", np.array([1, np.inf, -np.inf], np.float32)),
    case("Where", flags(2, 3), f32(2, 3), f32(3)),
    case("Where", flags(2, 3), fixed=(np.float32(0), np.float32(-9))),
    case("Where", flags(3), f32(2, 3), fixed=(np.float32(1),)),
    case("Where", flags(3), fixed=(np.ones((2, 1), np.float32), np.float32(-9))),
    case("Cast", f32(2, 3), to=7),
    case("Cast", i64(0, 2), to=9),
    case("CastLike", f32(2), i64(1)),
    case("Clip", f32(2, 3), fixed=(np.float32(-0.5), np.float32(0.5))),
    case("Clip", f32(2, 3), fixed=(None, np.float32(0.5))),
    case("Gelu", f32(2, 3)),
    case("Gelu", f32(2, 3), approximate="tanh"),
    case("LeakyRelu", f32(2, 3), alpha=0.2),
    case("Elu", f32(2, 3)),
    case("HardSigmoid", f32(2, 3)),
    case("HardSwish", f32(2, 3)),
    case("Identity", f32(2)),
    case("Reshape", f32(2, 6), fixed=(i64(0, -1, 2),)),
    case("Reshape", f32(2, 0), fixed=(i64(0, 3),), allowzero=1),
    case("Flatten", f32(2, 3, 4), axis=2),
    case("Squeeze", f32(2, 1, 3), fixed=(i64(1),)),
    case("Squeeze", f32(1, 2, 1)),
    case("Unsqueeze", f32(2, 3), fixed=(i64(0, -1),)),
    case("Transpose", f32(2, 3, 4), perm=[1, 2, 0]),
    case("Transpose", f32(2, 3)),
    case("Expand", f32(3, 1), fixed=(i64(2, 1, 4),)),
    case("Concat", f32(2, 3), f32(2, 1), axis=-1),
    case("Slice", f32(5, 6), fixed=(i64(1, -3), i64(100, -1), i64(0, 1), i64(2, 1))),
    case("Slice", f32(5, 6), fixed=(i64(0), i64(2**63 - 1), i64(-1))),
    case("Slice", f32(5), fixed=(i64(-1), i64(-(2**63)), i64(0), i64(-1))),
    case("Slice", f32(5), fixed=(i64(3), i64(1), i64(0))),
    case("Split", f32(2, 7), axis=1, num_outputs=3, outputs=3),
    case("Split", f32(5, 2), fixed=(i64(1, 4),), outputs=2),
    case("Tile", f32(2, 3), fixed=(i64(2, 1),)),
    case("Pad", f32(2, 3), fixed=(i64(0, 1, 2, 0), np.float32(4))),
    case("Pad", f32(2, 3), fixed=(i64(1, 1), None, i64(1))),
    case("ConstantOfShape", fixed=(i64(2, 3),)),
    case("ConstantOfShape", fixed=(i64(20, 30),), value=numpy_helper.from_array(i64(4))),
    case("Range", fixed=(np.int64(2), np.int64(9), np.int64(3))),
    case("Range", fixed=(np.float32(0), np.float32(2), np.float32(0.5))),
    case("Trilu", f32(2, 4, 5), upper=0),
    case("Trilu", f32(4, 5), fixed=(np.int64(1),)),
    case("Trilu", flags(4, 4), fixed=(np.int64(-1),), upper=0),
    case("EyeLike", f32(3, 4), k=1),
    case("OneHot", i64(0, 2, -1), fixed=(np.int64(3), np.array([0, 5], np.float32))),
    *(
        case(op, f32(2, 3, 4), fixed=(i64(1, -1),), keepdims=keep)
        for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
        for keep in (0, 1)
    ),
    case("ReduceSum", f32(2, 3)),
    case("ReduceSum", f32(2, 3), noop_with_empty_axes=1),
    case("ReduceSumSquare", f32(2, 3), fixed=(i64(1),)),
    case("ReduceL2", f32(2, 3), fixed=(i64(1),)),
    case("ReduceL1", f32(2, 3), fixed=(i64(1),)),
    case("ReduceLogSum", POSITIVE, fixed=(i64(1),)),
    case("ReduceLogSumExp", f32(2, 3), fixed=(i64(1),)),
    case("Softmax", f32(2, 3, 4), axis=1),
    case("LogSoftmax", f32(2, 3)),
    case("ArgMax", f32(2, 3), axis=1, keepdims=0),
    case("ArgMin", f32(2, 3)),
    *(
        case("CumSum", f32(2, 4), fixed=(np.int64(1),), exclusive=e, reverse=r)
        for e in (0, 1)
        for r in (0, 1)
    ),
    case("TopK", f32(2, 5), fixed=(i64(3),), outputs=2),
    case("TopK", f32(5, 2), fixed=(i64(2),), outputs=2, axis=0, largest=0),
    case("Gather", f32(4, 3), i64(0, -1, 2)),
    case("Gather", f32(4, 3), fixed=(np.int64(-1),), axis=1),
    case("GatherElements", f32(3, 2), i64([0, 1], [2, 0]), axis=0),
    case("ScatterElements", f32(3, 2), i64([0, 1]), f32(1, 2), axis=0),
    case("GatherND", f32(3, 4, 2), i64([0, 1], [2, 3])),
    case("ScatterND", f32(4, 3), i64([1], [3]), f32(2, 3)),
    case("ScatterND", f32(4, 3), i64([1], [1]), f32(2, 3), reduction="add"),
    case("MatMul", f32(2, 3, 4), f32(4, 5)),
    case("MatMul", f32(2, 3, 4), fixed=(f32(4, 5),)),
    case("MatMul", f32(4), f32(4, 5)),
    case("MatMul", f32(3, 4), f32(4)),
    case("MatMul", f32(4), f32(4)),
    *(
        case("Gemm", f32(*a), fixed=(f32(*b), f32(5)), transA=ta, transB=tb)
        for a, ta in (((3, 4), 0), ((4, 3), 1))
        for b, tb in (((4, 5), 0), ((5, 4), 1))
    ),
    case("Gemm", f32(3, 4), f32(4, 5), f32(3, 1), alpha=0.5, beta=2.0),
    case("LayerNormalization", f32(2, 3, 8), fixed=(f32(8), f32(8)), epsilon=1e-3),
    case("RMSNormalization", f32(2, 3, 8), fixed=(f32(8),), epsilon=1e-3),
    case("DequantizeLinear", RNG.integers(-9, 9, (4, 6)).astype(np.int8), fixed=(f32(6), None)),
    case("Attention", f32(2, 4, 3, 8), f32(2, 2, 3, 8), f32(2, 2, 3, 8), is_causal=1),
    case("Attention", f32(2, 4, 3, 8), f32(2, 4, 5, 8), f32(2, 4, 5, 6), flags(3, 5), scale=0.3),
    case(
        "Attention", f32(2, 3, 32), f32(2, 5, 16), f32(2, 5, 16), f32(3, 5),
        q_num_heads=4, kv_num_heads=2,
    ),
    case("RotaryEmbedding", f32(2, 4, 3, 8), f32(2, 3, 4), f32(2, 3, 4)),
    case("RotaryEmbedding", f32(2, 4, 3, 8), f32(2, 3, 2), f32(2, 3, 2), rotary_embedding_dim=4),
    case("RotaryEmbedding", f32(2, 4, 3, 8), f32(2, 3, 4), f32(2, 3, 4), interleaved=1),
    case(
        "RotaryEmbedding", f32(2, 3, 32), f32(9, 4), f32(9, 4), i64([0, 1, 2], [4, 5, 6]),
        num_heads=4,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("node", "inputs", "fixed"), CASES)
def test_operator_equals_reference(
    node: NodeProto, inputs: dict[str, Array], fixed: dict[str, Array]
) -> None:
    outputs, opaque = imported(node, inputs, fixed)
    expected = reference(node, inputs, fixed)
    assert opaque == ()
    assert len(outputs) == len(expected)
    for found, wanted in zip(outputs, expected, strict=True):
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


def test_axes_as_attributes_before_opset_13() -> None:
    x = f32(2, 3)
    for node in (
        helper.make_node("ReduceSum", ["x"], ["y"], axes=[1], keepdims=0),
        helper.make_node("Unsqueeze", ["x"], ["y"], axes=[1]),
        helper.make_node("Softmax", ["x"], ["y"]),
    ):
        (found,), _ = imported(node, {"x": x}, {}, version=11)
        np.testing.assert_allclose(found, reference(node, {"x": x}, {}, version=11)[0], rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("zeros", [False, True])
def test_quantized_weight_is_dequantized_when_it_is_read(axis: int, zeros: bool) -> None:
    x = RNG.integers(0, 255, (4, 6)).astype(np.uint8)
    width = x.shape[axis]
    fixed: dict[str, Array] = {"w": x, "s": np.abs(f32(width))}
    if zeros:
        fixed["z"] = np.asarray(RNG.integers(0, 255, width), np.uint8)
    node = helper.make_node("DequantizeLinear", list(fixed), ["y"], axis=axis)
    matmul = helper.make_node("MatMul", ["x", "y"], ["out"])
    ctx = Context("node")
    for name, array in fixed.items():
        ctx.env[name] = stored(ctx, name, weight_data(numpy_helper.from_array(array, name), None))
    value = ctx.builder.input("x", TensorType(dtype_of(f32(1)), (2, 4)))
    ctx.env["x"] = Item(value.type, value)
    import_nodes(ctx, [node, matmul], {"": OPSET})
    dequantized = ctx.env["y"]
    assert isinstance(dequantized, WeightItem)
    wanted = reference(node, {}, fixed)[0]
    np.testing.assert_allclose(dequantized.data.load(), wanted, rtol=1e-6)
    out = ctx.env["out"]
    assert isinstance(out, Item)
    assert out.value.op is not None
    assert out.value.op.kind == "linear"


def test_skip_norms_of_onnx_runtime() -> None:
    x, skip, gamma = f32(2, 3, 8), f32(2, 3, 8), f32(8)
    node = helper.make_node(
        "SkipSimplifiedLayerNormalization",
        ["x", "skip", "gamma"],
        ["y", "", "", "sum"],
        domain="com.microsoft",
        epsilon=1e-3,
    )
    (normal, total), opaque = imported(node, {"x": x, "skip": skip}, {"gamma": gamma})
    rms = np.sqrt(np.mean((x + skip) ** 2, axis=-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(total, x + skip, rtol=1e-6)
    np.testing.assert_allclose(normal, (x + skip) / rms * gamma, rtol=1e-4, atol=1e-5)
    assert opaque == ()


def test_causal_attention_over_a_past() -> None:
    names = ["q", "k", "v", "", "past_key", "past_value"]
    node = helper.make_node("Attention", names, ["y", "key", "value"], is_causal=1)
    inputs = {"q": f32(2, 4, 3, 8), "k": f32(2, 2, 3, 8), "v": f32(2, 2, 3, 8)}
    inputs |= {"past_key": f32(2, 2, 5, 8), "past_value": f32(2, 2, 5, 8)}
    results, opaque = imported(node, inputs, {})
    assert opaque == ()
    for found, wanted in zip(results, reference(node, inputs, {}), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Hardmax"])
def test_before_operator_set_13_all_axes_from_one_on_are_one(kind: str) -> None:
    x = f32(2, 3, 4)
    (found,), opaque = imported(helper.make_node(kind, ["x"], ["y"], axis=1), {"x": x}, {}, 11)
    flat = torch.from_numpy(x.reshape(2, 12))
    functions = {
        "Softmax": lambda y: torch.softmax(y, 1),
        "LogSoftmax": lambda y: torch.log_softmax(y, 1),
        "Hardmax": lambda y: torch.nn.functional.one_hot(y.argmax(1), 12).float(),
    }
    np.testing.assert_allclose(found.reshape(2, 12), functions[kind](flat).numpy(), rtol=1e-5)
    assert opaque == ()


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        (helper.make_node("Dropout", ["x", "ratio", "training"], ["y"]), (2, 3)),
        (helper.make_node("NonMaxSuppression", ["x"], ["y"]), (2, 3)),
    ],
    ids=lambda item: item.op_type if isinstance(item, NodeProto) else "",
)
def test_what_a_table_cannot_say_is_kept_or_refused(
    node: NodeProto, shape: tuple[int, ...]
) -> None:
    known = {"x": f32(*shape), "training": np.asarray(True)}
    known["ratio"] = np.asarray(0.25, np.float32)
    inputs = {"x": known["x"]}
    fixed = {name: known[name] for name in node.input if name and name not in inputs}
    if node.op_type == "NonMaxSuppression":
        with pytest.raises(InputError, match="HETC-I311"):
            imported(node, inputs, fixed)
        return
    _, (reason,) = imported(node, inputs, fixed)
    assert reason.code == "HETC-I310"


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("Selu", {"x": f32(2, 4)}, {}),
        ("Selu", {"x": f32(2, 4)}, {"alpha": 0.5}),
        ("Celu", {"x": f32(2, 4)}, {"alpha": 2.0}),
        ("Mish", {"x": f32(2, 4)}, {}),
        ("PRelu", {"x": f32(2, 4), "slope": f32(4)}, {}),
        ("Shrink", {"x": f32(2, 4)}, {"bias": 0.25}),
        ("Softsign", {"x": f32(2, 4)}, {}),
        ("ThresholdedRelu", {"x": f32(2, 4)}, {}),
        ("MeanVarianceNormalization", {"x": f32(2, 3, 4)}, {"axes": [2]}),
        ("GroupNormalization", {"x": f32(2, 4, 3), "s": f32(4), "b": f32(4)}, {"num_groups": 2}),
        ("LayerNormalization", {"x": f32(2, 3, 4), "scale": f32(3, 4)}, {"axis": 1}),
        # What the tables cannot say, the function body can: queries that begin with the keys.
        (
            "Attention",
            {"q": f32(1, 2, 3, 8), "k": f32(1, 2, 5, 8), "v": f32(1, 2, 5, 8)},
            {"is_causal": 1},
        ),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_functions_of_the_standard_are_expanded(
    kind: str, inputs: dict[str, Array], attributes: dict[str, Any]
) -> None:
    node = helper.make_node(kind, list(inputs), ["y"], **attributes)
    (found,), opaque = imported(node, inputs, {})
    assert opaque == ()
    np.testing.assert_allclose(found, reference(node, inputs, {})[0], rtol=1e-4, atol=1e-5)


def test_a_function_with_several_results_keeps_their_order() -> None:
    x = f32(2, 4)
    node = helper.make_node("LayerNormalization", ["x", "scale"], ["y", "", "deviation"])
    (_, deviation), opaque = imported(node, {"x": x}, {"scale": f32(4)})
    assert opaque == ()
    np.testing.assert_allclose(deviation, 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5), rtol=1e-4)


def test_names_inside_a_function_do_not_hide_those_of_the_graph() -> None:
    x, scale = f32(2, 4), f32(4)
    ctx = Context("node")
    for name, array in {"x": x, "XU__1": scale, "Alpha__1": scale}.items():
        value = ctx.builder.input(name, TensorType(dtype_of(array), array.shape))
        ctx.env[name] = Item(value.type, value)
    outside = dict(ctx.env)
    import_nodes(ctx, [helper.make_node("Selu", ["x"], ["y"])], {"": OPSET})
    assert {name: ctx.env[name] for name in outside} == outside


def test_sequences_of_known_length_are_followed() -> None:
    x = f32(2, 6)
    nodes = [
        helper.make_node("SplitToSequence", ["x", "n"], ["parts"], axis=1),
        helper.make_node("SequenceAt", ["parts", "i"], ["y"]),
    ]
    ctx = Context("node")
    value = ctx.builder.input("x", TensorType(dtype_of(x), x.shape))
    ctx.env["x"] = Item(value.type, value)
    for name, number in (("n", 2), ("i", 1)):
        tensor = numpy_helper.from_array(np.asarray(number), name)
        ctx.env[name] = stored(ctx, name, weight_data(tensor, None))
    import_nodes(ctx, nodes, {"": OPSET})
    y = ctx.env["y"]
    assert isinstance(y, Item)
    (found,) = interpret(ctx.builder.finish([y.value]), [x])
    np.testing.assert_array_equal(found, x[:, 2:4])
