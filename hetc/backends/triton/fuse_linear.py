"""Products with what stands before and behind them: which linears are one launch, and what its
epilogue does.

An RMS norm that only one product reads is computed inside of it where the rows are sequences: those
are few, and a launch costs more than their statistics. Of tokens, each block of the product would
read its rows twice, and hold them in registers instead of copying them to shared memory; there the
norm is a row program of its own, with the residual sum that it follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hetc.backends.triton import linear
from hetc.backends.triton.elementwise import activation_of
from hetc.backends.triton.layouts import Refusal
from hetc.backends.triton.linear import TURN, LinearSpec, NormSpec
from hetc.backends.triton.matrices import Matrix, matrix_of, placed, tensors
from hetc.backends.triton.memory import ROWS, element_bytes
from hetc.backends.triton.programs import Programs, op_name
from hetc.backends.triton.values import NOWHERE, Stored, element_of
from hetc.bundle.launches import MATRIX_ALIGNMENT, Argument, WeightRef
from hetc.ir.op import Op, Value
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.binary import Add, Div, Mul
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.norm import RMSNorm
from hetc.ir.ops.shape import Reshape, Split
from hetc.ir.ops.source import Weight
from hetc.ir.ops.unary import Cast, Tanh

_GATES = frozenset({"silu", "gelu", "gelu_tanh", "sigmoid"})


@dataclass
class Product:
    """A launch while it is put together: what it multiplies, and what becomes of the result.

    `matrices` are one below the other, or both halves of a gate.
    """

    x: Value
    spec: LinearSpec
    matrices: list[Matrix]
    operands: dict[str, Argument]
    ops: list[Op]
    result: Value
    residual: Value | None = field(default=None)


def lower_linear(programs: Programs, op: Linear, busy: set[Value]) -> None:
    """Launch `op`, and with it whatever is one product with it; raises Refusal.

    `busy` are results on whose way this one lies, which cannot be read by it.
    """
    gated = _gated(programs, op)
    if gated is not None:
        _launch(programs, gated)
        return
    siblings = [op, *_siblings(programs, op)]
    if len(siblings) > 1:
        _launch_merged(programs, siblings)
        return
    product = _product(programs, [op])
    _epilogue(programs, product, busy)
    _launch(programs, product)


def _product(programs: Programs, ops: list[Linear]) -> Product:
    matrices = [matrix_of(op.weight) for op in ops]
    rows = sum(op.weight.shape[0] for op in ops if isinstance(op.weight.shape[0], int))
    spec = LinearSpec(
        element=element_of(ops[0].x),
        n=rows,
        k=programs.values.layouts[ops[0].x].sizes[-1],
        bias=ops[0].bias is not None,
        weight=matrices[0].form,
    )
    operands: dict[str, Argument] = {}
    if spec.bias:
        operands["bias"] = biases(programs, ops, spec.element)
    return Product(ops[0].x, spec, matrices, operands, list(ops), ops[0].result)


def biases(programs: Programs, ops: list[Linear], element: str) -> WeightRef:
    found = [op.bias.op for op in ops if op.bias is not None]
    weights = [bias for bias in found if isinstance(bias, Weight)]
    if len(weights) != len(ops) or any(w.type.dtype.name != element for w in weights):
        raise Refusal("HETC-E058", "a bias is no weight of the product's type", ops[0].loc)
    return tensors(programs.memory, weights, element)


def _single(programs: Programs, value: Value) -> Op | None:
    """The only op that reads `value`, through reshapes; None where there are more, or an output."""
    users = programs.values.users.get(value, [])
    if value in programs.values.graph.outputs or len(users) != 1:
        return None
    (user,) = users
    if user.results[0] not in programs.values.layouts:
        return None
    if isinstance(user, Reshape):
        return _single(programs, user.result)
    return user


def _reads(programs: Programs, op: Op, value: Value) -> Value:
    """The operand of `op` that is `value` or a reshape of it."""
    for operand in op.operands:
        at = operand
        while isinstance(at.op, Reshape):
            if at is value:
                break
            at = at.op.x
        if at is value:
            return operand
    raise AssertionError(f"{op} does not read {value}")


def _without_reshapes(value: Value) -> Value:
    while isinstance(value.op, Reshape):
        value = value.op.x
    return value


def _gated(programs: Programs, op: Linear) -> Product | None:
    """`op` and its sibling as one gated product, where a gate is all that reads them."""
    halves = [_single(programs, op.result)]
    if isinstance(halves[0], Split):
        return _gated_halves(programs, op, halves[0])
    user = halves[0]
    if not isinstance(user, Gated) or user.activation not in _GATES:
        return None
    gate, up = (_without_reshapes(x).op for x in (user.gate, user.up))
    if not isinstance(gate, Linear) or not isinstance(up, Linear) or gate is up:
        return None
    others = (gate.x is up.x, _single(programs, gate.result), _single(programs, up.result))
    if others != (True, user, user) or (gate.bias is None) != (up.bias is None):
        return None
    matrices = [matrix_of(half.weight) for half in (gate, up)]
    if matrices[0].alike != matrices[1].alike or gate.weight.shape != up.weight.shape:
        return None
    product = _product(programs, [gate])
    product.matrices = matrices
    if product.spec.bias:
        element = product.spec.element
        product.operands = {
            "gate_bias": biases(programs, [gate], element),
            "up_bias": biases(programs, [up], element),
        }
    return _with_gate(product, [gate, up, user])


def _gated_halves(programs: Programs, op: Linear, split: Split) -> Product | None:
    """One matrix whose halves are gate and up."""
    if len(split.results) != 2 or split.sizes[0] != split.sizes[1] or op.bias is not None:
        return None
    users = {_single(programs, half) for half in split.results}
    (user, *others) = users
    matrix = matrix_of(op.weight)
    if others or not isinstance(user, Gated) or user.activation not in _GATES or matrix.form:
        return None
    halves = [_without_reshapes(x) for x in (user.gate, user.up)]
    if halves != list(split.results):
        return None
    product = _product(programs, [op])
    product.spec = replace(product.spec, n=product.spec.n // 2)
    if _behind_gate(product.spec) % MATRIX_ALIGNMENT:
        return None
    return _with_gate(product, [op, user])


def _with_gate(product: Product, ops: list[Op]) -> Product:
    gate = ops[-1]
    assert isinstance(gate, Gated)
    product.spec = replace(product.spec, gated=True, activation=gate.activation)  # type: ignore[arg-type]
    product.ops, product.result = ops, gate.result
    return product


def _behind_gate(spec: LinearSpec) -> int:
    """Where the other half of a gate begins in a matrix of both, in bytes."""
    return spec.n * spec.k * element_bytes(spec.element)


def _weights(programs: Programs, product: Product, spec: LinearSpec) -> dict[str, WeightRef]:
    """The matrices of `product` as `spec` takes them."""
    memory, matrices = programs.memory, product.matrices
    if not spec.gated:
        return placed(memory, "weight", matrices)
    if spec.takes_turns:
        return placed(memory, "weight", matrices, turn=TURN)
    if len(matrices) == 1:
        (whole,) = placed(memory, "weight", matrices).values()
        behind = WeightRef(name=whole.name, offset=_behind_gate(spec))
        return {"gate_weight": whole, "up_weight": behind}
    gate, up = ([matrix] for matrix in matrices)
    return placed(memory, "gate_weight", gate) | placed(memory, "up_weight", up)


def _siblings(programs: Programs, op: Linear) -> list[Linear]:
    """Linears of the same rows that can be one product with `op`: no epilogue is theirs alone."""
    if not _is_plain(programs, op):
        return []
    matrix = matrix_of(op.weight)
    return [
        other
        for other in programs.values.users.get(op.x, ())
        if other is not op
        and isinstance(other, Linear)
        and other.x is op.x
        and other.result not in programs.values.stored
        and (other.bias is None) == (op.bias is None)
        and _is_plain(programs, other)
        and _alike(matrix, other)
    ]


def _alike(matrix: Matrix, other: Linear) -> bool:
    try:
        return matrix_of(other.weight).alike == matrix.alike
    except Refusal:
        # It is refused when its own turn comes.
        return False


def _is_plain(programs: Programs, op: Linear) -> bool:
    """Whether views are all that reads the result: heads of queries, keys and values."""
    user = _single(programs, op.result)
    return user is None or not (isinstance(user, Add | Gated) or activation_of(user) is not None)


def _launch_merged(programs: Programs, ops: list[Linear]) -> None:
    product = _product(programs, ops)
    values = programs.values
    domain = values.domain(product.x)
    element = product.spec.element
    out = programs.memory.buffer(element, ROWS[domain], product.spec.n)
    _bind(programs, product, out)
    first = 0
    for op in ops:
        values.stored[op.result] = Stored(out, element, domain, product.spec.n, first)
        first += values.columns(op.result)


def _epilogue(programs: Programs, product: Product, busy: set[Value]) -> None:
    """Take into `product` whatever follows it and nothing else reads."""
    while (user := _single(programs, product.result)) is not None:
        spec = product.spec
        done = spec.residual or spec.softcap is not None
        kind = activation_of(user)
        if kind in ("silu", "relu", "gelu", "gelu_tanh") and not (spec.activation or done):
            product.spec = replace(spec, activation=kind)
        elif (
            isinstance(user, Mul)
            and isinstance(user.y, int | float)
            and not (spec.activation or done or spec.scale != 1.0)
        ):
            product.spec = replace(spec, scale=float(user.y))
        elif isinstance(user, Add) and not done:
            other = _other(programs, user, product.result)
            if other is None or _waits_for(programs, other, busy):
                return
            product.residual = other
            product.spec = replace(spec, residual=True)
        elif (capped := _softcap(programs, user)) is not None and not done:
            ops, cap = capped
            product.spec = replace(spec, softcap=cap)
            product.ops += ops[:-1]
            user = ops[-1]
        elif isinstance(user, Cast) and user.dtype.name == "f32" and not done:
            # The sum is f32 anyway.
            product.spec = replace(spec, out_element="f32")
        else:
            return
        product.ops.append(user)
        product.result = user.result


def _other(programs: Programs, op: Add, value: Value) -> Value | None:
    """What is added to `value`, where it has the same rows."""
    if len(op.operands) != 2:
        return None
    own = _reads(programs, op, value)
    other = op.operands[1] if own is op.operands[0] else op.operands[0]
    layouts = programs.values.layouts
    same = layouts[other].domain == layouts[own].domain and other is not own
    return other if same and layouts[other].sizes == layouts[own].sizes else None


def _waits_for(programs: Programs, value: Value, busy: set[Value]) -> bool:
    """Whether `value` cannot be in memory before a product that is being made."""
    seen: set[Value] = set()
    stack = [value]
    while stack:
        at = stack.pop()
        if at in busy:
            return True
        if at not in seen and at not in programs.values.stored and at.op is not None:
            seen.add(at)
            stack.extend(at.op.operands)
    return False


def _softcap(programs: Programs, op: Op) -> tuple[list[Op], float] | None:
    """div by c, tanh, mul by c."""
    tanh = _single(programs, op.results[0])
    last = _single(programs, tanh.results[0]) if isinstance(tanh, Tanh) else None
    if not isinstance(op, Div) or not isinstance(last, Mul) or op.y != last.y:
        return None
    assert tanh is not None
    return ([op, tanh, last], float(op.y)) if isinstance(op.y, int | float) else None


def _launch(programs: Programs, product: Product) -> None:
    values = programs.values
    result = product.result
    is_logits = result is values.graph.outputs[0]
    # What samples reads f32, and the sum is f32 already.
    element = "f32" if is_logits else product.spec.out_element or product.spec.element
    if element_of(result) != element and not is_logits:
        raise Refusal("HETC-E058", "a product has a result of another type", product.ops[0].loc)
    product.spec = replace(product.spec, out_element=element)
    if product.residual is not None:
        product.operands["residual"] = programs.rows_of(product.residual)
    stored = programs.buffer(result, element, "logits" if is_logits else "")
    _bind(programs, product, stored.argument)
    values.stored.update((op.results[0], NOWHERE) for op in product.ops)
    values.stored[result] = stored


def _bind(programs: Programs, product: Product, out: Argument) -> None:
    """The launch itself."""
    x = product.x
    norm = x.op
    if (
        isinstance(norm, RMSNorm)
        and programs.values.domain(x) == "sequences"
        and x not in programs.values.stored
        and all(user in product.ops for user in programs.values.users[x])
    ):
        weight = None if norm.weight is None else programs.need(norm.weight)
        element = "" if weight is None else weight.element
        product.spec = replace(product.spec, norm=NormSpec(norm.eps, element, norm.offset))
        if weight is not None:
            product.operands["norm_weight"] = weight.argument
        product.ops.insert(0, norm)
        x = norm.x
    spec = replace(product.spec, tma=linear.takes_tma(product.spec, programs.arch))
    weights = _weights(programs, product, spec)
    operands = {"x": programs.rows_of(x), **weights, **product.operands, "out": out}
    launch_linear(programs, spec, operands, product.ops, programs.values.domain(x))


def launch_linear(
    programs: Programs,
    spec: LinearSpec,
    operands: dict[str, Argument],
    ops: list[Op],
    domain: str,
) -> None:
    """Launch a product of the linear family; raises Refusal (HETC-E058) for one that it lacks."""
    reason = linear.supports(spec)
    if reason is not None:
        raise Refusal("HETC-E058", reason, ops[0].loc)
    kernel_id = programs.kernel(linear.kernel(spec))
    programs.launches.append(
        linear.launch(
            spec,
            kernel_id,
            rows=ROWS[domain],  # type: ignore[index]  # a domain
            ops=tuple(op_name(op) for op in ops),
            **operands,
        )
    )
