"""Layers of experts: the choice, the order of the slots, and the grouped products with what
follows them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hetc.backends.triton import expert_linear, routing
from hetc.backends.triton.expert_gates import gate_of, only_reader
from hetc.backends.triton.expert_linear import ExpertLinearSpec
from hetc.backends.triton.layouts import Refusal
from hetc.backends.triton.matrices import matrix_of, placed
from hetc.backends.triton.memory import ROWS
from hetc.backends.triton.programs import Programs, op_name
from hetc.backends.triton.routing import SortSpec, TopKSpec
from hetc.backends.triton.values import NOWHERE, element_of
from hetc.bundle.launches import Argument, BufferRef
from hetc.ir.op import Op, Value
from hetc.ir.ops.binary import Add
from hetc.ir.ops.index import Embedding, TopK
from hetc.ir.ops.linear import ExpertLinear


def lower_topk(programs: Programs, op: TopK) -> None:
    """Launch the choice of the best; raises Refusal."""
    values = programs.values
    sizes = values.layouts[op.x].sizes
    last = op.axis % op.x.rank == op.x.rank - 1
    if not last or not op.largest or values.columns(op.x) != sizes[-1]:
        raise Refusal("HETC-E050", "a GPU kernel finds the largest of a row only", op.loc)
    spec = TopKSpec(element_of(op.x), sizes[-1], op.k)
    domain = values.domain(op.x)
    scores = programs.rows_of(op.x)
    best, ids = (programs.buffer(x) for x in op.results)
    programs.launches.append(
        routing.top_k_launch(
            spec,
            programs.kernel(routing.top_k_kernel(spec)),
            scores=scores,
            ids=ids.argument,
            values=best.argument,
            rows=ROWS[domain],
            ops=(op_name(op),),
        )
    )
    values.stored.update(zip(op.results, (best, ids), strict=True))


@dataclass(frozen=True)
class Order:
    """The slots in order of their experts."""

    order: BufferRef
    ends: BufferRef


@dataclass
class Experts:
    """The grouped products of `programs`; slots that several products share are sorted once."""

    programs: Programs
    orders: dict[Argument, Order] = field(default_factory=dict)

    def lower(self, op: ExpertLinear) -> None:
        """Launch a grouped product with what follows it; raises Refusal."""
        programs = self.programs
        values = programs.values
        layout = values.layouts[op.x]
        per_token = layout.sizes[0]
        inner, outer = (op.weight.shape[axis] for axis in op.inner_outer)
        experts = op.weight.shape[0]
        matrix = matrix_of(op.weight)
        assert isinstance(inner, int)
        assert isinstance(outer, int)
        assert isinstance(experts, int)
        spec = ExpertLinearSpec(
            element=element_of(op.x),
            experts=experts,
            n=outer,
            k=inner,
            per_token=per_token,
            transposed=op.transposed,
            quantized=matrix.form,
        )
        x = programs.rows_seen(op.x, per_token)
        spec = replace(spec, x_of="tokens" if x.shared or per_token == 1 else "slots")
        order = self._order(op, experts, per_token)
        bias, ops, result, spec = self._epilogue(op, spec)
        reason = expert_linear.supports(spec)
        if reason is not None:
            raise Refusal("HETC-E058", reason, op.loc)
        out = programs.buffer(result)
        operands: dict[str, Argument] = {
            "x": x.argument,
            **placed(programs.memory, "weight", [matrix]),
            "order": order.order,
            "ends": order.ends,
            "out": out.argument,
        }
        if bias is not None:
            operands["bias"] = bias
        programs.launches.append(
            expert_linear.launch(
                spec,
                programs.kernel(expert_linear.kernel(spec)),
                rows=ROWS[layout.domain],
                ops=tuple(dict.fromkeys(op_name(each) for each in ops)),
                **operands,
            )
        )
        values.stored.update((each.results[0], NOWHERE) for each in ops)
        values.stored[result] = out

    def _order(self, op: ExpertLinear, experts: int, per_token: int) -> Order:
        programs = self.programs
        ids = programs.rows_of(op.ids)
        if ids in self.orders:
            return self.orders[ids]
        spec = SortSpec(experts, per_token)
        rows = ROWS[programs.values.domain(op.ids)]
        memory = programs.memory
        made = Order(
            memory.buffer("i32", spec.order_size(rows)), memory.buffer("i32", str(experts))
        )
        counts = memory.buffer("i32", spec.counts_size(rows))
        kernels = routing.sort_kernels(spec)
        count, add, place = (programs.kernel(kernel) for kernel in kernels)
        programs.launches.extend(
            routing.sort_launches(
                spec,
                (count, add, place),
                ids=ids,
                order=made.order,
                ends=made.ends,
                counts=counts,
                rows=rows,
                ops=("sort slots by expert",),
            )
        )
        self.orders[ids] = made
        return made

    def _epilogue(
        self, op: ExpertLinear, spec: ExpertLinearSpec
    ) -> tuple[Argument | None, list[Op], Value, ExpertLinearSpec]:
        """What follows `op` and nothing else reads: the experts' bias, then a gate."""
        bias = op.bias
        ops: list[Op] = [op]
        user = only_reader(self.programs.values, op.result)
        if bias is None and isinstance(user, Add) and len(user.operands) == 2:
            other = user.operands[1] if user.operands[0] is op.result else user.operands[0]
            if isinstance(other.op, Embedding) and other.op.ids is op.ids:
                bias = other.op.table
                ops += [other.op, user]
        result = ops[-1].results[0]
        if bias is not None:
            spec = replace(spec, bias=True)
        gate = gate_of(self.programs.values, result)
        if gate is not None:
            spec = replace(spec, **gate.fields)
            ops += gate.ops
            result = gate.result
        if bias is None:
            return None, ops, result, spec
        stored = self.programs.need(bias)
        if stored.domain != "none" or stored.element != spec.element:
            raise Refusal("HETC-E058", "a bias of experts is no weight of their type", op.loc)
        return stored.argument, ops, result, spec
