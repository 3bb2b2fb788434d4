"""Complex arithmetic as real arithmetic on pairs: what rotary embeddings written with complex
numbers need, and Fourier transforms."""

from __future__ import annotations

from typing import Any

from hetc.frontends.torch_export import table_elementwise, table_index, table_shape
from hetc.frontends.torch_export.context import Context, Pairs
from hetc.frontends.torch_export.registry import COMPLEX, TABLE, Handler, complex_aten
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise import Add, Cos, Mul, Neg, Sin, Sub
from hetc.ir.ops.shape import Concat


@complex_aten("view_as_complex.default")
def view_as_complex(ctx: Context, x: Value) -> Pairs:
    last = x.rank - 1
    real, imag = (ctx.reshape(ctx.part(x, last, part, 1), x.shape[:-1]) for part in (0, 1))
    return Pairs(real, imag)


@complex_aten("view_as_real.default")
def view_as_real(ctx: Context, z: Pairs) -> Value:
    parts = tuple(ctx.reshape(part, (*part.shape, 1)) for part in (z.real, z.imag))
    return ctx.op(Concat, parts, z.real.rank)


@complex_aten("polar.default")
def polar(ctx: Context, radius: Value, angle: Value) -> Pairs:
    return Pairs(ctx.op(Mul, radius, ctx.op(Cos, angle)), ctx.op(Mul, radius, ctx.op(Sin, angle)))


@complex_aten("complex.default")
def complex_(_ctx: Context, real: Value, imag: Value) -> Pairs:
    return Pairs(real, imag)


@complex_aten("real.default")
def real(_ctx: Context, z: Pairs) -> Value:
    return z.real


@complex_aten("imag.default")
def imag(_ctx: Context, z: Pairs) -> Value:
    return z.imag


@complex_aten("conj.default")
def conj(ctx: Context, z: Pairs) -> Pairs:
    return Pairs(z.real, ctx.op(Neg, z.imag))


@complex_aten("mul.Tensor")
def mul(ctx: Context, x: Any, y: Any) -> Pairs:
    if isinstance(x, Pairs) and isinstance(y, Pairs):
        both = ctx.op(Sub, ctx.op(Mul, x.real, y.real), ctx.op(Mul, x.imag, y.imag))
        cross = ctx.op(Add, ctx.op(Mul, x.real, y.imag), ctx.op(Mul, x.imag, y.real))
        return Pairs(both, cross)
    pair, factor = (x, y) if isinstance(x, Pairs) else (y, x)
    factor = ctx.cast(factor, ctx.dtype)
    return Pairs(ctx.op(Mul, pair.real, factor), ctx.op(Mul, pair.imag, factor))


@complex_aten("add.Tensor")
def add(ctx: Context, x: Any, y: Any) -> object:
    return _joined(ctx, Add, x, y)


@complex_aten("sub.Tensor")
def sub(ctx: Context, x: Any, y: Any) -> object:
    return _joined(ctx, Sub, x, y)


def _joined(ctx: Context, kind: type[Op], x: Any, y: Any) -> object:
    if not (isinstance(x, Pairs) and isinstance(y, Pairs)):
        return NotImplemented
    return Pairs(ctx.op(kind, x.real, y.real), ctx.op(kind, x.imag, y.imag))


def _by_part(handler: Handler) -> Handler:
    """The same op on the real and on the imaginary parts."""

    def apply(ctx: Context, *args: Any, **kwargs: Any) -> object:
        real: Any = handler(ctx, *_pick(args, "real"), **kwargs)
        imag: Any = handler(ctx, *_pick(args, "imag"), **kwargs)
        if isinstance(real, tuple):
            return tuple(map(Pairs, real, imag))
        return Pairs(real, imag) if isinstance(real, Value) else NotImplemented

    return apply


def _pick(item: Any, name: str) -> Any:
    if isinstance(item, Pairs):
        return getattr(item, name)
    return tuple(_pick(part, name) for part in item) if isinstance(item, tuple) else item


# Imported for what they put into TABLE.
_TABLES = (table_elementwise, table_index, table_shape)

for _name in (
    *(
        "alias.default",
        "clone.default",
        "contiguous.default",
        "detach.default",
        "_to_copy.default",
        "to.dtype",
    ),
    *(
        "to.dtype_layout",
        "to.device",
        "to.other",
        "view.default",
        "_unsafe_view.default",
        "reshape.default",
    ),
    *(
        "flatten.using_ints",
        "unsqueeze.default",
        "squeeze.dim",
        "squeeze.dims",
        "expand.default",
        "permute.default",
    ),
    *(
        "transpose.int",
        "slice.Tensor",
        "select.int",
        "split.Tensor",
        "split_with_sizes.default",
        "chunk.default",
    ),
    *(
        "unbind.int",
        "cat.default",
        "stack.default",
        "index.Tensor",
        "index_select.default",
        "embedding.default",
    ),
    *("repeat.default", "repeat_interleave.self_int", "neg.default"),
):
    COMPLEX[_name] = _by_part(TABLE[_name])
