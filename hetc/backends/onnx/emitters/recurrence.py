"""Recurrences whose state is a matrix, as ONNX's Scan from token to token."""

from __future__ import annotations

from hetc.backends.onnx.elements import computed
from hetc.backends.onnx.table import Context, emits
from hetc.backends.onnx.writer import Body, Node
from hetc.ir.dims import DimLike
from hetc.ir.op import Value
from hetc.ir.ops.recurrence import LinearAttention

# Where the tokens are in [B, G, R, T, ...]: heads in groups, so that q and k are never repeated.
_TOKENS = 3


@emits(LinearAttention, kernels=("Mul", "Add", "MatMul"))
def linear_attention(c: Context, op: LinearAttention) -> tuple[str, str]:
    """Steps on matrices: states are [B, G, R, N, P], keys columns, queries and values rows."""
    w, dtype, repeats = c.w, computed(op.v.dtype), op.repeats
    batch, groups, _, rows = op.k.shape
    columns = op.v.shape[3]
    before = (batch, groups, repeats, rows, columns)
    heads = op.results[1].shape
    if op.initial is not None:
        first = c.sizes.reshape(w[op.initial], heads, before)
    else:
        first = c.sizes.expand(w.constant(0, dtype), (), before)

    def steps(value: Value, *each: DimLike) -> str:
        """`value` with its heads in groups and the matrix `each` for every token."""
        shared = 1 if value in (op.q, op.k) else repeats
        target = (batch, groups, shared, value.shape[2], *each)
        return c.sizes.reshape(w[value], value.shape, target)

    taken = {
        "decay": steps(op.decay, op.decay.shape[3], 1),
        "key": steps(op.k, rows, 1),
        "value": steps(op.v, 1, columns),
        "query": steps(op.q, 1, rows),
    }
    if op.beta is not None:
        taken["beta"] = steps(op.beta, 1, 1)
    last, every = w.split(
        "Scan",
        first,
        *taken.values(),
        outputs=2,
        body=_step(c, op, list(taken)),
        num_scan_inputs=len(taken),
        scan_input_axes=(_TOKENS,) * len(taken),
        scan_output_axes=(_TOKENS,),
    )
    shown = (batch, groups, repeats, op.v.shape[2], 1, columns)
    return c.sizes.reshape(every, shown, op.v.shape), c.sizes.reshape(last, before, heads)


def _step(c: Context, op: LinearAttention, taken: list[str]) -> Body:
    """What happens at one token; `taken` names what it is given of it, in order."""
    dtype = computed(op.v.dtype)
    given = {name: c.w.fresh() for name in ("state", *taken)}
    nodes: list[Node] = []

    def node(kind: str, *inputs: str, **attributes: object) -> str:
        (result,) = results = (c.w.fresh(),)
        nodes.append(Node(kind, inputs, results, tuple(attributes.items())))
        return result

    state = node("Mul", given["decay"], given["state"])
    update = given["value"]
    if op.beta is not None:
        read = node("MatMul", node("Transpose", given["key"], perm=(0, 1, 2, 4, 3)), state)
        update = node("Mul", given["beta"], node("Sub", update, read))
    state = node("Add", state, node("Mul", given["key"], update))
    row = node("MatMul", given["query"], state)
    inputs = tuple((name, dtype) for name in given.values())
    return Body(tuple(nodes), inputs, ((state, dtype), (row, dtype)))
