"""The op library. Importing this package registers every op in `hetc.ir.op.OPS`."""

from hetc.ir.ops import (
    activation,
    attention,
    binary,
    control,
    elementwise,
    index,
    linear,
    norm,
    quant,
    reduce,
    sequence,
    shape,
    source,
    unary,
    window,
)

__all__ = [
    "activation",
    "attention",
    "binary",
    "control",
    "elementwise",
    "index",
    "linear",
    "norm",
    "quant",
    "reduce",
    "sequence",
    "shape",
    "source",
    "unary",
    "window",
]
