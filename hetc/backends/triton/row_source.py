"""The body of a row kernel: the expressions of a row program as lines of Triton, each once.

Everything is a tile [rows, columns], [rows, 1] or [1, columns]. `row` and `column` number the rows
and columns of the tile; `live` are the rows that exist, `inside` the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from keyword import kwlist
from math import copysign, inf, isfinite
from typing import Literal

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
from hetc.errors import InternalError

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
}  # fmt: skip
# Those that the template defines.
_FUNCTIONS = frozenset({"tanh", "gelu", "gelu_tanh"})
_TAKEN = ("row", "rows", "column", "longest", "float", "tl", "triton")
_INPUTS = ("positions", "sequences", "starts")
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


@dataclass(frozen=True)
class _Columns:
    """Which column is computed, and where that is needed: names of variables, None for anywhere."""

    number: str = "column"
    needed: str | None = None


class _Writer:
    def __init__(self, program: RowProgram, exact: bool) -> None:
        self.program = program
        self.exact = exact
        self.lines: list[str] = []
        self.names: dict[str, str] = {}
        names = (name for access in program.accesses for name in (access.name, access.index))
        self.taken = {*_FUNCTIONS, *_TAKEN, *_INPUTS, *kwlist, *names}
        # By identity: equal expressions become equal lines, and those are written once.
        self.values: dict[tuple[int, _Columns], _Value] = {}
        self.loads: set[tuple[Access, str]] = set()
        self.operands: dict[str, str] = {}
        self.indices: set[str] = set()
        self.inputs: dict[str, None] = {}
        self.takes_longest = False
        self.functions: set[str] = set()

    def write(self) -> RowSource:
        program = self.program
        if program.columns < 1 or program.inner < 1 or not program.stores:
            raise _misfit("it has no rows, columns or stores", program.columns)
        self.let("live", f"row < rows * {program.inner}" if program.inner > 1 else "row < rows")
        if not self.exact:
            self.let("inside", f"column < {program.columns}")
        values = [self.value(store.value, self.all_columns) for store in program.stores]
        if {access.name for access, _ in self.loads} & {
            store.access.name for store in program.stores
        }:
            # Several threads may hold a number; none reads it when another has written it.
            self.lines.append("tl.debug_barrier()")
        for store, value in zip(program.stores, values, strict=True):
            self.store(store.access, value)
        return RowSource(
            lines=tuple(self.lines),
            operands=tuple(self.operands.items()),
            indices=frozenset(self.indices),
            inputs=tuple(self.inputs),
            takes_longest=self.takes_longest,
            functions=frozenset(self.functions),
        )

    @property
    def all_columns(self) -> _Columns:
        return _Columns(needed=None if self.exact else "inside")

    def let(self, name: str, text: str) -> str:
        """A variable that holds `text`: an earlier one if there is one."""
        if text not in self.names:
            free = (f"{name}_{number}" if number > 1 else name for number in count(1))
            variable = next(found for found in free if found not in self.taken)
            self.taken.add(variable)
            self.names[text] = variable
            self.lines.append(f"{variable} = {text}")
        return self.names[text]

    def value(self, expression: Expression, columns: _Columns) -> _Value:
        """`expression` at `columns`."""
        key = id(expression), columns
        if key not in self.values:
            self.values[key] = self.write_value(expression, columns)
        return self.values[key]

    def write_value(self, expression: Expression, columns: _Columns) -> _Value:
        match expression:
            case Number(number):
                # Beyond the range of f32 Triton would go on in f64.
                number = float(number if abs(number) < _HUGE else copysign(inf, number))
                return _Value(repr(number) if isfinite(number) else f'float("{number}")', False)
            case Position():
                return _Value(self.let("position_number", f"{self.position}.to(tl.float32)"), False)
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
        self.functions |= {function} & _FUNCTIONS
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

    def elsewhere(self, at: At, columns: _Columns) -> _Columns:
        step, offset, modulo = at.step, at.offset, at.modulo
        if modulo is not None:
            # Triton's remainder has the sign of the dividend.
            step, offset = step % modulo, offset % modulo
        text = columns.number if step == 1 else f"{columns.number} * {step}"
        text = f"{text} + {offset}" if offset else text
        if modulo is not None:
            text = f"({text}) % {modulo}" if text != columns.number else f"{text} % {modulo}"
        number = columns.number if text == columns.number else self.let("at", text)
        return _Columns(number, columns.needed)

    def choice(self, below: Below, columns: _Columns) -> _Value:
        first = self.let("first", f"{columns.number} < {below.limit}")
        rest = f"{columns.number} >= {below.limit}"
        then = self.side(below.then, columns, first)
        otherwise = self.side(below.otherwise, columns, rest)
        return _Value(self.let("chosen", f"tl.where({first}, {then}, {otherwise})"), True)

    def side(self, expression: Expression, columns: _Columns, condition: str) -> str:
        """`expression`, which may have no columns but those of the `condition`."""
        if isinstance(expression, Number):
            return self.value(expression, columns).text
        needed = self.let("rest", condition) if " " in condition else condition
        if columns.needed is not None:
            needed = self.let("needed", f"{columns.needed} & {needed}")
        return self.value(expression, _Columns(columns.number, needed)).text

    def load(self, access: Access, columns: _Columns) -> _Value:
        self.loads.add((access, columns.number))
        address, masks = self.address(access, columns)
        mask = f", mask={' & '.join(masks)}, other=0" if masks else ""
        text = f"tl.load({address}{mask})"
        if access.element != "f32":
            text += ".to(tl.float32)"
        return _Value(self.let(f"{access.name}_tile", text), access.step != 0)

    def store(self, access: Access, value: _Value) -> None:
        if access.step == 0 and value.wide and self.program.columns > 1:
            raise _misfit("several columns are stored in one place", access)
        for other, number in self.loads:
            # Another thread may have written it, or not yet.
            if other.name == access.name and (other, number) != (access, "column"):
                raise _misfit(f"{access.name} is written, and read elsewhere", other)
        address, masks = self.address(access, self.all_columns)
        if not masks or masks[0] not in ("live", "exists"):
            raise _misfit("all rows are stored in one place", access)
        mask = f", mask={' & '.join(masks)}" if masks else ""
        self.lines.append(f"tl.store({address}, {self.tile(value).text}{mask})")

    def address(self, access: Access, columns: _Columns) -> tuple[str, list[str]]:
        """Where `columns` of `access` lie, and the conditions under which they do."""
        pointer = self.operand(access.name, access.element)
        base, masks = self.base(access)
        if access.offset:
            base = [*base, str(access.offset)]
        if base:
            pointer = self.let(f"{access.name}_row", f"{pointer} + {' + '.join(base)}")
        if access.step:
            step = f" * {access.step}" if access.step != 1 else ""
            pointer = f"{pointer} + {columns.number}{step}"
            masks = masks if columns.needed is None else [*masks, columns.needed]
        return pointer, masks

    def base(self, access: Access) -> tuple[list[str], list[str]]:
        """The terms of the element that a row of `access` begins at, before the offset, and which
        rows there are."""
        if access.place == "state":
            return self.state_row(access)
        terms = []
        if access.place != "none" and access.outer:
            terms.append(_times(self.place(access), access.outer))
        if access.inner and self.program.inner > 1:
            terms.append(_times(self.thing, access.inner))
        return terms, ["live"] if terms else []

    def place(self, access: Access) -> str:
        """The variable that the outer stride of `access` is a multiple of."""
        match access.place:
            case "token":
                return self.counted
            case "position":
                return self.position
            case "last":
                if self.program.over != "sequences":
                    raise _misfit("a launch over tokens has no last ones", access)
                return self.token
            case _:
                self.indices.add(access.index)
                pointer = self.operand(access.index, "i32")
                text = f"tl.load({pointer} + row, mask=live, other=0).to(tl.int64)"
                return self.let(f"{access.index}_row", text)

    def state_row(self, access: Access) -> tuple[list[str], list[str]]:
        starts, heads, width = self.input("starts"), self.program.inner, access.inner
        start = self.let("start", _number(f"{starts} + {self.sequence}"))
        end = self.let("end", _number(f"{starts} + {self.sequence} + 1"))
        length = self.let("length", f"{end} - {start}")
        if access.keep is None:
            begin, kept, number, exists = start, length, self.position, "live"
        else:
            self.takes_longest = True
            kept = self.let("kept", f"tl.minimum({length}, {access.keep})")
            most = self.let("most", f"tl.minimum(longest, {access.keep})")
            begin = self.let("begin", f"{self.sequence} * {most}")
            number = self.let("kept_row", f"{self.position} - ({length} - {kept})")
            exists = self.let("exists", f"live & ({number} >= 0)")
        head = [f"{self.thing} * {_times(kept, width)}"] if heads > 1 else []
        return [_times(begin, heads * width), *head, _times(number, width)], [exists]

    @property
    def counted(self) -> str:
        """What the launch counts: the token of the row, or the sequence."""
        name = "sequence" if self.program.over == "sequences" else "token"
        # Products with strides may need more than 32 bits.
        inner = self.program.inner
        return self.let(name, f"(row // {inner}).to(tl.int64)" if inner > 1 else "row.to(tl.int64)")

    @property
    def thing(self) -> str:
        return self.let("thing", f"row % {self.program.inner}")

    @property
    def token(self) -> str:
        if self.program.over == "tokens":
            return self.counted
        end = self.let("end", _number(f"{self.input('starts')} + {self.counted} + 1"))
        return self.let("last", f"{end} - 1")

    @property
    def sequence(self) -> str:
        if self.program.over == "sequences":
            return self.counted
        return self.let("sequence", _number(f"{self.input('sequences')} + {self.token}"))

    @property
    def position(self) -> str:
        return self.let("position", _number(f"{self.input('positions')} + {self.token}"))

    def input(self, name: Literal["positions", "sequences", "starts"]) -> str:
        self.inputs[name] = None
        return name

    def operand(self, name: str, element: str) -> str:
        if not name.isidentifier() or name in {*_FUNCTIONS, *_TAKEN, *_INPUTS, *kwlist}:
            raise _misfit("this is no name of an operand", name)
        if self.operands.setdefault(name, element) != element:
            raise _misfit(f"{name} has elements of two types", element)
        return name


def _number(pointer: str) -> str:
    """What stands at `pointer`, of rows that exist; rows of 0 tokens are nowhere."""
    return f"tl.load({pointer}, mask=live, other=0).to(tl.int64)"


def _times(text: str, factor: int) -> str:
    return text if factor == 1 else f"{text} * {factor}"


def _misfit(what: str, found: object) -> InternalError:
    return InternalError("HETC-Z030", f"a row program cannot be written: {what}", found=found)
