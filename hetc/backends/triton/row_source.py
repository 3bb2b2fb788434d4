"""The body of a row kernel: the expressions of a row program as lines of Triton, each once.

Everything is a tile [rows, columns], [rows, 1] or [1, columns]. `row` and `column` number the rows
and columns of the tile; `live` are the rows that exist, `inside` the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import copysign, inf, isfinite

from hetc.backends.triton.row_addresses import FUNCTIONS, Addresses, Columns, misfit
from hetc.backends.triton.row_program import (
    Access,
    Apply,
    At,
    Below,
    Column,
    Expression,
    Function,
    Load,
    Number,
    Position,
    Reduce,
    Reduction,
    Rounded,
    RowProgram,
)
from hetc.backends.triton.source import triton_element

# `{0}` and `{1}` are the arguments.
_TEXTS = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}",
    "maximum": "tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    "minimum": "tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    "neg": "-{0}", "abs": "tl.abs({0})", "exp": "tl.exp({0})", "log": "tl.log({0})",
    "sqrt": "tl.sqrt({0})", "rsqrt": "tl.rsqrt({0})", "sin": "tl.sin({0})", "cos": "tl.cos({0})",
    "tanh": "tanh({0})", "erf": "tl.erf({0})", "sigmoid": "1.0 / (1.0 + tl.exp(-{0}))",
    "silu": "{0} / (1.0 + tl.exp(-{0}))", "gelu": "gelu({0})", "gelu_tanh": "gelu_tanh({0})",
    "relu": "tl.maximum({0}, 0.0, propagate_nan=tl.PropagateNan.ALL)", "square": "{0} * {0}",
    "floor": "tl.floor({0})",
}  # fmt: skip
_HUGE = 2.0**128
_NEUTRAL = {"sum": "0.0", "mean": "0.0", "max": 'float("-inf")'}


@dataclass(frozen=True)
class RowSource:
    """The lines of a row kernel's body, and what they take: operands by name, with the element of
    each; inputs; whether the longest sequence is a number that they use; `functions` of the
    template."""

    lines: tuple[str, ...]
    operands: tuple[tuple[str, str], ...]
    indices: frozenset[str]
    inputs: tuple[str, ...]
    takes_longest: bool
    functions: frozenset[str]


def row_source(program: RowProgram, *, exact: bool) -> RowSource:
    """The body of `program`; `exact`: no column of the tile is beyond the program's.

    Raises InternalError (HETC-Z030) for a program that means nothing or would race with itself.
    """
    return _Writer(program, exact).write()


@dataclass(frozen=True)
class _Value:
    """A variable or literal, and whether it differs between columns."""

    text: str
    wide: bool


class _Writer:
    def __init__(self, program: RowProgram, exact: bool) -> None:
        self.program = program
        self.exact = exact
        self.addresses = Addresses(program)
        self.let = self.addresses.lines.let
        # By identity: equal expressions become equal lines, and those are written once.
        self.values: dict[tuple[int, Columns], _Value] = {}
        self.loads: set[tuple[Access, str]] = set()
        self.functions: set[str] = set()

    def write(self) -> RowSource:
        program, lines = self.program, self.addresses.lines.texts
        if program.columns < 1 or program.inner < 1 or not program.stores:
            raise misfit("it has no rows, columns or stores", program.columns)
        self.let("live", f"row < rows * {program.inner}" if program.inner > 1 else "row < rows")
        if not self.exact:
            self.let("inside", f"column < {program.columns}")
        values = [self.value(store.value, self.all_columns) for store in program.stores]
        stored = {store.access.name for store in program.stores}
        if any(access.name in stored for access, _ in self.loads):
            # Several threads may hold a number; none reads it when another has written it.
            lines.append("tl.debug_barrier()")
        for store, value in zip(program.stores, values, strict=True):
            lines.append(self.store(store.access, value))
        return RowSource(
            lines=tuple(lines),
            operands=tuple(self.addresses.operands.items()),
            indices=frozenset(self.addresses.indices),
            inputs=tuple(self.addresses.inputs),
            takes_longest=self.addresses.takes_longest,
            functions=frozenset(self.functions),
        )

    @property
    def all_columns(self) -> Columns:
        return Columns(needed=None if self.exact else "inside")

    def value(self, expression: Expression, columns: Columns) -> _Value:
        """`expression` at `columns`."""
        key = id(expression), columns
        if key not in self.values:
            self.values[key] = self.write_value(expression, columns)
        return self.values[key]

    def write_value(self, expression: Expression, columns: Columns) -> _Value:
        match expression:
            case Number(number):
                # Beyond the range of f32 Triton would go on in f64.
                number = float(number if abs(number) < _HUGE else copysign(inf, number))
                return _Value(repr(number) if isfinite(number) else f'float("{number}")', False)
            case Position():
                text = f"{self.addresses.position}.to(tl.float32)"
                return _Value(self.let("position_number", text), False)
            case Column():
                text = f"{columns.number}.to(tl.float32)"
                return _Value(self.let("column_number", text), True)
            case Load(access):
                return self.load(access, columns)
            case Apply(function, arguments):
                return self.apply(function, [self.value(x, columns) for x in arguments])
            case Reduce(function, argument):
                return self.reduce(function, self.value(argument, self.all_columns))
            case At(argument):
                return self.value(argument, self.elsewhere(expression, columns))
            case Below():
                return self.choice(expression, columns)
            case Rounded(argument, element):
                value = self.tile(self.value(argument, columns))
                text = f"{value.text}.to({triton_element(element)}).to(tl.float32)"
                return _Value(self.let("rounded", text), value.wide)

    def tile(self, value: _Value) -> _Value:
        """`value`, a literal as a tile."""
        if value.text.isidentifier():
            return value
        return _Value(self.let("number", f"tl.full([1, 1], {value.text}, tl.float32)"), False)

    def apply(self, function: Function, values: list[_Value]) -> _Value:
        # Operators take one literal; functions of tiles, and what is all literals, take none.
        if len(values) == 1 or not any(value.text.isidentifier() for value in values):
            values = [self.tile(values[0]), *values[1:]]
        text = _TEXTS[function].format(*(value.text for value in values))
        self.functions |= {function} & FUNCTIONS
        return _Value(self.let(function, text), any(value.wide for value in values))

    def reduce(self, function: Reduction, value: _Value) -> _Value:
        text = value.text
        if not (self.exact and value.wide):
            # Columns that do not exist count for nothing; what is one number for all columns
            # counts once for each.
            inside = "inside" if not self.exact else self.let("inside", "column >= 0")
            text = self.let("counted", f"tl.where({inside}, {text}, {_NEUTRAL[function]})")
        kind = "max" if function == "max" else "sum"
        reduced = self.let(f"row_{kind}", f"tl.{kind}({text}, axis=1, keep_dims=True)")
        if function == "mean":
            reduced = self.let("row_mean", f"{reduced} / {float(self.program.columns)}")
        return _Value(reduced, False)

    def elsewhere(self, at: At, columns: Columns) -> Columns:
        step, offset, modulo = at.step, at.offset, at.modulo
        if modulo is not None:
            # Triton's remainder has the sign of the dividend.
            step, offset = step % modulo, offset % modulo
        number = columns.number if at.every == 1 else f"({columns.number} // {at.every})"
        text = number if step == 1 else f"{number} * {step}"
        text = f"{text} + {offset}" if offset else text
        if modulo is not None:
            text = f"({text}) % {modulo}" if text != columns.number else f"{text} % {modulo}"
        number = columns.number if text == columns.number else self.let("at", text)
        return Columns(number, columns.needed)

    def choice(self, below: Below, columns: Columns) -> _Value:
        first = self.let("first", f"{columns.number} < {below.limit}")
        rest = f"{columns.number} >= {below.limit}"
        then = self.side(below.then, columns, first)
        otherwise = self.side(below.otherwise, columns, rest)
        return _Value(self.let("chosen", f"tl.where({first}, {then}, {otherwise})"), True)

    def side(self, expression: Expression, columns: Columns, condition: str) -> str:
        """`expression`, which may have no columns but those of the `condition`."""
        if isinstance(expression, Number):
            return self.value(expression, columns).text
        needed = self.let("rest", condition) if " " in condition else condition
        if columns.needed is not None:
            needed = self.let("needed", f"{columns.needed} & {needed}")
        return self.value(expression, Columns(columns.number, needed)).text

    def load(self, access: Access, columns: Columns) -> _Value:
        self.loads.add((access, columns.number))
        address, masks = self.addresses.address(access, columns)
        mask = f", mask={' & '.join(masks)}, other=0" if masks else ""
        text = f"tl.load({address}{mask})"
        if access.element != "f32":
            text += ".to(tl.float32)"
        return _Value(self.let(f"{access.name}_tile", text), access.step != 0)

    def store(self, access: Access, value: _Value) -> str:
        if access.step == 0 and value.wide and self.program.columns > 1:
            raise misfit("several columns are stored in one place", access)
        for other, number in self.loads:
            # Another thread may have written it, or not yet.
            if other.name == access.name and (other, number) != (access, "column"):
                raise misfit(f"{access.name} is written, and read elsewhere", other)
        address, masks = self.addresses.address(access, self.all_columns)
        if not masks or masks[0] not in ("live", "exists"):
            raise misfit("all rows are stored in one place", access)
        mask = f", mask={' & '.join(masks)}" if masks else ""
        return f"tl.store({address}, {self.tile(value).text}{mask})"
