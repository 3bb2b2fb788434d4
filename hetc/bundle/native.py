"""What the native engine's files say: the arguments of a half's function, and where things lie.

`native/layout.json` describes the packed weights, the states and the scratch memory. Sizes are in
bytes and may be polynomials of B sequences, T new tokens, C tokens of capacity, N threads, and K
parts in which keys are shared out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hetc.bundle.contract import PHASES
from hetc.bundle.fields import Fields, check_integer
from hetc.bundle.strict_json import canonical_json, parse_json
from hetc.bundle.version import Version, read_version

NATIVE = Version("hetc.native", 2)
LAYOUT_FILE, WEIGHTS_FILE = "native/layout.json", "native/weights.bin"
# What a half's function is given, as one array of 64-bit numbers for each thread: the addresses in
# lower case and `unit` (which thread it is), then the sizes. `pasts` i64[B] says how many tokens
# are behind each sequence. N may be fewer threads than K parts: what is computed hangs on K alone.
ARGUMENTS = (
    "tokens",
    "logits",
    "weights",
    "state",
    "pasts",
    "shared",
    "private",
    "barrier",
    "unit",
    "B",
    "T",
    "C",
    "N",
    "K",
)
# States have room for a multiple of this many tokens.
CAPACITY_STEP = 64
MAX_BYTES = 16 * 2**20


def half_file(half: str, isa: str) -> str:
    """The MLIR text of a half for one variant of the instruction set."""
    return f"native/{half}.{isa}.mlir"


@dataclass(frozen=True)
class StateLayout:
    """One state in the engine's memory, `offset` bytes into it; one may lie there in two roles.

    `keys` [B, G, C/16, R/n, 16, n], `values` [B, G, C, R]; n is 2 for bf16 and else 1, R the
    numbers of a `row`, filled up to a multiple of n for keys. The contract's state [B, G, P, D] has
    `sizes` (G, D), or [B, P, D] (D,); its numbers begin at `first` in a row. `keep`: how many rows
    the contract's state has at most. `whole` is as the contract has it: [B, *sizes]. The contract
    has numbers as `element`, memory as `stored`: where that is `i8`, scales f32[C] follow the
    numbers of each of the G.
    """

    name: str
    role: str
    offset: str
    sizes: tuple[int, ...]
    first: int
    row: int
    element: str
    stored: str
    keep: int | None

    @property
    def groups(self) -> int:
        """Key heads, 1 where the contract has no such axis."""
        return self.sizes[0] if len(self.sizes) == 2 else 1


@dataclass(frozen=True)
class Scratch:
    """Bytes of scratch memory that a half needs: once for all threads, and for each of them.

    `barrier` bytes are for what threads count together, and zero at the beginning of each call.
    """

    shared: str
    private: str
    barrier: str


@dataclass(frozen=True)
class Variant:
    """An instruction set that there is text for, and the CPU features that it needs."""

    name: str
    needs: tuple[str, ...]


@dataclass(frozen=True)
class NativeLayout:
    """`native/layout.json`. Rows of logits are `logit_columns` f32 long, of which the vocabulary
    comes first. `variants` are in order of preference."""

    logit_columns: int
    weight_bytes: int
    state_bytes: str
    scratch: Mapping[str, Scratch]
    states: tuple[StateLayout, ...]
    variants: tuple[Variant, ...]

    def to_bytes(self) -> bytes:
        """The file."""
        body: dict[str, Any] = asdict(self)
        return canonical_json({"schema": str(NATIVE), **body})

    @staticmethod
    def from_bytes(raw: bytes) -> NativeLayout:
        """The layout in `raw`; raises BundleError as the manifest's reader does."""
        fields = Fields(parse_json(raw, LAYOUT_FILE, max_bytes=MAX_BYTES), LAYOUT_FILE)
        version = read_version(fields.take("schema"), fields.where("schema"), NATIVE)
        fields.newer = version > NATIVE
        scratch = fields.nested("scratch")
        found = NativeLayout(
            logit_columns=fields.integer("logit_columns", low=1),
            weight_bytes=fields.integer("weight_bytes"),
            state_bytes=fields.text("state_bytes"),
            scratch={phase: _scratch(scratch.nested(phase)) for phase in PHASES},
            states=fields.array("states", _state),
            variants=fields.array("variants", _variant),
        )
        scratch.done()
        fields.done()
        return found


def _scratch(fields: Fields) -> Scratch:
    found = Scratch(fields.text("shared"), fields.text("private"), fields.text("barrier"))
    fields.done()
    return found


def _state(value: object, at: str) -> StateLayout:
    fields = Fields(value, at)
    found = StateLayout(
        name=fields.text("name"),
        role=fields.one_of("role", ("keys", "values", "whole")),
        offset=fields.text("offset"),
        sizes=fields.array("sizes", check_integer),
        first=fields.integer("first"),
        row=fields.integer("row"),
        element=fields.one_of("element", ("f32", "bf16", "f16", "i32", "i64")),
        stored=fields.one_of("stored", ("f32", "bf16", "f16", "i32", "i64", "i8")),
        keep=fields.optional("keep", fields.integer),
    )
    fields.done()
    return found


def _variant(value: object, at: str) -> Variant:
    fields = Fields(value, at)
    found = Variant(fields.text("name"), fields.texts("needs"))
    fields.done()
    return found
