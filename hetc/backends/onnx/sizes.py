"""Sizes at run time: polynomials over symbols, computed from the shapes of the graph's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hetc.backends.onnx.writer import Writer
from hetc.errors import BackendError
from hetc.ir.dims import Dim, DimLike, capped_rows
from hetc.ir.graph import Graph
from hetc.ir.types import I64, DType, Shape

PAST = "past"


class Sizes:
    """Turns dims into names of i64 tensors. `past` gives P where the graph has that input."""

    def __init__(self, writer: Writer, graph: Graph) -> None:
        self._w = writer
        self._shown: dict[str, tuple[str, int]] = {}
        self._past = ""
        for value in graph.inputs:
            if value.name == PAST and value.rank == 0:
                self._past = value.name
            for axis, dim in enumerate(value.shape):
                if isinstance(dim, Dim) and dim.terms[0] == ((str(dim),), 1):
                    self._shown.setdefault(str(dim), (value.name, axis))

    def knows(self, dim: DimLike) -> bool:
        """Whether the graph's inputs show every symbol in `dim`."""
        return not isinstance(dim, Dim) or all(map(self._is_known, dim.symbols))

    def show(self, name: str, tensor: str, axis: int) -> None:
        """Let the size `name` be read off an axis of a tensor of the file."""
        self._shown.setdefault(name, (tensor, axis))

    def vector(self, dims: Sequence[DimLike]) -> str:
        """The name of an i64 vector of `dims`."""
        if not any(isinstance(dim, Dim) for dim in dims):
            return self._w.ints([int(dim) for dim in dims if not isinstance(dim, Dim)])
        parts = [self.single(dim) for dim in dims]
        return parts[0] if len(parts) == 1 else self._w.node("Concat", *parts, axis=0)

    def scalar(self, dim: DimLike, dtype: DType = I64) -> str:
        """The name of `dim` as a tensor without axes."""
        if not isinstance(dim, Dim):
            return self._w.constant(dim, dtype)
        found = self._w.node("Squeeze", self.single(dim), self._w.ints([0]))
        return found if dtype is I64 else self._w.cast(found, dtype)

    def single(self, dim: DimLike) -> str:
        """The name of `dim` as an i64 vector of one element."""
        if not isinstance(dim, Dim):
            return self._w.ints([dim])
        total = ""
        for monomial, factor in dim.terms:
            term = ""
            for name in monomial:
                term = self._w.node("Mul", term, self._symbol(name)) if term else self._symbol(name)
            if not term:
                term = self._w.ints([factor])
            elif factor != 1:
                term = self._w.node("Mul", term, self._w.ints([factor]))
            total = self._w.node("Add", total, term) if total else term
        return total

    def reshape(self, name: str, source: Shape, target: Shape) -> str:
        """`name` of shape `source` under the shape `target`; free where they are equal."""
        if source == target:
            return name
        if 0 in target:
            # Then 0 must mean zero, not "as before".
            return self._w.node("Reshape", name, self.vector(target), allowzero=1)
        asked: list[DimLike] = []
        for axis, dim in enumerate(target):
            kept = isinstance(dim, Dim) and axis < len(source) and source[axis] == dim
            asked.append(0 if kept else dim)
        open_axes = [axis for axis, dim in enumerate(asked) if isinstance(dim, Dim)]
        if open_axes:
            asked[open_axes[0]] = -1
        return self._w.node("Reshape", name, self.vector(asked))

    def expand(self, name: str, source: Shape, target: Shape) -> str:
        """`name` of shape `source` repeated to `target`; free where they are equal."""
        if source == target:
            return name
        missing = len(target) - len(source)
        # 1 keeps an axis as it is: only what grows needs its size.
        asked = [
            1 if i >= missing and source[i - missing] == dim else dim
            for i, dim in enumerate(target)
        ]
        return self._w.node("Expand", name, self.vector(asked))

    def _symbol(self, name: str) -> str:
        if name == "P" and self._past:
            return self._w.node("Reshape", self._past, self._w.ints([1]))
        if name in self._shown:
            source, axis = self._shown[name]
            return self._w.node("Shape", source, start=axis, end=axis + 1)
        rows = capped_rows(name)
        if rows is None or not self._is_known(name):
            raise BackendError(
                "HETC-E013",
                f"no input of the graph shows the size {name}",
                expected=f"one of {', '.join(self._known())}",
                do="report this with the graph that hetc opt prints",
            )
        return self._w.node("Min", self._capped(name), self._w.ints([rows]))

    def _capped(self, name: str) -> str:
        # Without a past, both are what the S tokens leave: see hetc.ir.dims.evaluate.
        if not self._is_known("P"):
            return self._symbol("S")
        if name[0] == "W":
            return self._symbol("P")
        new = self._symbol("T" if self._is_known("T") else "S")
        return self._w.node("Add", self._symbol("P"), new)

    def _is_known(self, name: str) -> bool:
        if name in self._shown or (name == "P" and self._past):
            return True
        if capped_rows(name) is None:
            return False
        plain: Mapping[str, bool] = {s: self._is_known(s) for s in ("P", "S", "T")}
        if not plain["P"]:
            return plain["S"]
        return name[0] == "W" or plain["T"] or plain["S"]

    def _known(self) -> list[str]:
        return sorted({*self._shown, *(["P"] if self._past else [])})
