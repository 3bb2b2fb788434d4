"""What a frontend returns: a graph, its weights (still on disk), what is known about the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.ops.quant import dequantized, unpacked4
from hetc.ir.types import Array, DType

# From where to where a size may be; None where there is no bound.
SizeRange = tuple[int, int | None]


@dataclass(frozen=True)
class WeightData:
    """One weight: shape, dtype, and `load`, which gives its data (perhaps memory-mapped).

    `groups` are the integers that the source stores of it, where it does; `load` then dequantizes.
    """

    shape: tuple[int, ...]
    dtype: DType
    load: Callable[[], Array]
    groups: StoredGroups | None = None


@dataclass(frozen=True)
class StoredGroups:
    """A matrix `[..., K]` as integers, with a scale for each `group` of its last axis.

    An element is `(code - zero) * scale + shift`, in f32 (see `hetc.ir.ops.quant.Dequantize`).
    `codes` are i8 or u8 `[..., K]`, or u8 `[..., K/2]` that hold two of 4 bits of the type `packed`
    (see `Unpack4`); the others are `[..., K/group]`.
    """

    group: int
    codes: WeightData
    scale: WeightData
    zero: WeightData | None = None
    shift: WeightData | None = None
    packed: DType | None = None

    @property
    def form(self) -> str:
        """`int8` or `int4`."""
        return "int8" if self.packed is None else "int4"

    def dequantized(self) -> Array:
        """The matrix, f32[..., K]."""
        codes = self.codes.load()
        if self.packed is not None:
            codes = unpacked4(codes, self.packed)
        zero, shift = (None if d is None else d.load() for d in (self.zero, self.shift))
        return dequantized(codes, self.scale.load(), zero, shift)


@dataclass(frozen=True)
class Tokenizer:
    """A Hugging Face `tokenizers` file, and its chat template and special tokens."""

    tokenizer_json: bytes
    config: Mapping[str, object]


@dataclass(frozen=True)
class CarriedState:
    """A cache that the source model carries itself.

    `past` names the input that holds the past, the output beside it holds past and new.
    """

    past: str
    present: str


@dataclass(frozen=True)
class Model:
    """A model as imported.

    `graph` is `forward(tokens i64[B,S]) -> logits f[B,S,V]`. `weights` maps the names of
    its weight ops to their data; None for a plan that was made from a configuration alone.
    `max_context` bounds S (what was assumed of S on the way in); `layers` counts the decoder
    layers, 0 where unknown. `notes` are sentences about what the import did that the user should
    know. `stored` is the type of a quantized checkpoint's matrices, for a plan without weights.

    A model without phases says in `no_phases` why it has none. Its graph has inputs and outputs of
    its own, `sizes` gives the range of every symbol of them, and it has no context.
    """

    name: str
    family: str
    graph: Graph
    weights: Mapping[str, WeightData] | None
    dtype: DType
    max_context: int
    layers: int = 0
    tokenizer: Tokenizer | None = None
    carried: tuple[CarriedState, ...] = ()
    stored: DType | None = None
    opaque: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = field(default=())
    no_phases: Reason | None = None
    sizes: Mapping[str, SizeRange] = field(default_factory=dict)

    def with_graph(self, graph: Graph) -> Model:
        return replace(self, graph=graph)
