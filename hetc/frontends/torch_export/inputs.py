"""The inputs of an exported program: which one is the tokens, and what the others are bound to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.dtypes import dtype_of_torch
from hetc.frontends.torch_export.symbols import NotAPolynomial
from hetc.frontends.torch_export.table_complex import view_as_complex
from hetc.ir.dims import Dim, DimLike
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.shape import Broadcast
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import I64, TensorType

if TYPE_CHECKING:
    from torch.fx import Node

_INTEGERS = ("torch.int64", "torch.int32")
TOKEN_NAMES = ("input_ids", "tokens", "token_ids", "ids", "idx", "input", "x")
HOW_TO_EXPORT = (
    "export with dynamic_shapes={'input_ids': {0: Dim('batch', min=1), 1: Dim('seq', min=1)}}"
    " and an example of at least 2 rows"
)


@dataclass(frozen=True)
class Tokens:
    """The bound token input: its value in the graph and its two dims."""

    value: Value
    batch: DimLike
    length: Dim


def bind_inputs(ctx: Context, inputs: list[Node], source: str) -> Tokens:
    """Make the token input of the graph and bind every other input to what a plain forward pass
    would be given.

    Raises InputError: HETC-I205 no token input, HETC-I206 a static sequence, HETC-I207 an input
    that hetc cannot bind.
    """
    chosen = choose_tokens(inputs, source)
    fake = chosen.meta["val"]
    try:
        length = ctx.symbols.bind(fake.shape[1], "S")
        batch = ctx.symbols.bind(fake.shape[0], "B")
    except NotAPolynomial as error:
        raise InputError(
            "HETC-I206",
            "the axes of the tokens cannot be named",
            at=_place(source, chosen),
            found=error,
            do=HOW_TO_EXPORT,
        ) from None
    if not isinstance(length, Dim):
        raise InputError(
            "HETC-I206",
            "the program is exported for one sequence length only",
            at=_place(source, chosen),
            expected="a dynamic second axis",
            found=f"[{batch}, {length}]",
            do=HOW_TO_EXPORT,
        )
    if not isinstance(batch, Dim):
        ctx.notes.append(f"the program is exported for a batch of {batch} only")
    axis = fake.shape[1].node.expr
    if not axis.is_Symbol:
        ctx.notes.append(f"the program takes only lengths S = {axis}")
    tokens = ctx.builder.input("tokens", TensorType(I64, (batch, length)))
    dtype = dtype_of_torch(fake.dtype)
    ctx.values[chosen] = tokens if dtype is I64 else ctx.op(Cast, tokens, dtype=dtype)
    bound = Tokens(tokens, batch, length)
    for node in inputs:
        if node is not chosen and hasattr(node.meta.get("val"), "dtype"):
            ctx.values[node] = _bind(ctx, node, bound, source)
    return bound


def bind_all(ctx: Context, inputs: list[Node], source: str) -> None:
    """Make every tensor among `inputs` an input of the graph, and name the sizes that vary N0, N1,
    ... in the order in which axes show them.

    Raises InputError (HETC-I206) for an axis that shows two unknown sizes at once.
    """
    sizes = 0
    for node in inputs:
        fake: Any = node.meta.get("val")
        if not hasattr(fake, "dtype"):
            continue
        shape: list[DimLike] = []
        for size in fake.shape:
            try:
                dim = ctx.symbols.dim(size)
            except NotAPolynomial:
                dim = _named(ctx, size, f"N{sizes}", _place(source, node))
                sizes += 1
            shape.append(dim)
        parts = (2,) if fake.dtype.is_complex else ()
        type = TensorType(dtype_of_torch(fake.dtype), (*shape, *parts))
        given = ctx.builder.input(node.name, type)
        ctx.values[node] = view_as_complex(ctx, given) if parts else given


def _named(ctx: Context, size: Any, name: str, at: str) -> DimLike:
    try:
        return ctx.symbols.bind(size, name)
    except NotAPolynomial as error:
        raise InputError(
            "HETC-I206", "an axis of the input cannot be named", at=at, found=error
        ) from None


def choose_tokens(inputs: list[Node], source: str) -> Node:
    """The one among `inputs` that holds tokens; raises InputError (HETC-I205)."""
    candidates = [node for node in inputs if _is_integer_matrix(node.meta.get("val"))]
    named = [node for name in TOKEN_NAMES for node in candidates if node.name == name]
    others = [node for node in candidates if node.name not in BINDINGS]
    if named or len(others) == 1:
        return (named or others)[0]
    found = ", ".join(f"{node.name}: {_type_of(node)}" for node in inputs) or "no inputs"
    raise InputError(
        "HETC-I205",
        "the program has no token input",
        at=source,
        expected="one integer input [batch, sequence], such as input_ids",
        found=found,
        do="export a forward(input_ids) -> logits",
    )


def _is_integer_matrix(fake: Any) -> bool:
    return hasattr(fake, "ndim") and fake.ndim == 2 and str(fake.dtype) in _INTEGERS


def _type_of(node: Node) -> str:
    fake: Any = node.meta.get("val")
    return f"{fake.dtype}{list(fake.shape)}" if hasattr(fake, "dtype") else type(fake).__name__


def _place(source: str, node: Node) -> str:
    return f"{source}: {node.name}" if source else node.name


def _ones(ctx: Context, tokens: Tokens) -> Value:
    return ctx.op(Full, 1, (tokens.batch, tokens.length), I64)


def _zeros(ctx: Context, tokens: Tokens) -> Value:
    return ctx.op(Full, 0, (tokens.batch, tokens.length), I64)


def _positions(ctx: Context, tokens: Tokens) -> Value:
    return ctx.op(Iota, tokens.length)


# Name of an input -> what it is bound to, in words and in ops.
BINDINGS: dict[str, tuple[str, Callable[[Context, Tokens], Value]]] = {
    "attention_mask": ("ones", _ones),
    "position_ids": ("0, 1, ... S-1", _positions),
    "cache_position": ("0, 1, ... S-1", _positions),
    "token_type_ids": ("zeros", _zeros),
}


def _bind(ctx: Context, node: Node, tokens: Tokens, source: str) -> Value:
    words, make = BINDINGS.get(node.name, ("", None))
    shapes = ((tokens.batch, tokens.length), (1, tokens.length), (tokens.length,))
    try:
        shape = ctx.shape_of(node.meta["val"])
    except NotAPolynomial:
        shape = ()
    if make is None or shape not in shapes:
        raise InputError(
            "HETC-I207",
            f"the program has an input that hetc cannot bind: {node.name}",
            at=source,
            expected=f"tokens alone, or with {', '.join(BINDINGS)} of shape [B,S]",
            found=_type_of(node),
            do="export a forward that takes the tokens only",
        )
    ctx.notes.append(f"the input {node.name} is bound to {words}")
    value = make(ctx, tokens)
    if value.shape != shape:
        value = ctx.op(Broadcast, value, shape) if value.rank < len(shape) else value
    return ctx.tensor(value, dtype_of_torch(node.meta["val"].dtype))
