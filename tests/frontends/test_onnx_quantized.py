"""MatMulNBits against ONNX Runtime, and what is kept of its integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hetc.errors import InputError
from hetc.frontends.onnx.context import Context
from hetc.frontends.onnx.item import Item, WeightItem
from hetc.frontends.onnx.table_source import stored
from hetc.frontends.onnx.tensors import weight_data
from hetc.frontends.onnx.walk import import_nodes
from hetc.ir.interpret import interpret
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.source import Weight
from hetc.ir.types import F32, Array, TensorType

OUTPUTS = 24


class Product:
    """A MatMulNBits node with random integers, x [3, K], and its initializers."""

    def __init__(self, bits: int, block: int, inner: int, zeros: bool, **changes: Any) -> None:
        rng = np.random.default_rng(bits * block)
        blocks = -(-inner // block)
        self.x = rng.normal(size=(3, inner)).astype(np.float32)
        self.fixed: dict[str, Array] = {
            "b": rng.integers(0, 256, (OUTPUTS, blocks, block * bits // 8)).astype(np.uint8),
            "scales": rng.uniform(0.01, 0.02, OUTPUTS * blocks).astype(np.float32),
        }
        if zeros:
            width = OUTPUTS * -(-blocks * bits // 8)
            self.fixed["zeros"] = rng.integers(0, 256, width).astype(np.uint8)
        attributes = {"N": OUTPUTS, "K": inner, "bits": bits, "block_size": block}
        self.node = helper.make_node(
            "MatMulNBits",
            ["x", *self.fixed],
            ["y"],
            domain="com.microsoft",
            **attributes | changes,
        )

    def expected(self) -> Array:
        """The result in ONNX Runtime."""
        graph = helper.make_graph(
            [self.node],
            "product",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.x.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (3, OUTPUTS))],
            [numpy_helper.from_array(array, name) for name, array in self.fixed.items()],
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return np.asarray(session.run(None, {"x": self.x})[0])

    def imported(self) -> tuple[Context, Item]:
        ctx = Context("product")
        value = ctx.builder.input("x", TensorType(F32, self.x.shape))
        ctx.env["x"] = Item(value.type, value)
        for name, array in self.fixed.items():
            proto = numpy_helper.from_array(array, name)
            ctx.env[name] = stored(ctx, name, weight_data(proto, None))
        import_nodes(ctx, [self.node], {"": 21, "com.microsoft": 1})
        item = ctx.env["y"]
        assert isinstance(item, Item)
        return ctx, item


def found(product: Product) -> tuple[Context, WeightItem, Array]:
    """The context after the import, the matrix, and the result by the interpreter."""
    ctx, item = product.imported()
    op = item.value.op
    assert isinstance(op, Linear)
    assert isinstance(op.weight.op, Weight)
    ctx.builder.add(op)
    graph = ctx.builder.finish([item.value])
    (result,) = interpret(graph, [product.x], lambda name: ctx.weights[name].data.load())
    return ctx, ctx.weights[op.weight.op.name], result


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("block", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("bits", [4, 8])
def test_products(bits: int, block: int, zeros: bool) -> None:
    product = Product(bits, block, 768, zeros)
    ctx, matrix, result = found(product)
    expected = product.expected()
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    groups = matrix.data.groups
    assert groups is not None
    assert (groups.group, groups.form) == (block, f"int{bits}")
    np.testing.assert_array_equal(groups.dequantized(), matrix.data.load())
    # One more product with a unit vector for each column reads the matrix itself.
    product.x = np.eye(768, dtype=np.float32)[:3]
    np.testing.assert_array_equal(matrix.data.load()[:, :3].T, product.expected())
    assert ctx.notes == []


@pytest.mark.parametrize("zeros", [False, True])
def test_a_last_block_that_is_filled_up_is_widened(zeros: bool) -> None:
    product = Product(4, 32, 80, zeros)
    ctx, matrix, result = found(product)
    np.testing.assert_allclose(result, product.expected(), rtol=1e-4, atol=1e-4)
    assert matrix.data.groups is None
    assert ctx.notes == ["b: 80 columns are no whole blocks of 32: widened"]


def test_other_widths_stay_operators() -> None:
    product = Product(2, 32, 64, False)
    with pytest.raises(InputError) as refused:
        product.imported()
    assert refused.value.code == "HETC-I311"


def test_numbers_that_do_not_fill_the_matrix() -> None:
    product = Product(4, 32, 64, False, K=96)
    with pytest.raises(InputError, match="24 x 48 numbers are expected") as refused:
        product.imported()
    assert refused.value.code == "HETC-I306"
