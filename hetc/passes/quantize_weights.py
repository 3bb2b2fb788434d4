"""Quantize weights: store the matrices of products as small integers with a scale for each group.

A matrix becomes `dequantize` of stored weights, beside the product that reads it: the IR, the cost
model and every backend see what is stored, and what it stands for. Accuracy is lost once, here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

import numpy as np

from hetc.errors import Reason
from hetc.ir.graph import Graph, rebuild
from hetc.ir.interpret import WeightLookup
from hetc.ir.model import WeightData
from hetc.ir.op import Op, Value
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import ExpertLinear, Linear
from hetc.ir.ops.quant import Dequantize, Unpack4
from hetc.ir.ops.source import Weight
from hetc.ir.types import F16, I8, U8, Array, DType, TensorType
from hetc.passes.group_quantization import int4_groups, int8_groups
from hetc.passes.narrow_weights import output_matrices

Form = Literal["int8", "int4", "none"]
GROUPS = (32, 16)


@dataclass(frozen=True)
class Scheme:
    """How matrices are stored: `form` of all, but for those whose name fits a glob of `tensors`,
    the last that fits. `int4` keeps what gives the output, and so a tied embedding, in int8."""

    form: Form
    tensors: tuple[tuple[str, Form], ...] = ()

    def of(self, name: str, *, gives_output: bool) -> Form:
        """The form of a matrix."""
        form: Form = "int8" if self.form == "int4" and gives_output else self.form
        for glob, asked in self.tensors:
            if fnmatchcase(name, glob):
                form = asked
        return form


@dataclass(frozen=True)
class Quantized:
    """A graph with quantized matrices, the data of its new weights, how many matrices have which
    form, and those that were left as they are, with the reason."""

    graph: Graph
    weights: Mapping[str, WeightData]
    forms: Mapping[str, int]
    left: tuple[Reason, ...]


@dataclass
class _Matrices:
    """What was found of each matrix that a product or a lookup reads."""

    scheme: Scheme
    weights: WeightLookup
    outputs: frozenset[str]
    made: dict[str, Value] = field(default_factory=dict)
    data: dict[str, WeightData] = field(default_factory=dict)
    forms: dict[str, int] = field(default_factory=dict)
    left: dict[str, Reason] = field(default_factory=dict)

    def stored(self, weight: Weight) -> Value | None:
        """The dequantized matrix; None where it stays as it is."""
        name = weight.name
        if name in self.made:
            return self.made[name]
        form = self.scheme.of(name, gives_output=name in self.outputs)
        if form == "none" or name in self.left:
            return None
        inner = weight.type.shape[-1]
        group = next((g for g in GROUPS if isinstance(inner, int) and inner % g == 0), None)
        if group is None:
            found = f"inner axis of {inner}, no multiple of {GROUPS[-1]}"
            self.left[name] = Reason("HETC-P040", f"not quantized: {found}", at=name)
            return None
        self.made[name] = self._dequantize(weight, form, group)
        self.forms[form] = self.forms.get(form, 0) + 1
        return self.made[name]

    def _dequantize(self, weight: Weight, form: Form, group: int) -> Value:
        name, shape = weight.name, _static(weight.type)

        @lru_cache(maxsize=1)
        def parts() -> tuple[Array, ...]:
            wide = np.asarray(self.weights(name), np.float32)
            return int8_groups(wide, group) if form == "int8" else int4_groups(wide, group)

        def weight_op(suffix: str, dtype: DType, last: int, place: int) -> Value:
            own = (*shape[:-1], last)
            full = f"{name}.{suffix}"
            self.data[full] = WeightData(own, dtype, lambda: parts()[place])
            return Weight(full, TensorType(dtype, own), loc=weight.loc).result

        scale = weight_op("scale", F16, shape[-1] // group, 1)
        if form == "int8":
            steps, shift = weight_op(form, I8, shape[-1], 0), None
        else:
            packed = weight_op(form, U8, shape[-1] // 2, 0)
            steps = Unpack4(packed, loc=weight.loc).result
            shift = weight_op("shift", F16, shape[-1] // group, 2)
        whole = Dequantize(
            steps, scale, shift=shift, group=group, dtype=weight.type.dtype, loc=weight.loc
        )
        return whole.result


def quantize_weights(graph: Graph, scheme: Scheme, weights: WeightLookup) -> Quantized:
    """`graph` with the matrices of its products, and the tables that are such matrices too, stored
    as `scheme` says. Data are quantized when they are loaded."""
    found = _Matrices(scheme, weights, frozenset(output_matrices(graph)))
    products = {
        op.weight.op.name
        for op in graph.ops
        if isinstance(op, Linear | ExpertLinear) and isinstance(op.weight.op, Weight)
    }

    def rewrite(op: Op) -> Op | None:
        if isinstance(op, Linear | ExpertLinear) and isinstance(op.weight.op, Weight):
            matrix = found.stored(op.weight.op)
            return None if matrix is None else op.replace(weight=matrix)
        # A table of its own is read row by row, and costs no bandwidth.
        if isinstance(op, Embedding) and isinstance(op.table.op, Weight):
            tied = op.table.op.name in products
            table = found.stored(op.table.op) if tied else None
            return None if table is None else _rows(op, table)
        return None

    return Quantized(rebuild(graph, rewrite), found.data, found.forms, tuple(found.left.values()))


def _rows(op: Embedding, table: Value) -> Op:
    """The rows of a dequantized table: those of what is stored of it, dequantized."""
    whole = table.op
    assert isinstance(whole, Dequantize)

    def rows(value: Value) -> Value:
        if isinstance(value.op, Unpack4):
            return value.op.replace(x=rows(value.op.x)).result
        return op.replace(table=value).result

    return whole.map_operands(rows).replace(loc=op.loc)


def _static(type: TensorType) -> tuple[int, ...]:
    shape = tuple(dim for dim in type.shape if isinstance(dim, int))
    assert len(shape) == type.rank, "weights have static shapes"
    return shape
