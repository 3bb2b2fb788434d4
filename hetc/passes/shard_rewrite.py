"""Rewrite a graph to what one socket runs, as a plan has it: local shapes, and collectives between.

A partial sum stays one through ops that are linear in it, so that experts are added up and
parallel branches joined before anything is sent. What is added to it on the way (a bias, the
residual stream) is kept beside it, and added once after the sum.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call, Collective
from hetc.ir.ops.elementwise import Add, Cast, Div, Elementwise, Mul, Neg
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import ExpertLinear, Linear
from hetc.ir.ops.reduce import Sum
from hetc.ir.ops.sequence import Conv1dCausal
from hetc.ir.ops.shape import Broadcast, Reshape, Slice, Split, Transpose, normalize_axis
from hetc.ir.ops.source import Full, Weight
from hetc.passes.shard_classes import holder
from hetc.passes.shard_factors import Factor
from hetc.passes.shard_forms import Forms, LocalWeights, Partial, local_shape, local_type
from hetc.passes.shard_plan import Cut, Cuts, Plan


@dataclass(frozen=True)
class LocalGraph:
    """What one socket runs of a graph, how its inputs and outputs are cut, and why each collective
    is there."""

    graph: Graph
    inputs: tuple[Cut | None, ...]
    outputs: tuple[Cut | None, ...]
    collectives: tuple[tuple[Collective, Reason], ...]


def rewrite(
    graph: Graph,
    plan: Plan,
    callees: Mapping[int, LocalGraph],
    weights: LocalWeights,
    inputs: Sequence[Cut | None],
    outputs: Mapping[Value, Cut | None],
) -> LocalGraph:
    """`graph` as one socket runs it.

    `callees` are the local forms of the graphs that it calls, by their ids. `inputs` says how every
    input comes, `outputs` how some outputs are left; the others are left as they come out.
    """
    forms = Forms(graph, weights)
    rewriter = _Rewriter(forms, plan, callees)
    for value, cut in zip(graph.inputs, inputs, strict=True):
        forms.put(value, forms.builder.input(value.name, local_type(value.type, cut)), cut)
    for op in graph.ops:
        rewriter.rewrite(op)
    left = tuple(outputs.get(value, rewriter.cut_of(value)) for value in graph.outputs)
    results = [forms.get(value, cut) for value, cut in zip(graph.outputs, left, strict=True)]
    local = forms.builder.finish(results, graph.output_names)
    return LocalGraph(local, tuple(inputs), left, tuple(forms.collectives))


class _Rewriter:
    def __init__(self, forms: Forms, plan: Plan, callees: Mapping[int, LocalGraph]) -> None:
        self.forms = forms
        self.plan = plan
        self.callees = callees

    def rewrite(self, op: Op) -> None:
        if isinstance(op, Weight):
            return
        if isinstance(op, Call):
            self.call(op)
        elif op in self.plan.active:
            self.on_parts(op, self.plan.active[op])
        elif not self.on_partial_sums(op):
            self.on_wholes(op)

    def cut_of(self, value: Value) -> Cut | None:
        form = self.forms.of(value)
        return form if isinstance(form, Cut) else None

    def call(self, op: Call) -> None:
        callee = self.callees[id(op.callee)]
        args = zip(op.args, callee.inputs, strict=True)
        made = Call(
            callee.graph, tuple(self.forms.get(arg, cut, op.loc) for arg, cut in args), loc=op.loc
        )
        for old, new, cut in zip(op.results, made.results, callee.outputs, strict=True):
            self.forms.put(old, new, cut)

    def on_wholes(self, op: Op) -> None:
        made = op.map_operands(lambda value: self.forms.get(value, None, op.loc))
        for old, new in zip(op.results, made.results, strict=True):
            self.forms.put(old, new, None)

    def on_parts(self, op: Op, factor: Factor) -> None:
        """`op` on the parts of what its factor names, and everything else whole."""
        read = {place.value for place in (*factor.operands, *factor.fewer)}
        left = {place.value for place in factor.results}
        cuts = self.plan.cuts

        def local(value: Value) -> Value:
            cut = cuts[holder(op, value)] if value in read else None
            return self.forms.get(value, cut, op.loc)

        bias = op.bias if factor.summed and isinstance(op, Linear | ExpertLinear) else None
        changes = op.operand_changes(local)
        once = None
        if bias is not None:
            # Every socket would add it.
            changes["bias"], once = None, changes.get("bias", bias)
            if isinstance(op, ExpertLinear):
                once = Embedding(once, changes.get("ids", op.ids), loc=op.loc).result
        made = op.replace(**changes, **_local_attributes(op, factor, cuts))
        if factor.summed:
            parts = cuts[holder(op, factor.places[0].value)].parts
            self.forms.put(op.result, made.result, Partial(parts, once))
            return
        for old, new in zip(op.results, made.results, strict=True):
            self.forms.put(old, new, cuts[old] if old in left else None)

    def on_partial_sums(self, op: Op) -> bool:
        """Do `op` on addends, if an operand is a partial sum and `op` is linear in it."""
        sums = {v: form for v in op.operands if isinstance(form := self.forms.of(v), Partial)}
        if isinstance(op, Add):
            return self.add(op, sums)
        if len(sums) != 1:
            return False
        ((value, form),) = sums.items()
        if not _is_linear(op, value):
            return False

        def on(x: Value) -> Op:
            return op.map_operands(lambda v: x if v is value else self.forms.get(v, None, op.loc))

        once = None
        if form.once is not None:
            same = isinstance(op, Reshape) and form.once.shape == op.shape[-1:] == value.shape[-1:]
            once = form.once if same else on(_spread(form.once, op, value)).result
        self.forms.put(op.result, on(self.forms.get(value, form)).result, Partial(form.parts, once))
        return True

    def add(self, op: Add, sums: Mapping[Value, Partial]) -> bool:
        """Two partial sums are added on every socket; what is whole waits for the sum."""
        parts = {form.parts for form in sums.values()}
        shapes = {value.shape for value in op.operands}
        if len(parts) != 1 or len(shapes) != 1 or len(op.operands) != 2:
            return False
        addends: list[Value] = []
        once: list[Value] = []
        for value in op.operands:
            form = sums.get(value)
            made = self.forms.get(value, form, op.loc)
            (addends if form else once).append(made)
            if form and form.once is not None:
                once.append(form.once)
        whole = _total(once, op.loc) if once else None
        self.forms.put(op.result, _total(addends, op.loc), Partial(parts.pop(), whole))
        return True


def _total(values: Sequence[Value], loc: str) -> Value:
    return functools.reduce(lambda x, y: Add(x, y, loc=loc).result, values)


def _is_linear(op: Op, x: Value) -> bool:
    """Whether `op` of a sum `x` is the sum of `op` of its addends."""
    if isinstance(op, Mul):
        return op.x is not op.y
    if isinstance(op, Div):
        return op.x is x and op.y is not x
    if isinstance(op, Cast):
        return op.x.dtype.is_float and op.result.dtype.is_float
    return isinstance(op, Neg | Reshape | Transpose | Broadcast | Sum)


def _spread(once: Value, op: Op, x: Value) -> Value:
    """`once` in the shape of `x`, unless `op` broadcasts it anyway."""
    if once.shape == x.shape or isinstance(op, Elementwise):
        return once
    return Broadcast(once, x.shape, loc=op.loc).result


def _local_attributes(op: Op, factor: Factor, cuts: Cuts) -> dict[str, Any]:
    """The attributes that say how large something is, for parts."""
    if isinstance(op, Reshape | Broadcast | Full):
        return {"shape": local_shape(op.shape, cuts[op.result])}
    if isinstance(op, Conv1dCausal):
        return {"groups": op.groups // cuts[op.result].parts}
    if isinstance(op, Slice | Split):
        cut = cuts[holder(op, op.x)]
        if normalize_axis(op.axis, op.x.rank) != cut.axis:
            return {}
        if isinstance(op, Split):
            return {"sizes": tuple(size // cut.parts for size in op.sizes)}
        stop = None if op.stop is None else op.stop // cut.parts
        return {"start": op.start // cut.parts if op.step == 1 else op.start, "stop": stop}
    return {}
