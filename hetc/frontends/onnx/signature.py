"""What the inputs and outputs of an ONNX decoder are: tokens, a past, logits, and inputs that only
say where and whether.

Exporters agree on names more than on anything else: `input_ids`, `attention_mask`, `position_ids`,
`past_key_values.N.key`, `present.N.key`, `logits`. Sizes get hetc's own symbols: `tokens [B, S]`
alone, `tokens [B, T]` beside a past of `P` rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hetc.errors import InputError
from hetc.frontends.onnx.context import Context
from hetc.frontends.onnx.item import Item, item_of
from hetc.frontends.onnx.table_shape import reshaped
from hetc.frontends.onnx.table_source import stored
from hetc.frontends.onnx.tensors import dtype_named
from hetc.ir.dims import Dim, DimLike, symbol
from hetc.ir.model import WeightData
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.shape import Broadcast
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import BOOL, Array, DType, TensorType

if TYPE_CHECKING:
    from onnx import GraphProto, ValueInfoProto

_TOKENS = ("input_ids", "tokens", "input", "inputs")
_LAYER = re.compile(r"\d+\D*$")
_HOW = "export it with dynamic batch and sequence sizes (dynamic_shapes or dynamic_axes)"


@dataclass(frozen=True)
class Declared:
    """A graph input or output as declared: a dim is an int, or the name of a symbol ("" for an
    unnamed one).
    """

    name: str
    dtype: DType
    dims: tuple[int | str, ...]


@dataclass(frozen=True)
class Signature:
    """The roles of the inputs: the tokens, the past in file order, and the others, which hetc
    fixes.
    """

    tokens: Declared
    past: tuple[Declared, ...]
    fixed: tuple[Declared, ...]

    @property
    def rows(self) -> Dim:
        """The number of new tokens."""
        return symbol("T") if self.past else symbol("S")

    @property
    def total(self) -> DimLike:
        """The number of tokens, past ones included."""
        return symbol("P") + symbol("T") if self.past else symbol("S")


def read_signature(graph: GraphProto) -> Signature:
    """The roles of a graph's inputs; raises InputError (HETC-I307, HETC-I308) where it is no
    decoder with a dynamic sequence.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [declared(info) for info in graph.input if info.name not in weights]
    chosen = token_inputs(inputs)
    if not chosen:
        listed = ", ".join(f"{item.name} {item.dtype}{list(item.dims)}" for item in inputs)
        raise InputError(
            "HETC-I307",
            "the ONNX model has no input that holds tokens",
            expected="an integer input input_ids [batch, sequence]",
            found=listed or "no inputs",
            do="export the language model with its token ids as an input",
        )
    tokens = chosen[0]
    if isinstance(tokens.dims[1], int):
        raise InputError(
            "HETC-I308",
            "the ONNX model takes sequences of one length only",
            at=tokens.name,
            expected="a symbolic sequence size",
            found=f"{tokens.name} {list(tokens.dims)}",
            do=_HOW,
        )
    others = [item for item in inputs if item is not tokens]
    past = tuple(item for item in others if item.dtype.is_float and len(item.dims) >= 3)
    return Signature(tokens, past, tuple(item for item in others if item not in past))


def token_inputs(inputs: Sequence[Declared]) -> list[Declared]:
    """The inputs that can hold tokens, by name, or by being the only integer matrix."""
    candidates = [item for item in inputs if item.dtype.is_int and len(item.dims) == 2]
    named = [item for item in candidates if item.name in _TOKENS]
    return named or (candidates if len(candidates) == 1 else [])


def declared(info: ValueInfoProto) -> Declared:
    """An input or output message as data; raises InputError (HETC-I307) for one that is no tensor
    of known rank.
    """
    tensor = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise InputError("HETC-I307", "an input or output is no tensor of known rank", at=info.name)
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim
    )
    return Declared(info.name, dtype_named(tensor.elem_type, info.name), dims)


def bind(ctx: Context, signature: Signature) -> None:
    """Make the graph's inputs, tokens first and then the past, and give every other input the value
    that it has in plain generation.
    """
    tokens = signature.tokens
    batch: DimLike = tokens.dims[0] if isinstance(tokens.dims[0], int) else symbol("B")
    if isinstance(batch, int):
        ctx.notes.append(f"the batch is fixed at {batch} by the ONNX file")
    rows = signature.rows
    _input(ctx, tokens, "tokens", (batch, rows))
    for item in signature.past:
        shape = tuple(_past_dim(item, dim, tokens.dims[0], batch) for dim in item.dims)
        if symbol("P") not in shape:
            raise InputError(
                "HETC-I307",
                "an input is neither tokens nor a past of growing length",
                at=item.name,
                expected="past_key_values.N.key [batch, heads, past, width]",
                found=f"{item.dtype}{list(item.dims)}",
                do="export the decoder with Optimum's or torch.onnx's names and a dynamic past",
            )
        _input(ctx, item, item.name, shape)
    for item in signature.fixed:
        ctx.env[item.name] = _fixed(ctx, item, signature, batch)


def bind_all(ctx: Context, graph: GraphProto, known: Mapping[str, Array]) -> None:
    """Make every input of `graph` an input, but for those that `known` gives a value.

    Sizes without a number are called N0, N1, ...: one for each name in the file, and one for each
    axis without a name. Raises InputError (HETC-I307) for an input that is no tensor of known rank,
    or a value that does not fit.
    """
    weights = {tensor.name for tensor in graph.initializer}
    names: dict[str, DimLike] = {}
    count = 0
    for info in graph.input:
        if info.name in weights:
            continue
        item = declared(info)
        if item.name in known:
            ctx.env[item.name] = _given(ctx, item, known[item.name])
            continue
        shape: list[DimLike] = []
        for dim in item.dims:
            if isinstance(dim, str):
                size = names.get(dim, symbol(f"N{count}"))
                count += str(size) == f"N{count}"
                if dim:
                    names[dim] = size
                shape.append(size)
            else:
                shape.append(dim)
        _input(ctx, item, item.name, tuple(shape))


def _given(ctx: Context, item: Declared, array: Array) -> Item:
    fits = len(item.dims) == array.ndim and all(
        isinstance(dim, str) or dim == size
        for dim, size in zip(item.dims, array.shape, strict=True)
    )
    if not fits or array.dtype != item.dtype.numpy:
        raise InputError(
            "HETC-I307",
            "the value that is given for an input does not fit it",
            at=item.name,
            expected=f"{item.dtype}{list(item.dims)}",
            found=f"{array.dtype}{list(array.shape)}",
        )
    return stored(ctx, item.name, WeightData(array.shape, item.dtype, lambda: array))


def _input(ctx: Context, item: Declared, name: str, shape: tuple[DimLike, ...]) -> None:
    ctx.symbols.update((str(said), dim) for said, dim in zip(item.dims, shape, strict=True) if said)
    value = ctx.builder.input(name, TensorType(item.dtype, shape))
    ctx.env[item.name] = Item(value.type, value)


def _past_dim(item: Declared, dim: int | str, batch_name: int | str, batch: DimLike) -> DimLike:
    if isinstance(dim, int):
        return dim
    # Unnamed sizes are told apart by where they stand.
    first = not dim and item.dims.index(dim) == 0 and not batch_name
    return batch if (dim and dim == batch_name) or first else symbol("P")


def _fixed(ctx: Context, item: Declared, signature: Signature, batch: DimLike) -> Item:
    rows = signature.rows
    start: DimLike = symbol("P") if signature.past else 0
    if "mask" in item.name and len(item.dims) == 2 and not item.dtype.is_float:
        ctx.notes.append(f"{item.name} is all ones: prompts are not padded")
        one = True if item.dtype is BOOL else 1
        return ctx.emit(Full, one, (batch, signature.total), item.dtype)
    if item.name.endswith(("position_ids", "cache_position", "positions")) and len(item.dims) in (
        1,
        2,
    ):
        ctx.notes.append(f"{item.name} counts from the start of the sequence")
        counted = ctx.emit(Iota, rows, start=start)
        if item.dtype is not counted.dtype:
            counted = ctx.emit(Cast, counted, item.dtype)
        if len(item.dims) == 1:
            return counted
        return ctx.emit(Broadcast, reshaped(ctx, counted, (1, rows)), (batch, rows))
    if item.name == "token_type_ids":
        ctx.notes.append("token_type_ids are all zero")
        return ctx.emit(Full, 0, (batch, rows), item.dtype)
    if item.name in ("use_cache_branch", "num_logits_to_keep", "logits_to_keep"):
        value = item.name == "use_cache_branch"
        ctx.notes.append(f"{item.name} is {value if value else 0}")
        return item_of(np.full([1] * len(item.dims), value, item.dtype.numpy), item.dtype)
    raise InputError(
        "HETC-I307",
        "the ONNX model has an input whose meaning hetc does not know",
        at=item.name,
        expected="input_ids, attention_mask, position_ids, past_key_values.*",
        found=f"{item.dtype}{list(item.dims)}",
        do="export the model with only the inputs of a decoder",
    )


def pair_past(past: tuple[Declared, ...], outputs: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Which output continues which past input, by the part of the names from the layer's number on,
    else by order.

    Raises InputError (HETC-I309) where their numbers differ.
    """
    if len(past) != len(outputs):
        raise InputError(
            "HETC-I309",
            "the model takes another number of past tensors than it returns",
            expected=f"{len(past)} present outputs, one for each past input",
            found=f"{len(outputs)}",
            do="export the decoder with its present keys and values as outputs",
        )
    by_layer = {_layer(name): name for name in outputs}
    if len(by_layer) == len(outputs) and all(_layer(item.name) in by_layer for item in past):
        return tuple((item.name, by_layer[_layer(item.name)]) for item in past)
    return tuple((item.name, output) for item, output in zip(past, outputs, strict=True))


def _layer(name: str) -> str:
    # `past_key_values.3.key`, `present.3.key` and `past_key_values_3_key` are all `3 key`.
    match = _LAYER.search(name)
    return " ".join(re.findall(r"\d+|key|value", match[0])) if match else name
