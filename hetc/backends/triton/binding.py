"""Launches: operands in the order in which a kernel takes them."""

from __future__ import annotations

from collections.abc import Mapping

from hetc.bundle.launches import (
    Argument,
    BufferRef,
    Extent,
    InputRef,
    Launch,
    Parameter,
    Size,
    SizeOf,
    StateRef,
)
from hetc.errors import InternalError

# What a launch finds among the inputs of a call unless it is given something else.
_INPUTS = {
    ref.name: ref
    for ref in (InputRef(name="positions"), InputRef(name="sequences"), InputRef(name="starts"))
}


def bind(
    kernel_id: str,
    parameters: tuple[Parameter, ...],
    operands: Mapping[str, Argument],
    *,
    sizes: Mapping[str, Size],
    grid: tuple[tuple[Extent, ...], ...],
    outputs: tuple[str, ...],
    ops: tuple[str, ...],
    flops: Size,
) -> Launch:
    """The launch of the kernel `kernel_id` with `operands` for its pointers and `sizes` for its
    numbers, by the names of its parameters.

    `positions`, `sequences` and `starts` are those of the call where `operands` lack them. Those in
    `outputs` are written, all others read. Raises InternalError HETC-Z041 for operands that are not
    the parameters.
    """
    given: dict[str, Argument] = {}
    for parameter in parameters:
        name = parameter.name
        if name in operands:
            given[name] = operands[name]
        elif name in sizes:
            given[name] = SizeOf(size=sizes[name])
        elif name in _INPUTS:
            given[name] = _INPUTS[name]
    expected = [parameter.name for parameter in parameters]
    if list(given) != expected or not operands.keys() <= given.keys():
        raise InternalError(
            "HETC-Z041",
            "a launch was given other operands than its kernel takes",
            at=kernel_id,
            expected=", ".join(expected),
            found=", ".join(operands),
        )
    first, second, third = (*grid, (), ())[:3]
    return Launch(
        kernel=kernel_id,
        arguments=tuple(given.values()),
        grid=(first, second, third),
        ops=ops,
        reads=_names(given, expected, without=outputs),
        writes=_names(given, outputs),
        flops=flops,
    )


def _names(
    given: Mapping[str, Argument], names: tuple[str, ...] | list[str], without: tuple[str, ...] = ()
) -> tuple[str, ...]:
    operands = [given[name] for name in names if name in given and name not in without]
    named = [operand.name for operand in operands if isinstance(operand, BufferRef | StateRef)]
    return tuple(dict.fromkeys(named))
