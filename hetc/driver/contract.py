"""The hand-off contract of a program: every state, as both halves agree on it."""

from __future__ import annotations

from hetc.bundle import Contract
from hetc.bundle import StateSpec as ContractState
from hetc.ir.dims import Dim, DimLike
from hetc.ir.graph import Program, StateSpec


def contract_of(program: Program) -> Contract:
    """The contract for sequences of up to `program.max_context` tokens; states in the program's
    order."""
    return Contract(1, program.max_context, tuple(_state(spec) for spec in program.states))


def _state(spec: StateSpec) -> ContractState:
    shape = tuple(_dim(dim) for dim in spec.type.shape)
    layout = ",".join(map(str, shape))
    heads = shape[1] if len(shape) == 4 and isinstance(shape[1], int) else None
    first = "0" if spec.keep is None else f"P-{shape[spec.axis]}" if spec.axis is not None else "0"
    return ContractState(
        name=spec.name,
        layer=spec.layer,
        kind=spec.kind,
        shape=shape,
        dtype=spec.type.dtype.name,
        append_axis=spec.axis,
        keep=spec.keep,
        producer_layout=layout,
        consumer_layout=layout,
        heads=heads,
        position_range=(first, "P"),
    )


def _dim(dim: DimLike) -> int | str:
    return str(dim) if isinstance(dim, Dim) else dim
