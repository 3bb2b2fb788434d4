"""A prefill graph as launches: products become kernels of their own, with whatever fuses; all else
is row programs, made where something reads their result."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hetc.backends.triton import attention
from hetc.backends.triton.attention import AttentionSpec
from hetc.backends.triton.experts import Experts, lower_topk
from hetc.backends.triton.fuse_heads import Heads, find_heads, lower_heads
from hetc.backends.triton.fuse_linear import lower_linear
from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.last_rows import place_last_rows
from hetc.backends.triton.layouts import Refusal
from hetc.backends.triton.memory import ROWS, Memory
from hetc.backends.triton.programs import Programs, op_name
from hetc.backends.triton.states import States
from hetc.backends.triton.values import NOWHERE, PRODUCTS, Values, element_of
from hetc.bundle.launches import Argument, BufferRef, Launch
from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.index import TopK
from hetc.ir.ops.linear import ExpertLinear, Linear
from hetc.passes.simplify import simplify


@dataclass(frozen=True)
class Lowered:
    """The launches of a half, their kernels by id, and the memory that they name; `logits` is the
    buffer of those. With `reasons` the half cannot be computed, and the rest means nothing."""

    reasons: tuple[Reason, ...]
    launches: tuple[Launch, ...]
    kernels: dict[str, Kernel]
    memory: Memory
    states: States
    logits: str


def lower(graph: Graph, states: tuple[str, ...], arch: str = "sm_80") -> Lowered:
    """`graph` is a flat prefill half: `tokens [B,S]` to logits [B,1,V] and the states `states`.

    The kernels use what `arch` and all later ones have.
    """
    return _Lowering(graph, states, arch).run()


class _Lowering:
    def __init__(self, graph: Graph, states: tuple[str, ...], arch: str) -> None:
        self.graph = graph = simplify(place_last_rows(graph))
        self.values = Values.of(graph)
        self.programs = Programs(self.values, self._product, arch)
        self.states = States(self.programs, states)
        self.experts = Experts(self.programs)
        self.heads: dict[Linear, Heads] = find_heads(graph, self.values)
        self.busy: set[Value] = set()

    def run(self) -> Lowered:
        for op in self.graph.ops:
            # What has no layout is among the reasons already.
            if op.kind in PRODUCTS and op.results[0] in self.values.layouts:
                self._attempt(op)
        logits = ""
        if not self.values.reasons:
            logits = self._logits()
            for refusal in self.states.finish():
                self.values.refuse(refusal)
        return Lowered(
            tuple(self.values.reasons),
            tuple(self.programs.launches),
            self.programs.kernels,
            self.programs.memory,
            self.states,
            logits,
        )

    def _attempt(self, op: Op) -> None:
        """Lower a product where nothing has yet; what refuses counts as done, so that all reasons
        are found."""
        if op.results[0] in self.values.stored:
            return
        try:
            self._product(op.results[0])
        except Refusal as refusal:
            self.values.refuse(Refusal(refusal.code, refusal.text, refusal.at or op.loc))
            self.busy.clear()
            for value in op.results:
                if value in self.values.layouts:
                    self.values.stored[value] = self.programs.buffer(value)

    def _product(self, value: Value) -> None:
        op = value.op
        assert op is not None
        if self.values.domain(op.operands[0]) == "none":
            raise Refusal("HETC-E057", "a product of what hangs on no token", op.loc)
        self.busy.add(value)
        match op:
            case Linear():
                heads = self.heads.pop(op, None)
                if heads is None or not lower_heads(self.programs, self.states, heads):
                    lower_linear(self.programs, op, self.busy)
                else:
                    for other in heads.linears:
                        self.heads.pop(other, None)
                        self.values.stored[other.result] = NOWHERE
            case Attention():
                self._attention(op)
            case TopK():
                lower_topk(self.programs, op)
            case ExpertLinear():
                self.experts.lower(op)
        self.busy.discard(value)

    def _attention(self, op: Attention) -> None:
        programs, values = self.programs, self.values
        q, v = values.layouts[op.q], values.layouts[op.v]
        if op.mask is not None:
            raise Refusal("HETC-E050", "attention has a mask that is no rule of positions", op.loc)
        if {q.domain, v.domain} != {"tokens"} or op.q.shape[2] != op.k.shape[2]:
            raise Refusal("HETC-E050", "attention of some rows to all", op.loc)
        spec = AttentionSpec(
            element=element_of(op.q),
            heads=q.sizes[1],
            groups=v.sizes[1],
            width=q.sizes[3],
            value_width=v.sizes[3],
            scale=op.scale,
            causal=op.causal,
            window=op.window,
            chunk=op.chunk,
            softcap=op.softcap,
            sinks=op.sinks is not None,
            slopes=op.slopes is not None,
        )
        reason = attention.supports(spec)
        if reason is not None:
            raise Refusal("HETC-E050", reason, op.loc)
        spec = replace(spec, tma=attention.takes_tma(spec, programs.arch))
        operands: dict[str, Argument] = {"query": programs.rows_of(op.q)}
        for name, value in (("key", op.k), ("value", op.v)):
            operands[name] = self.states.need(value).argument
        for name, numbers in (("sinks", op.sinks), ("slopes", op.slopes)):
            if numbers is not None:
                operands[name] = programs.need_as(numbers, "f32")
        made = programs.buffer(op.result)
        operands["out"] = made.argument
        kernel_id, ops = programs.kernel(attention.kernel(spec)), (op_name(op),)
        launch = attention.launch(
            spec,
            kernel_id,
            longest=ROWS["positions"],
            sequences=ROWS["sequences"],
            ops=ops,
            **operands,
        )
        programs.launches.append(launch)
        values.stored[op.result] = made

    def _logits(self) -> str:
        """The buffer of the logits, which are copied where they lie otherwise."""
        logits = self.graph.outputs[0]
        try:
            stored = self.values.stored.get(logits)
            if (
                stored is None
                or stored.element != "f32"
                or stored.row != self.values.columns(logits)
            ):
                stored = self.programs.buffer(logits, "f32", "logits")
                self.programs.write(logits, stored)
            if self.values.domain(logits) != "sequences":
                raise Refusal("HETC-E059", "logits are not those of the last tokens")
        except Refusal as refusal:
            self.values.refuse(Refusal(refusal.code, refusal.text, refusal.at or "logits"))
            return ""
        assert isinstance(stored.argument, BufferRef)
        return stored.argument.name
