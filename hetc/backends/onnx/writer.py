"""Collects the nodes of one ONNX graph; the same node on the same inputs is written once.

So sizes, masks and rotary tables that several layers ask for cost one node in all, and an emitter
never has to remember what another has made.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hetc.backends.onnx.elements import computed, kernel_type
from hetc.ir.op import Value
from hetc.ir.types import I64, Array, DType, TensorType

CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class Node:
    """One ONNX node; attributes are ints, floats, strings, int tuples, or a `Body`."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Any], ...] = ()
    domain: str = ""
    loc: str = ""


@dataclass(frozen=True)
class Body:
    """The graph inside a Scan: `inputs` and `outputs` are names and element types."""

    nodes: tuple[Node, ...]
    inputs: tuple[tuple[str, DType], ...]
    outputs: tuple[tuple[str, DType], ...]


@dataclass
class Writer:
    """The ONNX graph in the making.

    `names` maps the values in sight to ONNX names. `stored` maps the name of a value to that of the
    same in 16 bits, where there is one: state as it crosses the border of a half. With `rounds`,
    casts to 16 bits take away what they should.
    """

    taken: set[str]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    weights: dict[str, TensorType] = field(default_factory=dict)
    names: dict[Value, str] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)
    loc: str = ""
    rounds: bool = False
    _made: dict[Hashable, tuple[str, ...]] = field(default_factory=dict)
    _counter: int = 0

    def __getitem__(self, value: Value) -> str:
        return self.names[value]

    def read(self, values: Iterable[Value]) -> list[str]:
        """The names of `values`."""
        return [self.names[value] for value in values]

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The name of the result of a node; made now, or before."""
        return self.split(kind, *inputs, outputs=1, domain=domain, **attributes)[0]

    def split(
        self, kind: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """The names of the results of a node that has several."""
        given = tuple(sorted(attributes.items()))
        key = (kind, inputs, given, domain, outputs)
        if key not in self._made:
            names = tuple(self.fresh() for _ in range(outputs))
            self.nodes.append(Node(kind, inputs, names, given, domain, self.loc))
            self._made[key] = names
        return self._made[key]

    def typed(self, kind: str, dtype: DType, *inputs: str, **attributes: Any) -> str:
        """A node from `dtype` to `dtype`, in a wider type where no kernel takes this one."""
        works = kernel_type(kind, dtype)
        assert works is not None, f"the table let {kind} on {dtype} through"
        if works is computed(dtype):
            return self.node(kind, *inputs, **attributes)
        wide = (self.cast(name, works) for name in inputs)
        return self.cast(self.node(kind, *wide, **attributes), dtype)

    def test(self, kind: str, dtype: DType, *inputs: str) -> str:
        """A comparison of `dtype`s, in a wider type where no kernel takes this one."""
        works = kernel_type(kind, dtype)
        assert works is not None, f"the table let {kind} on {dtype} through"
        if works is not computed(dtype):
            inputs = tuple(self.cast(name, works) for name in inputs)
        return self.node(kind, *inputs)

    def cast(self, name: str, dtype: DType) -> str:
        """`name` in another type, which is f32 for floats of 16 bits."""
        return self.node("Cast", name, to=computed(dtype))

    def store(self, name: str, dtype: DType) -> str:
        """`name` in `dtype` itself."""
        if computed(dtype) is dtype:
            return name
        return self.stored.get(name) or self.node("Cast", name, to=dtype)

    def load(self, name: str, dtype: DType) -> str:
        """What is stored as `name` in `dtype`, in the type that is computed with."""
        if computed(dtype) is dtype:
            return name
        wide = self.cast(name, dtype)
        self.stored[wide] = name
        return wide

    def constant(self, data: object, dtype: DType) -> str:
        """A literal tensor; equal ones are one."""
        return self.array(np.asarray(data, dtype=computed(dtype).numpy))

    def array(self, array: Array) -> str:
        """A literal tensor from an array in one of the file's types; equal ones are one."""
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._made:
            name = self.fresh()
            self.constants[name] = array
            self._made[key] = (name,)
        return self._made[key][0]

    def ints(self, numbers: Sequence[int]) -> str:
        """A literal i64 vector."""
        return self.constant(numbers, I64)

    def transpose(self, name: str, perm: Sequence[int]) -> str:
        """Axes reordered; nothing where they stand so already."""
        if list(perm) == list(range(len(perm))):
            return name
        return self.node("Transpose", name, perm=tuple(perm))

    def fresh(self) -> str:
        """A name that no weight, input or output has."""
        while True:
            self._counter += 1
            name = f"t{self._counter}"
            if name not in self.taken:
                return name
