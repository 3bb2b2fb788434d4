"""Values and ops: one op is one small frozen class whose fields are its signature.

A field annotated `Value` is an operand, `Value | None` an optional one, `tuple[Value, ...]` a
variadic one, and `Scalar` an operand that may also be a literal; every other field is an attribute.
`infer` gives the result types; it runs at construction and again in the verifier, so that the two
cannot disagree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, dataclass_transform

from hetc.errors import IRError
from hetc.ir.dims import Dim, DimLike, evaluate
from hetc.ir.types import Array, DType, Shape, TensorType


class Value:
    """One tensor: the result of an op, or an input of a graph (then `op` is None).

    Values are compared by identity.
    """

    __slots__ = ("index", "name", "op", "type")

    def __init__(
        self, type: TensorType, op: Op | None = None, index: int = 0, name: str = ""
    ) -> None:
        self.type = type
        self.op = op
        self.index = index
        self.name = name

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    @property
    def size(self) -> DimLike:
        return self.type.size

    @property
    def nbytes(self) -> DimLike:
        return self.type.nbytes

    def __repr__(self) -> str:
        return f"<{self.name or (self.op.kind if self.op else 'input')}: {self.type}>"


Scalar = Value | float | int | bool | Dim
Attribute = Any


@dataclass(frozen=True)
class Cost:
    """What one execution of an op takes: flops, bytes from and to memory; they may hold symbols."""

    flops: DimLike = 0
    bytes_read: DimLike = 0
    bytes_written: DimLike = 0


@dataclass(frozen=True)
class FieldSpec:
    """How one field of an op class takes part in its signature."""

    name: str
    role: str  # operand | optional | variadic | scalar | attribute
    default: object


OPS: dict[str, type[Op]] = {}
_O = TypeVar("_O", bound="type[Op]")


@dataclass(frozen=True, eq=False, repr=False)
class Op:
    """Base of all ops. `loc` is the module path in the source model: `layers.3.mlp.up_proj`.

    `operands` are the tensor operands in field order, without literals and absent optional ones;
    `results` are new values of the inferred types.
    """

    kind: ClassVar[str] = ""
    signature: ClassVar[tuple[FieldSpec, ...]] = ()
    # The fields that may hold values: the name, and whether it holds a tuple of them.
    operand_fields: ClassVar[tuple[tuple[str, bool], ...]] = ()

    loc: str = field(default="", kw_only=True)
    operands: tuple[Value, ...] = field(init=False)
    results: tuple[Value, ...] = field(init=False)

    def __post_init__(self) -> None:
        # Writing to the dictionary goes around the frozen __setattr__; ops are built by the 10,000.
        fields = self.__dict__
        operands: list[Value] = []
        for name, variadic in self.operand_fields:
            item = fields[name]
            if variadic:
                operands.extend(item)
            elif isinstance(item, Value):
                operands.append(item)
        fields["operands"] = tuple(operands)
        types = self.infer()
        if isinstance(types, TensorType):
            fields["results"] = (Value(types, self),)
        else:
            fields["results"] = tuple(Value(type, self, i) for i, type in enumerate(types))

    def __repr__(self) -> str:
        # An op that does not fit is shown before it has results.
        parts = (self.operands, self.__dict__.get("results", ()))
        types = [", ".join(str(v.type) for v in part) for part in parts]
        return f"<{self.kind}({types[0]}) -> {types[1]}{' @' * bool(self.loc)}{self.loc}>"

    def infer(self) -> TensorType | tuple[TensorType, ...]:
        """The result types; raises IRError where the operands do not fit."""
        raise NotImplementedError(f"{type(self).__name__} has no type rule")

    def semantics(self, *operands: Any) -> Array | tuple[Array, ...]:
        """The result in NumPy, the oracle of every numerics test. `self` comes from `at`."""
        raise NotImplementedError(f"{type(self).__name__} has no semantics")

    def cost(self) -> Cost:
        """Flops and bytes; by default operands are read and results written once, and no flops."""
        read: DimLike = 0
        for value in self.operands:
            read = read + value.nbytes
        written: DimLike = 0
        for value in self.results:
            written = written + value.nbytes
        return Cost(bytes_read=read, bytes_written=written)

    def require(self, condition: bool, rule: str) -> None:
        """Raise IRError (HETC-X010) naming this op unless `condition` holds."""
        if not condition:
            raise self.misfit(rule)

    def require_axis(self, axis: int, x: Value) -> int:
        """`axis` of `x` counted from the front; raises IRError (HETC-X010) where there is none."""
        if not -x.rank <= axis < x.rank:
            raise self.misfit(f"there is no axis {axis}")
        return axis + x.rank if axis < 0 else axis

    def misfit(self, rule: str) -> IRError:
        """The error of an op whose operands or attributes break `rule`."""
        types = ", ".join(str(value.type) for value in self.operands)
        return IRError(
            "HETC-X010", f"{self.kind}: {rule}", at=self.loc, found=f"operands {types or 'none'}"
        )

    @property
    def result(self) -> Value:
        return self.results[0]

    def attributes(self) -> Iterator[tuple[str, Attribute]]:
        """Names and values of the fields that are not operands."""
        for spec in self.signature:
            if spec.role == "attribute":
                yield spec.name, getattr(self, spec.name)

    def replace(self, **changes: Any) -> Op:
        """A new op of the same kind with some fields changed; its results are new values."""
        old = self.__dict__
        fields = {spec.name: old[spec.name] for spec in self.signature}
        return type(self)(**{**fields, "loc": self.loc, **changes})

    def map_operands(self, change: Callable[[Value], Value]) -> Op:
        """This op with each operand mapped; the op itself when nothing changes."""
        changes = self.operand_changes(change)
        return self.replace(**changes) if changes else self

    def operand_changes(self, change: Callable[[Value], Value]) -> dict[str, Any]:
        """The fields that hold operands, each mapped; empty when none changes."""
        old = self.__dict__
        changes: dict[str, Any] = {}
        for name, variadic in self.operand_fields:
            item = old[name]
            if variadic:
                mapped = tuple([change(value) for value in item])
                if any(a is not b for a, b in zip(mapped, item, strict=True)):
                    changes[name] = mapped
            elif isinstance(item, Value):
                value = change(item)
                if value is not item:
                    changes[name] = value
        return changes

    def map_dims(self, values: Mapping[str, DimLike]) -> dict[str, Any]:
        """The fields that hold dims, with symbols replaced; empty when none changes."""
        changes = {}
        for spec in self.signature:
            item = getattr(self, spec.name)
            mapped = _substitute(item, values)
            if mapped is not item:
                changes[spec.name] = mapped
        return changes

    def at(self, values: Mapping[str, int]) -> Op:
        """A view of this op for `semantics` in which every symbolic attribute is a number."""
        changes = {
            spec.name: _evaluate(getattr(self, spec.name), values)
            for spec in self.signature
            if _has_dim(getattr(self, spec.name))
        }
        if not changes:
            return self
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound.__dict__.update(changes)
        return bound


def _substitute(item: Any, values: Mapping[str, DimLike]) -> Any:
    if isinstance(item, Dim | TensorType):
        result = item.substitute(values)
        return item if result == item else result
    if isinstance(item, tuple):
        mapped = tuple(_substitute(part, values) for part in item)
        return item if all(a is b for a, b in zip(mapped, item, strict=True)) else mapped
    return item


def _has_dim(item: Any) -> bool:
    if isinstance(item, TensorType):
        item = item.shape
    return isinstance(item, Dim) or (isinstance(item, tuple) and any(map(_has_dim, item)))


def _evaluate(item: Any, values: Mapping[str, int]) -> Any:
    if isinstance(item, Dim):
        return evaluate(item, values)
    if isinstance(item, TensorType):
        return TensorType(item.dtype, _evaluate(item.shape, values))
    if isinstance(item, tuple):
        return tuple(_evaluate(part, values) for part in item)
    return item


_ROLES = {
    "Value": "operand",
    "Value | None": "optional",
    "tuple[Value, ...]": "variadic",
    "Scalar": "scalar",
}


@dataclass_transform(
    frozen_default=True, eq_default=False, kw_only_default=False, field_specifiers=(field,)
)
def op(kind: str) -> Callable[[_O], _O]:
    """Class decorator: makes the class a frozen op named `kind` in the text form and registers it.

    The module needs `from __future__ import annotations`: roles are read from annotations as text.
    """

    def register(cls: _O) -> _O:
        dataclass(frozen=True, eq=False, repr=False)(cls)
        fields = [item for item in dataclasses.fields(cls) if item.name not in _BASE_FIELDS]
        if kind in OPS or not all(isinstance(item.type, str) for item in fields):
            raise IRError(
                "HETC-X011",
                f"{cls.__name__} cannot be the op {kind}",
                found=f"{OPS.get(kind, 'annotations that are no text')}",
                do="give it another name, and its module `from __future__ import annotations`",
            )
        cls.kind = kind
        cls.signature = tuple(
            FieldSpec(item.name, _ROLES.get(str(item.type), "attribute"), item.default)
            for item in fields
        )
        cls.operand_fields = tuple(
            (spec.name, spec.role == "variadic")
            for spec in cls.signature
            if spec.role != "attribute"
        )
        OPS[kind] = cls
        return cls

    return register


_BASE_FIELDS = frozenset({"loc", "operands", "results"})
