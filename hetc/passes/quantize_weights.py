"""Quantize weights: store the matrices of products as small integers with a scale for each group.

A matrix becomes `dequantize` of stored weights, beside the product that reads it: the IR, the cost
model and every backend see what is stored, and what it stands for. Accuracy is lost once, here; not
at all where the source has integers that are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

import numpy as np

from hetc.errors import InputError, Reason
from hetc.ir.graph import Graph, rebuild
from hetc.ir.interpret import WeightLookup
from hetc.ir.model import StoredGroups, WeightData
from hetc.ir.op import Op, Value
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import ExpertLinear, Linear
from hetc.ir.ops.quant import Dequantize, Unpack4
from hetc.ir.ops.source import Weight
from hetc.ir.types import F16, I8, U8, Array, DType, TensorType
from hetc.passes.group_quantization import int4_groups, int8_groups
from hetc.passes.narrow_weights import output_matrices

Form = Literal["keep", "int8", "int4", "none"]
GROUPS = (32, 16)


@dataclass(frozen=True)
class Scheme:
    """How matrices are stored: `form` of all, but for those whose name fits a glob of `tensors`,
    the last that fits. `int4` keeps what gives the output, and so a tied embedding, in int8. `keep`
    is the source's own integers where it has some."""

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
    """A graph with quantized matrices, the data of its new weights, how many matrices were rounded
    to which form, how many keep the source's integers, and the reason for each that could not."""

    graph: Graph
    weights: Mapping[str, WeightData]
    forms: Mapping[str, int]
    kept: Mapping[str, int]
    left: tuple[Reason, ...]


@dataclass
class _Matrices:
    """What was found of each matrix that a product or a lookup reads."""

    scheme: Scheme
    weights: WeightLookup
    groups: Mapping[str, StoredGroups]
    outputs: frozenset[str]
    made: dict[str, Value] = field(default_factory=dict)
    data: dict[str, WeightData] = field(default_factory=dict)
    forms: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    left: dict[str, Reason] = field(default_factory=dict)

    def form(self, name: str) -> Form:
        """How the matrix `name` is to be stored."""
        return self.scheme.of(name, gives_output=name in self.outputs)

    def stored(self, weight: Weight) -> Value | None:
        """The dequantized matrix; None where it stays as it is."""
        name = weight.name
        if name not in self.made and name not in self.left:
            form = self.form(name)
            groups = self._groups(weight, form)
            if groups is not None:
                counts = self.kept if form == "keep" else self.forms
                counts[groups.form] = counts.get(groups.form, 0) + 1
                self.made[name] = self._dequantize(weight, groups)
        return self.made.get(name)

    def _groups(self, weight: Weight, form: Form) -> StoredGroups | None:
        name, inner = weight.name, weight.type.shape[-1]
        if form == "none":
            return None
        if form == "keep":
            return self.groups.get(name)
        group = next((g for g in GROUPS if isinstance(inner, int) and inner % g == 0), None)
        if group is None:
            found = f"inner axis of {inner}, no multiple of {GROUPS[-1]}"
            self.left[name] = Reason("HETC-P040", f"not quantized: {found}", at=name)
            return None
        return _rounded(weight, form, group, self.weights)

    def _dequantize(self, weight: Weight, groups: StoredGroups) -> Value:
        def stored(suffix: str, data: WeightData) -> Value:
            name = f"{weight.name}.{suffix}"
            self.data[name] = data
            return Weight(name, TensorType(data.dtype, data.shape), loc=weight.loc).result

        codes = stored(groups.form, groups.codes)
        if groups.packed is not None:
            codes = Unpack4(codes, groups.packed, loc=weight.loc).result
        numbers = {"scale": groups.scale, "zero": groups.zero, "shift": groups.shift}
        given = {name: stored(name, data) for name, data in numbers.items() if data is not None}
        dtype = weight.type.dtype
        return Dequantize(codes, **given, group=groups.group, dtype=dtype, loc=weight.loc).result

    def lost(self, graph: Graph) -> Iterator[Reason]:
        """The integers that were to be kept, of which no product or lookup reads whole rows."""
        text = "widened: nothing but products and lookups reads a matrix in groups"
        read = (op.name for op in graph.ops if isinstance(op, Weight))
        for name in read:
            if name in self.groups and name not in self.made and self.form(name) == "keep":
                yield Reason("HETC-P041", text, at=name)


def _rounded(weight: Weight, form: Form, group: int, weights: WeightLookup) -> StoredGroups:
    """The matrix rounded to `form`, when its data are loaded."""
    shape = _static(weight.type)

    @lru_cache(maxsize=1)
    def parts() -> tuple[Array, ...]:
        wide = np.asarray(weights(weight.name), np.float32)
        return int8_groups(wide, group) if form == "int8" else int4_groups(wide, group)

    def data(dtype: DType, last: int, place: int) -> WeightData:
        return WeightData((*shape[:-1], last), dtype, lambda: parts()[place])

    scale = data(F16, shape[-1] // group, 1)
    if form == "int8":
        return StoredGroups(group, data(I8, shape[-1], 0), scale)
    shift = data(F16, shape[-1] // group, 2)
    return StoredGroups(group, data(U8, shape[-1] // 2, 0), scale, shift=shift, packed=U8)


def quantize_weights(
    graph: Graph,
    scheme: Scheme,
    weights: WeightLookup,
    groups: Mapping[str, StoredGroups] | None = None,
) -> Quantized:
    """`graph` with the matrices of its products, and the tables that are such matrices too, stored
    as `scheme` says. Data are quantized when they are loaded.

    `groups` are the integers that the source has, by the name of the weight; tables of them are
    kept whether or not a product reads them. Raises InputError (HETC-I018) for a glob of `scheme`
    that fits no matrix.
    """
    found = _Matrices(scheme, weights, groups or {}, frozenset(output_matrices(graph)))
    products = {
        op.weight.op.name
        for op in graph.ops
        if isinstance(op, Linear | ExpertLinear) and isinstance(op.weight.op, Weight)
    }

    tables = {
        op.table.op.name
        for op in graph.ops
        if isinstance(op, Embedding) and isinstance(op.table.op, Weight)
    }
    _require_matches(scheme, sorted(products | tables))

    def rewrite(op: Op) -> Op | None:
        if isinstance(op, Linear | ExpertLinear) and isinstance(op.weight.op, Weight):
            matrix = found.stored(op.weight.op)
            return None if matrix is None else op.replace(weight=matrix)
        # A table of its own is read row by row, and costs no bandwidth: it is not rounded for that.
        if isinstance(op, Embedding) and isinstance(op.table.op, Weight):
            name = op.table.op.name
            wanted = name in products or found.form(name) == "keep"
            table = found.stored(op.table.op) if wanted else None
            return None if table is None else _rows(op, table)
        return None

    made = rebuild(graph, rewrite)
    left = (*found.left.values(), *found.lost(made))
    return Quantized(made, found.data, found.forms, found.kept, left)


def _require_matches(scheme: Scheme, names: list[str]) -> None:
    for glob, _ in scheme.tensors:
        if not any(fnmatchcase(name, glob) for name in names):
            raise InputError(
                "HETC-I018",
                "a form is asked for matrices that are not there",
                at=glob,
                expected=f"a glob of names such as {', '.join(names[:2])}" if names else "none",
            )


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
