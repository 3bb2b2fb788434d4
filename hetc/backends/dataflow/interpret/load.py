"""Fill the memory of the sockets: weights of the model, and the state that prefill leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hetc.backends.dataflow.interpret.machine import Machine
from hetc.backends.dataflow.interpret.memory import Memory, place, require_bytes
from hetc.backends.dataflow.interpret.row_group import ALL, RowGroup
from hetc.backends.dataflow.interpret.states import StoredState
from hetc.backends.dataflow.interpret.wiring import Wired
from hetc.errors import PlanError
from hetc.ir.dims import evaluate
from hetc.ir.interpret import WeightLookup
from hetc.ir.types import Array
from hetc.passes.shard import Shard
from hetc.passes.shard_forms import model_name


def load_weights(machine: Machine, weights: WeightLookup) -> None:
    """Put every weight where the plan has it, in the layout that the plan means.

    Raises PlanError HETC-L308 where the plan's part of a weight is not what the graph takes.
    """
    for wired in machine.wiring.blocks.values():
        for iteration in range(wired.block.repeat):
            for tensor, table in _tensors(machine, wired):
                _load(machine, weights, wired, iteration, tensor, table)


def _tensors(machine: Machine, wired: Wired) -> dict[tuple[str, bool], None]:
    """The weights of a block, and whether as a table."""
    held = (item for item in machine.plan.memory if item.block == wired.block.id)
    return {(item.tensor, item.use == "table"): None for item in held if item.use != "state"}


def _load(
    machine: Machine,
    weights: WeightLookup,
    wired: Wired,
    iteration: int,
    tensor: str,
    table: bool,
) -> None:
    memory, value = machine.memory, wired.value(tensor)
    whole = weights(model_name(wired.outer_name(tensor, iteration)))
    shape = tuple(evaluate(dim, {}) for dim in value.shape)
    parts = _parts(machine, wired, tensor, whole.astype(value.dtype.numpy, copy=False), shape)
    pieces = memory.pieces(wired.block.id, tensor, table=table)
    if pieces[0].use == "matrix":
        _load_tiles(machine, wired, iteration, tensor, parts)
        return
    for item in pieces:
        rows = [part.reshape(-1, *shape[1:])[slice(*item.rows)] for part in parts]
        require_bytes(item, rows[0].nbytes)
        memory.write(item.tier, place(item, iteration), _bytes(rows))


def _load_tiles(
    machine: Machine, wired: Wired, iteration: int, tensor: str, parts: Sequence[Array]
) -> None:
    homes = [
        home
        for home in machine.matrices.values()
        if tensor in home.matrices and home.block == wired.block.id
    ]
    if len(homes) != 1:
        raise PlanError(
            "HETC-L306",
            "a matrix has the tiles of another number of stages than one",
            at=f"{wired.block.id} {tensor}",
            found=len(homes),
            do="plan the graph again",
        )
    (home,) = homes
    matrices = [home.readers[tensor][0].matrix(part) for part in parts]
    experts = range(matrices[0].shape[0]) if home.experts else (0,)
    for expert, share, piece in home.walk(experts):
        if share.tensor != tensor:
            continue
        span = home.span(expert, share, piece, iteration)
        chosen = (matrix[expert] if home.experts else matrix for matrix in matrices)
        tiles = [matrix[slice(*share.rows), slice(*share.columns)].T for matrix in chosen]
        machine.memory.write(span.tier, span.address, _bytes(tiles))


def load_states(machine: Machine, states: Mapping[str, Array], past: int) -> None:
    """Put the state after `past` tokens into memory: arrays of the whole model, by its names.

    Raises PlanError HETC-L309 where a state is missing or has another shape.
    """
    bound = {**machine.bound(), "P": past}
    places: dict[str, tuple[str, str]] = {}
    for (block, tensor), state in machine.states.items():
        wired = machine.wiring.blocks[block]
        shape = tuple(evaluate(dim, bound) for dim in state.value.shape)
        for iteration in range(wired.block.repeat):
            name = wired.outer_name(tensor, iteration)
            if name not in states or places.setdefault(name, (block, tensor)) != (block, tensor):
                raise _wrong_state(name, "one place for each state of the model")
            whole = states[name].astype(state.value.dtype.numpy, copy=False)
            parts = _parts(machine, wired, tensor, whole, shape)
            write_rows(machine.memory, state, iteration, past - state.kept(past), past, parts)


def write_rows(
    memory: Memory,
    state: StoredState,
    iteration: int,
    first: int,
    stop: int,
    parts: Sequence[Array],
    group: RowGroup = ALL,
) -> None:
    """Write positions `first` to `stop` of a state, or all of one that does not grow, for the
    sequences of a group."""
    data, done = _bytes(parts), 0
    for span in state.spans(iteration, first, stop, group):
        memory.write(span.tier, span.address, data[:, done : done + span.bytes])
        done += span.bytes
    if done != data.shape[1]:
        raise _wrong_state(state.piece.tensor, f"{done} bytes", data.shape[1])


def _parts(
    machine: Machine, wired: Wired, tensor: str, whole: Array, shape: tuple[int, ...]
) -> list[Array]:
    """What each socket holds of a tensor; raises PlanError (HETC-L308)."""
    found = [s for s in machine.plan.shards if (s.block, s.tensor) == (wired.block.id, tensor)]
    at = f"{wired.block.id} {tensor}"
    if len(found) != 1:
        raise _wrong_shard(at, "one entry among the shards", len(found))
    of = found[0]
    shard = Shard(tensor, of.axis, of.parts, of.groups)
    try:
        parts = [shard.of(whole, rank, machine.sockets) for rank in range(machine.sockets)]
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise _wrong_shard(at, f"{shape} of {whole.shape}", error) from error
    if parts[0].shape != shape:
        raise _wrong_shard(at, shape, parts[0].shape)
    return parts


def _bytes(parts: Sequence[Array]) -> Array:
    return np.stack([np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in parts])


def _wrong_shard(at: str, expected: object, found: object) -> PlanError:
    return PlanError(
        "HETC-L308",
        "the part of a tensor that the plan gives a socket is not what its graph takes",
        at=at,
        expected=expected,
        found=found,
        do="plan the graph again",
    )


def _wrong_state(at: str, expected: object, found: object = "") -> PlanError:
    return PlanError(
        "HETC-L309",
        "a state does not fit the plan",
        at=at,
        expected=expected,
        found=found,
        do="hand over the state of the model that the plan was made for",
    )
