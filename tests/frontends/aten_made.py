"""Calls of the core ATen ops that no operator of PyTorch's `op_db` comes down to, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

from tests.frontends.aten_programs import Sample

aten: Any = torch.ops.aten
MADE: dict[str, Callable[[torch.dtype], Iterable[Sample]]] = {}
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def made(
    *names: str, dtypes: tuple[torch.dtype, ...] = _FLOATS
) -> Callable[[Callable[[Any, torch.dtype], Iterable[Sample]]], None]:
    """Decorator: the function yields samples of these ops for each of some element types."""

    def register(function: Callable[[Any, torch.dtype], Iterable[Sample]]) -> None:
        for name in names:
            packet, overload = name.split(".")
            target = getattr(getattr(aten, packet), overload)
            MADE[name] = partial(_for_types, function, target, dtypes)

    return register


def _for_types(
    function: Callable[[Any, torch.dtype], Iterable[Sample]],
    target: Any,
    dtypes: tuple[torch.dtype, ...],
    dtype: torch.dtype,
) -> Iterable[Sample]:
    return function(target, dtype) if dtype in dtypes else ()


def numbers(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Random numbers of any element type."""
    random = torch.Generator().manual_seed(sum(shape))
    if dtype is torch.bool:
        return torch.rand(shape, generator=random) < 0.5
    if dtype.is_floating_point:
        return torch.randn(shape, generator=random).to(dtype)
    return torch.randint(0 if dtype is torch.uint8 else -9, 9, shape, generator=random).to(dtype)


def _magnitudes(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return numbers(dtype, *shape) if dtype is torch.bool else numbers(dtype, *shape).abs()


@made(
    "bitwise_and.Scalar",
    "bitwise_or.Scalar",
    "bitwise_xor.Scalar",
    dtypes=(*_INTEGERS, torch.bool),
)
def bitwise(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (numbers(dtype, 2, 3), dtype is torch.bool or 5))
    yield Sample(target, (numbers(dtype), 0 if dtype is not torch.bool else False))


@made("div.Scalar_mode", dtypes=(*_FLOATS, *_INTEGERS))
def div_scalar(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    for mode in ("trunc", "floor", None):
        yield Sample(target, (numbers(dtype, 4, 3), 3), {"rounding_mode": mode})
    if dtype is not torch.uint8:
        yield Sample(target, (numbers(dtype, 7), -2.5), {"rounding_mode": "floor"})
        yield Sample(target, (numbers(dtype, 7), -2.5), {"rounding_mode": "trunc"})


@made("add.Scalar", "sub.Scalar", dtypes=(*_FLOATS, *_INTEGERS))
def plus_scalar(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (numbers(dtype, 2, 3), 3))
    yield Sample(target, (numbers(dtype, 2, 3), 1.5, 2))
    yield Sample(target, (numbers(dtype), 3, 2))


@made("mul.Scalar", "div.Scalar", "fmod.Scalar", "remainder.Scalar", dtypes=(*_FLOATS, *_INTEGERS))
def times_scalar(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (numbers(dtype, 2, 3), 3))
    yield Sample(target, (numbers(dtype, 5), 2.5))
    if dtype is not torch.uint8:
        yield Sample(target, (numbers(dtype, 9), -4))


@made("var.dim")
def var_dim(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (numbers(dtype, 2, 3, 4), [1]))
    yield Sample(target, (numbers(dtype, 2, 3, 4), [0, -1], False, True))
    yield Sample(target, (numbers(dtype, 2, 3), None))


@made("upsample_bilinear2d.vec")
def bilinear(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    for corners in (False, True):
        yield Sample(target, (numbers(dtype, 2, 3, 4, 5), [7, 3], corners, None))
        yield Sample(target, (numbers(dtype, 1, 2, 4, 5), None, corners, [2.0, 1.3]))
        yield Sample(target, (numbers(dtype, 1, 1, 3, 1), [1, 4], corners, None))


@made("upsample_nearest2d.vec", dtypes=(*_FLOATS, torch.uint8))
def nearest(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (numbers(dtype, 2, 3, 4, 5), [7, 3], None))
    yield Sample(target, (numbers(dtype, 1, 2, 4, 5), None, [2.0, 1.3]))
    yield Sample(target, (numbers(dtype, 1, 2, 4, 5), None, [0.4, 3.0]))


@made("_native_batch_norm_legit_no_training.default", dtypes=_FLOATS)
def batch_norm(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    for shape in ((2, 3, 4), (5, 3), (2, 3, 4, 5)):
        weight, bias, mean = (numbers(dtype, 3) + offset for offset in range(3))
        var = numbers(dtype, 3).abs()
        yield Sample(target, (numbers(dtype, *shape), weight, bias, mean, var, 0.1, 1e-5))
        yield Sample(target, (numbers(dtype, *shape), None, None, mean, var, 0.1, 1e-3))


@made("index.Tensor", dtypes=(*_FLOATS, *_INTEGERS, torch.bool))
def masks(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    mask = torch.tensor([[True, False, True], [False, False, True]])
    yield Sample(target, (numbers(dtype, 2, 3), [mask]))
    yield Sample(target, (numbers(dtype, 4, 3), [None, mask[0]]))
    yield Sample(target, (numbers(dtype, 2, 3), [torch.zeros(2, 3, dtype=torch.bool)]))


@made("copy.default", dtypes=(*_FLOATS, *_INTEGERS, torch.bool))
def copy(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (numbers(dtype, 2, 3), numbers(torch.float32, 3)))
    yield Sample(target, (numbers(dtype, 2, 3), numbers(dtype, 2, 1)))


@made("scalar_tensor.default", dtypes=(*_FLOATS, *_INTEGERS, torch.bool))
def scalar_tensor(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (3,), {"dtype": dtype})
    yield Sample(target, (0.5,), {"dtype": dtype})
    yield Sample(target, (True,), {"dtype": dtype})


@made("fill.Scalar", dtypes=(*_FLOATS, *_INTEGERS, torch.bool))
def fill(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (numbers(dtype, 2, 3), 1))
    yield Sample(target, (numbers(dtype), 0.5))


@made("atan2.out")
def atan2_out(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    out = torch.zeros(2, 3, dtype=dtype)
    yield Sample(target, (numbers(dtype, 2, 3), numbers(dtype, 3)), {"out": out})


@made("native_dropout.default")
def dropout(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (numbers(dtype, 2, 3), 0.5, False))
    yield Sample(target, (numbers(dtype, 4), 0.0, True))


@made("alias.default", dtypes=(*_FLOATS, *_INTEGERS, torch.bool))
def alias(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (numbers(dtype, 2, 3),))
    yield Sample(target, (numbers(dtype),))


@made("_to_copy.default", dtypes=(*_FLOATS, *_INTEGERS, torch.bool))
def to_copy(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    for wanted in (torch.float32, torch.bfloat16, torch.int64, torch.bool):
        yield Sample(target, (_magnitudes(dtype, 2, 3),), {"dtype": wanted})


@made(
    "eq.Scalar",
    "ne.Scalar",
    "lt.Scalar",
    "le.Scalar",
    "gt.Scalar",
    "ge.Scalar",
    dtypes=(*_FLOATS, *_INTEGERS, torch.bool),
)
def compared(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    for number in (1, 0.5, True):
        yield Sample(target, (numbers(dtype, 2, 3), number))


@made("pow.Tensor_Scalar", dtypes=(*_FLOATS, *_INTEGERS))
def power(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    for number in (0, 1, 2, 3.0):
        yield Sample(target, (numbers(dtype, 2, 3), number))
    yield Sample(target, (numbers(dtype, 5).abs() + 1, -0.5))


@made("pow.Scalar", dtypes=(*_FLOATS, *_INTEGERS))
def power_of_number(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    for number in (1, 2, 2.5):
        yield Sample(target, (number, numbers(dtype, 2, 3).abs()))


@made("clamp.default", dtypes=(*_FLOATS, *_INTEGERS))
def clamp(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    for low, high in ((1, 3), (None, 2), (2, None), (3, 1)):
        yield Sample(target, (numbers(dtype, 2, 5), low, high))
    yield Sample(target, (numbers(dtype, 2, 5), 0.5, None))


@made("randperm.default")
def randperm(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    if dtype is torch.float32:
        yield Sample(target, (7,), {"dtype": torch.int64})
        yield Sample(target, (0,), {"dtype": torch.int32})


@made("avg_pool1d.default")
def avg_pool(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    yield Sample(target, (numbers(dtype, 2, 3, 7), [3]))
    yield Sample(target, (numbers(dtype, 3, 7), [3], [2], [1], True, False))


@made("adaptive_avg_pool1d.default")
def adaptive_avg_pool(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    for size in (1, 3, 4):
        yield Sample(target, (numbers(dtype, 2, 3, 8), [size]))


@made("resize_.default", dtypes=(*_FLOATS, *_INTEGERS, torch.bool))
def resize(target: Any, dtype: torch.dtype) -> Iterable[Sample]:
    for shape in ([3, 2], [4], []):
        yield Sample(target, (numbers(dtype, 2, 3), shape))
