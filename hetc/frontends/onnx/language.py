"""Whether an ONNX model is a language model, by its inputs and outputs alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hetc.errors import InputError, Reason
from hetc.frontends.no_phases import HIDDEN_STATES
from hetc.frontends.onnx.signature import Declared, declared, token_inputs

if TYPE_CHECKING:
    from onnx import GraphProto, ValueInfoProto


def why_no_language_model(graph: GraphProto) -> Reason | None:
    """Why `graph` maps no tokens to logits (HETC-I307, HETC-I309); None where it may.

    Tokens are integers [B,S]; logits are floats [B,S,V] that the file does not call hidden states,
    without a vector for each sequence beside them. An output whose shape the file does not declare
    may be logits.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [declared(info) for info in graph.input if info.name not in weights]
    if not token_inputs(inputs):
        shown = ", ".join(map(_shown, inputs))
        return Reason("HETC-I307", f"no input is tokens, but {shown or 'there are none'}")
    if any(_may_be_logits(info) for info in graph.output) and not _pools(graph):
        return None
    shown = ", ".join(_shown(declared(info)) for info in graph.output)
    return Reason("HETC-I309", f"no output is logits [B,S,V], but {shown}")


def _may_be_logits(info: ValueInfoProto) -> bool:
    if info.name in HIDDEN_STATES:
        return False
    # Of no declared rank: the importer finds out.
    return not info.type.tensor_type.HasField("shape") or _rank(info) == 3


def _pools(graph: GraphProto) -> bool:
    """Whether the model gives a vector for each sequence beside what it gives for each token, and
    calls nothing logits: that is an encoder."""
    if any(info.name == "logits" for info in graph.output):
        return False
    ranks = [_rank(info) for info in graph.output]
    return 2 in ranks


def _rank(info: ValueInfoProto) -> int:
    """The axes of a float output; -1 for another, or one of no declared rank."""
    try:
        found = declared(info)
    except InputError:
        return -1
    return len(found.dims) if found.dtype.is_float else -1


def _shown(item: Declared) -> str:
    sizes = ",".join(str(dim) if isinstance(dim, int) else dim or "*" for dim in item.dims)
    return f"{item.name} {item.dtype}[{sizes}]"
