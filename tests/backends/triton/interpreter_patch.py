"""Makes Triton's interpreter compute with bf16, which it keeps as u16 and takes for integers, and
Triton 3.6's count to numbers that NumPy keeps in arrays. What a kernel reads or writes must lie in
memory that it was given.

The interpreter's tensors become arrays of `ml_dtypes.bfloat16`, whose NumPy functions compute in
f32 and round to nearest even, as a GPU does; only loads and stores see the bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
BITS = np.dtype(np.uint16)


class OutOfBounds(Exception):
    """A kernel reads or writes beside the memory that it was given."""


class Bounds:
    """The memory that the running kernel was given."""

    def __init__(self) -> None:
        self.allow(())

    def allow(self, ranges: Iterable[tuple[int, int]]) -> None:
        """From here on these addresses: the first of each range, and that behind its last."""
        begins, ends = np.array(sorted(ranges), np.uint64).reshape(-1, 2).T
        # Ranges may overlap.
        self._begins, self._ends = begins, np.maximum.accumulate(ends)

    def check(self, ptrs: Any, mask: Any, size: int) -> None:
        """Raise OutOfBounds unless `size` bytes at each of `ptrs` that `mask` has are inside."""
        addresses = ptrs.data[np.broadcast_to(mask.data, ptrs.data.shape)]
        place = np.searchsorted(self._begins, addresses, side="right") - 1
        inside = (place >= 0) & (addresses + np.uint64(size) <= self._ends[place])
        if not inside.all():
            raise OutOfBounds(f"{np.count_nonzero(~inside)} of {inside.size} addresses")


def patch(bounds: Bounds) -> None:
    """Change the interpreter of Triton 3.6 to 3.9, in a process that does nothing else."""
    import triton.language as tl
    from triton.runtime import interpreter

    numpy_type, builder = interpreter._get_np_dtype, interpreter.InterpreterBuilder
    memory, handle = interpreter._interpreter, interpreter.TensorHandle

    def numpy_type_with_bfloat16(element: Any) -> np.dtype[Any]:
        scalar = element.element_ty if isinstance(element, tl.block_type) else element
        found: np.dtype[Any] = BFLOAT16 if scalar == tl.bfloat16 else numpy_type(element)
        return found

    def load(self: Any, ptrs: Any, mask: Any, other: Any, *policy: Any, **named: Any) -> Any:
        element = ptrs.get_element_ty()
        found = numpy_type_with_bfloat16(element)
        stored = BITS if found == BFLOAT16 else found
        bounds.check(ptrs, mask, stored.itemsize)
        fill = np.zeros_like(ptrs.data, stored) if other is None else _bits(other.data)
        return handle(memory.load(ptrs.data, mask.data, fill, stored).view(found), element)

    def store(self: Any, ptrs: Any, value: Any, mask: Any, *policy: Any) -> None:
        bounds.check(ptrs, mask, value.data.itemsize)
        memory.store(ptrs.data, _bits(value.data), mask.data)

    cast, convert = builder.cast_impl, builder.create_fp_to_fp

    def cast_with_bfloat16(self: Any, x: Any, to: Any) -> Any:
        if _is_plain(x.dtype.scalar) and _is_plain(to.scalar):
            return handle(x.data.astype(numpy_type_with_bfloat16(to)), to.scalar)
        return cast(self, x, to)

    def convert_with_bfloat16(self: Any, x: Any, to: Any, rounding: Any) -> Any:
        if _is_plain(x.dtype.scalar) and _is_plain(to.scalar):
            return cast_with_bfloat16(self, x, to)
        return convert(self, x, to, rounding)

    dot = builder.create_dot

    def dot_with_bfloat16(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return dot(self, wide(a), wide(b), *rest)

    def wide(x: Any) -> Any:
        return handle(x.data.astype(np.float32), tl.float32) if x.data.dtype == BFLOAT16 else x

    def constant(self: Any, number: float) -> Any:
        return handle(np.array([number], np.float32).astype(BFLOAT16), tl.bfloat16)

    patch_tensor = interpreter._patch_lang_tensor

    def patch_tensor_with_index(tensor: Any, scope: Any) -> None:
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda x: int(x.handle.data.item()))

    interpreter._patch_lang_tensor = patch_tensor_with_index
    interpreter._get_np_dtype = numpy_type_with_bfloat16
    builder.create_masked_load, builder.create_masked_store = load, store
    builder.cast_impl, builder.create_fp_to_fp = cast_with_bfloat16, convert_with_bfloat16
    builder.create_dot, builder.get_bf16 = dot_with_bfloat16, constant


def _bits(x: Array) -> Array:
    return x.view(BITS) if x.dtype == BFLOAT16 else x


def _is_plain(element: Any) -> bool:
    """Whether NumPy or ml_dtypes convert `element`; Triton's own code does floats of 8 bits."""
    return not element.is_floating() or element.primitive_bitwidth > 8
