"""Ops that the user declares to work token by token: an assumption that nothing proves.

hetc knows neither what an opaque op computes nor how it treats tokens. A policy may say it:
`token_wise = ["mylib.rotate.default"]`. The op is then run in the halves on the tokens at hand, and
the self-check compares that with one run over all of them (`hetc.passes.check_declared`).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from hetc.errors import InputError
from hetc.ir.dims import DimLike, symbols_of
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Opaque
from hetc.passes.length_use import holds_length
from hetc.passes.tokens import LENGTH, Axes, Mixes, TokenAxis


def declare_token_wise(graph: Graph, targets: Sequence[str]) -> Graph:
    """`graph` with the opaque ops named in `targets` declared token-wise.

    What is known to be pointwise needs no assumption and stays as it is. Raises InputError
    (HETC-I010) for a name that no opaque op has.
    """
    unknown = {op.target for op in graph.ops if isinstance(op, Opaque)}
    for target in targets:
        if target not in unknown:
            raise _no_such_op(target, unknown)

    def declare(op: Op) -> Op | None:
        if isinstance(op, Opaque) and op.target in targets and not op.pointwise:
            return op.replace(token_wise=True)
        return None

    return rebuild(graph, declare) if targets else graph


def _no_such_op(target: str, unknown: set[str]) -> InputError:
    near = get_close_matches(target, unknown, n=3, cutoff=0.3) or sorted(unknown)
    return InputError(
        "HETC-I010",
        "the policy declares an op that is none of the model's unknown ones",
        at=f"token_wise: {target}",
        expected=" or ".join(near) if near else "no names: hetc knows every op of this model",
        do="take the name out, or write it as hetc inspect shows it under fallbacks",
    )


def declared_ops(graph: Graph) -> list[Opaque]:
    """The ops of `graph` that are token-wise by declaration."""
    return [op for op in graph.ops if isinstance(op, Opaque) and op.token_wise]


def assumptions(graph: Graph) -> tuple[str, ...]:
    """What was assumed of the ops of `graph`, one sentence for every op by name."""
    names = dict.fromkeys(op.target for op in declared_ops(graph))
    return tuple(f"{name} works token by token" for name in names)


def declared_axes(op: Opaque, axes: Axes) -> tuple[TokenAxis | None, ...]:
    """The token axes of the results of an opaque `op` on tokens; raises Mixes where it is not
    declared token-wise, or where its types say that it cannot be."""
    if not op.token_wise:
        raise Mixes(
            f"hetc cannot tell how {op.target} treats tokens",
            "export the model without it; or, if each token's result hangs on that token alone, "
            f'declare it in the policy file (--policy FILE): token_wise = ["{op.target}"]',
        )
    # How many rows stand before the tokens on their axis: 1, or the batch that is merged with it.
    before: dict[DimLike, None] = {}
    for value in op.operands:
        axis = axes[value]
        if axis is not None and axis.inner == 1:
            before[axis.outer] = None
        elif axis is not None or holds_length(value.shape):
            raise Mixes(f"{op.target} is declared token-wise, but {value.type} has no tokens apart")
    return tuple(_result_axis(op, value, list(before)) for value in op.results)


def _result_axis(op: Opaque, value: Value, before: list[DimLike]) -> TokenAxis:
    axis = token_axis_of(value)
    for outer in before:
        if axis is not None and value.shape[axis] == outer * LENGTH:
            return TokenAxis(axis, outer)
    raise Mixes(
        f"{op.target} is declared token-wise, but the sizes of its result {value.type} "
        "do not follow the tokens along one axis"
    )


def token_axis_of(value: Value) -> int | None:
    """The only axis whose size holds S; None where there is none, or more than one."""
    found = [axis for axis, dim in enumerate(value.shape) if "S" in symbols_of(dim)]
    return found[0] if len(found) == 1 else None
