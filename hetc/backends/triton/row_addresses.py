"""Where the rows and columns of operands lie, as lines of a row kernel.

`row` and `column` number the rows and columns of a tile; `live` are the rows that exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from keyword import kwlist
from typing import Literal

from hetc.backends.triton.row_program import Access, RowProgram
from hetc.errors import InternalError

# Functions that the template defines, and other names that mean something in it.
FUNCTIONS = frozenset({"tanh", "gelu", "gelu_tanh"})
_INPUTS = ("positions", "sequences", "starts")
_TAKEN = frozenset(
    {*FUNCTIONS, *_INPUTS, *kwlist, "row", "rows", "column", "longest", "float", "tl", "triton"}
)


@dataclass(frozen=True)
class Columns:
    """Which column is meant, and where that is needed: names of variables, None for anywhere."""

    number: str = "column"
    needed: str | None = None


class Lines:
    """Assignments, of which no two have equal right sides."""

    def __init__(self, taken: set[str]) -> None:
        self.texts: list[str] = []
        self._names: dict[str, str] = {}
        self._taken = taken

    def let(self, name: str, text: str) -> str:
        """A variable that holds `text`: an earlier one if there is one."""
        if text not in self._names:
            free = (f"{name}_{number}" if number > 1 else name for number in count(1))
            variable = next(found for found in free if found not in self._taken)
            self._taken.add(variable)
            self._names[text] = variable
            self.texts.append(f"{variable} = {text}")
        return self._names[text]


class Addresses:
    """Where the operands of `program` lie; collects what the kernel takes for that: `operands` with
    their elements, those that are an index, inputs, and whether the longest sequence is used."""

    def __init__(self, program: RowProgram) -> None:
        names = (name for access in program.accesses for name in (access.name, access.index))
        self.program = program
        self.lines = Lines({*_TAKEN, *names})
        self.operands: dict[str, str] = {}
        self.indices: set[str] = set()
        self.inputs: dict[str, None] = {}
        self.takes_longest = False

    def address(self, access: Access, columns: Columns) -> tuple[str, list[str]]:
        """Where `columns` of `access` lie, and the conditions under which they do."""
        pointer = self._operand(access.name, access.element)
        base, masks = self._base(access)
        if access.offset:
            base = [*base, str(access.offset)]
        if base:
            pointer = self.lines.let(f"{access.name}_row", f"{pointer} + {' + '.join(base)}")
        if access.step:
            step = f" * {access.step}" if access.step != 1 else ""
            pointer = f"{pointer} + {columns.number}{step}"
            masks = masks if columns.needed is None else [*masks, columns.needed]
        return pointer, masks

    @property
    def position(self) -> str:
        """The variable that holds the position of the row's token in its sequence."""
        return self.lines.let("position", _number(f"{self._input('positions')} + {self._token}"))

    def _base(self, access: Access) -> tuple[list[str], list[str]]:
        """The terms of the element that a row of `access` begins at, before the offset, and which
        rows there are."""
        if access.place == "state":
            return self._state_row(access)
        terms = []
        if access.place != "none" and access.outer:
            terms.append(_times(self._place(access), access.outer))
        if access.inner and self.program.inner > 1:
            terms.append(_times(self._thing, access.inner))
        return terms, ["live"] if terms else []

    def _place(self, access: Access) -> str:
        """The variable that the outer stride of `access` is a multiple of."""
        match access.place:
            case "token":
                return self._counted
            case "position":
                return self.position
            case "last":
                if self.program.over != "sequences":
                    raise misfit("a launch over tokens has no last ones", access)
                return self._token
            case _:
                self.indices.add(access.index)
                pointer = self._operand(access.index, "i32")
                text = f"tl.load({pointer} + row, mask=live, other=0).to(tl.int64)"
                return self.lines.let(f"{access.index}_row", text)

    def _state_row(self, access: Access) -> tuple[list[str], list[str]]:
        starts, heads, width = self._input("starts"), self.program.inner, access.inner
        start = self.lines.let("start", _number(f"{starts} + {self._sequence}"))
        end = self.lines.let("end", _number(f"{starts} + {self._sequence} + 1"))
        length = self.lines.let("length", f"{end} - {start}")
        if access.keep is None:
            begin, kept, number, exists = start, length, self.position, "live"
        else:
            self.takes_longest = True
            kept = self.lines.let("kept", f"tl.minimum({length}, {access.keep})")
            most = self.lines.let("most", f"tl.minimum(longest, {access.keep})")
            begin = self.lines.let("begin", f"{self._sequence} * {most}")
            number = self.lines.let("kept_row", f"{self.position} - ({length} - {kept})")
            exists = self.lines.let("exists", f"live & ({number} >= 0)")
        head = [f"{self._thing} * {_times(kept, width)}"] if heads > 1 else []
        return [_times(begin, heads * width), *head, _times(number, width)], [exists]

    @property
    def _counted(self) -> str:
        """What the launch counts: the token of the row, or the sequence."""
        name = "sequence" if self.program.over == "sequences" else "token"
        inner = self.program.inner
        row = f"(row // {inner})" if inner > 1 else "row"
        # Products with strides may need more than 32 bits.
        return self.lines.let(name, f"{row}.to(tl.int64)")

    @property
    def _thing(self) -> str:
        return self.lines.let("thing", f"row % {self.program.inner}")

    @property
    def _token(self) -> str:
        if self.program.over == "tokens":
            return self._counted
        end = self.lines.let("end", _number(f"{self._input('starts')} + {self._counted} + 1"))
        return self.lines.let("last", f"{end} - 1")

    @property
    def _sequence(self) -> str:
        if self.program.over == "sequences":
            return self._counted
        return self.lines.let("sequence", _number(f"{self._input('sequences')} + {self._token}"))

    def _input(self, name: Literal["positions", "sequences", "starts"]) -> str:
        self.inputs[name] = None
        return name

    def _operand(self, name: str, element: str) -> str:
        if not name.isidentifier() or name in _TAKEN:
            raise misfit("this is no name of an operand", name)
        if self.operands.setdefault(name, element) != element:
            raise misfit(f"{name} has elements of two types", element)
        return name


def _number(pointer: str) -> str:
    """What stands at `pointer`, of rows that exist; rows of 0 tokens are nowhere."""
    return f"tl.load({pointer}, mask=live, other=0).to(tl.int64)"


def _times(text: str, factor: int) -> str:
    return text if factor == 1 else f"{text} * {factor}"


def misfit(what: str, found: object) -> InternalError:
    """The error of a program that means nothing."""
    return InternalError("HETC-Z030", f"a row program cannot be written: {what}", found=found)
