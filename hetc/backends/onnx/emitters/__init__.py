"""The emitters, one file an op family. Importing this package fills `table.RULES`."""

from hetc.backends.onnx.emitters import (
    attention,
    control,
    elementwise,
    functions,
    index,
    linear,
    norm,
    quant,
    reduce,
    rope,
    sequence,
    shape,
    source,
    window,
)

__all__ = [
    "attention",
    "control",
    "elementwise",
    "functions",
    "index",
    "linear",
    "norm",
    "quant",
    "reduce",
    "rope",
    "sequence",
    "shape",
    "source",
    "window",
]
