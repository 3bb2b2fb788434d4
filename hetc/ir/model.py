"""What a frontend returns: one graph, its weights (still on disk), and what is known about the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from hetc.ir.graph import Graph
from hetc.ir.types import Array, DType


@dataclass(frozen=True)
class WeightData:
    """One weight: shape, dtype and how to get its data, which may be memory-mapped; `load` is called when it is needed."""

    shape: tuple[int, ...]
    dtype: DType
    load: Callable[[], Array]


@dataclass(frozen=True)
class Tokenizer:
    """A Hugging Face `tokenizers` file and what goes with it: chat template, special tokens, end-of-sequence ids."""

    tokenizer_json: bytes
    config: Mapping[str, object]


@dataclass(frozen=True)
class Model:
    """A model as imported.

    `graph` is `forward(tokens i64[B,S]) -> logits f[B,S,V]`. `weights` maps the names of the graph's weight ops to their data; None for
    a plan that was made from a configuration alone. `max_context` bounds S (what was assumed of S on the way in); `layers` counts the
    decoder layers, 0 where unknown. `notes` are sentences about what the import did that the user should know.
    """

    name: str
    family: str
    graph: Graph
    weights: Mapping[str, WeightData] | None
    dtype: DType
    max_context: int
    layers: int = 0
    tokenizer: Tokenizer | None = None
    notes: tuple[str, ...] = field(default=())

    def with_graph(self, graph: Graph) -> Model:
        return replace(self, graph=graph)
