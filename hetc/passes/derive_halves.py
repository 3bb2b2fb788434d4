"""Derive the halves: graphs on demand, in which every value is computed in the role asked of it.

There are four roles. `new`: the rows of the T new tokens. `all`: the rows of all P+T tokens.
`whole` and `last` are prefill's: every row, and the last row alone. Role `all` stops at the state,
where the past is joined with the new rows; keys and values of attention are the only things asked
for in role `all`, so that nothing of the past but the state is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from hetc.ir.dims import DimLike, symbol
from hetc.ir.graph import Graph, GraphBuilder, StateSpec
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.recurrence import Recurrence
from hetc.ir.ops.sequence import Conv1dCausal, KeepLast, KVAppend
from hetc.ir.ops.shape import Concat, Reshape, Slice
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import I64, TensorType
from hetc.passes.state_analysis import Analysis, state_specs
from hetc.passes.tokens import LENGTH, TokenAxis

B, P, T = symbol("B"), symbol("P"), symbol("T")
NEW: Mapping[str, DimLike] = {"S": T}
ALL: Mapping[str, DimLike] = {"S": P + T}
LAST: Mapping[str, DimLike] = {"S": 1}


def derive_prefill(analysis: Analysis) -> Graph:
    """tokens[B,S] -> logits[B,1,V] of the last position, state."""
    return _Prefill(analysis).derive()


def derive_decode(analysis: Analysis) -> Graph:
    """tokens[B,T], past, state -> logits[B,T,V], state."""
    return _Decode(analysis).derive()


class _Derivation:
    """Builds one graph on demand: `value(v, role)` is `v` in that role, computed once.

    Logits are wanted in `row_role`, state and what attention reads in `state_role`; convolutions
    and scans carry their state on in `carry_role`, and `left` is what each of them leaves.
    """

    row_role: ClassVar[str]
    state_role: ClassVar[str]
    carry_role: ClassVar[str]

    def __init__(self, analysis: Analysis, name: str) -> None:
        self.found = analysis
        self.builder = GraphBuilder(name)
        self.made: dict[tuple[Value, str], Value] = {}
        self.left: dict[Op, Value] = {}

    def value(self, root: Value, role: str) -> Value:
        """`root` in `role`; iterative, because layers are deep."""
        stack = [(root, role)]
        while stack:
            item, how = stack[-1]
            if (item, how) in self.made:
                stack.pop()
                continue
            missing = [need for need in self.needs(item, how) if need not in self.made]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            self.make(item, how)
        return self.made[root, role]

    def derive(self) -> Graph:
        """The half: logits first, then every state, in hand-off order."""
        outputs = [self.value(self.found.graph.outputs[0], self.row_role)]
        for kept in self.found.kept.values():
            spec = kept.spec
            rows = self.value(kept.value, self.state_role)
            if spec.keep is not None and spec.axis is not None:
                rows = self.builder.add(KeepLast(rows, spec.axis, spec.keep, loc=spec.loc))
            outputs.append(rows)
        for op in self.found.carried:
            self.value(op.results[0], self.carry_role)
            outputs.append(self.left[op])
        names = [f"{spec.name}.out" for spec in state_specs(self.found)]
        return self.builder.finish(outputs, ["logits", *names])

    def carried_out(self, op: Op, spec: StateSpec) -> Value:
        """The state that a convolution or a scan leaves."""
        raise NotImplementedError

    def needs(self, item: Value, role: str) -> list[tuple[Value, str]]:
        """Which values in which roles `item` in `role` is made from."""
        raise NotImplementedError

    def reads(self, op: Op, role: str) -> list[tuple[Value, str]]:
        """The operands of `op` in `role`, each in the role that it is read in; one value may be
        query and key at once."""
        if not isinstance(op, Attention) or role != self.row_role:
            return [(value, role) for value in op.operands]
        past = self.state_role
        pairs = ((op.q, role), (op.k, past), (op.v, past), (op.mask, past))
        heads = ((op.sinks, role), (op.slopes, role))
        return [(value, how) for value, how in (*pairs, *heads) if value is not None]

    def attend(self, op: Attention, start: DimLike, stop: DimLike) -> Op:
        """`op` for the queries `start` to `stop`, over every key."""
        changes = {name: self.made[getattr(op, name), self.state_role] for name in ("k", "v")}
        for name in ("q", "sinks", "slopes"):
            item = getattr(op, name)
            if item is not None:
                changes[name] = self.made[item, self.row_role]
        if op.mask is not None:
            # A mask without a shorter description is computed for all rows, then cut.
            mask = self.made[op.mask, self.state_role]
            single = mask.rank < 2 or mask.shape[-2] == 1
            changes["mask"] = (
                mask if single else Slice(mask, mask.rank - 2, start, stop, loc=op.loc).result
            )
        return op.replace(**changes)

    def make(self, item: Value, role: str) -> None:
        raise NotImplementedError

    def place(self, op: Op, source: Op, role: str) -> None:
        """Put `op` in the graph as `source` in `role`."""
        self.builder.add(op)
        for old, new in zip(source.results, op.results, strict=True):
            self.made[old, role] = new
        spec = self.found.carried.get(source)
        if spec is not None and role == self.carry_role:
            # Right behind the op that reads it, so that a layer changes its own state.
            self.left[source] = self.carried_out(source, spec)

    def copy(self, op: Op, role: str, dims: Mapping[str, DimLike]) -> Op:
        """`op` on operands in its own role, with its sizes for this role."""
        # Operands and sizes change together: neither alone would fit the op's signature.
        changes = op.map_dims(dims)
        changes |= op.operand_changes(lambda value: self.made[value, role])
        if isinstance(op, Iota) and "start" not in changes:
            offset: DimLike = {"new": P, "last": LENGTH - 1}.get(role, 0)
            if offset != 0 and self.found.axes[op.result] is not None:
                changes["start"] = op.start + offset * op.step
        return op.replace(**changes) if changes else op


class _Decode(_Derivation):
    """tokens[B,T], past, state -> logits[B,T,V], state"""

    row_role, state_role, carry_role = "new", "all", "new"

    def __init__(self, analysis: Analysis) -> None:
        super().__init__(analysis, "decode")
        tokens = self.builder.input("tokens", TensorType(I64, (B, T)))
        self.builder.input("past", TensorType(I64, ()))
        self.made[analysis.graph.inputs[0], "new"] = tokens
        self.past = {
            spec.name: self.builder.input(spec.name, spec.type) for spec in state_specs(analysis)
        }

    def carried_out(self, op: Op, spec: StateSpec) -> Value:
        if isinstance(op, Recurrence):
            return self.made[op.results[1], "new"]
        assert isinstance(op, Conv1dCausal)
        assert spec.keep is not None
        joined = Concat((self.past[spec.name], self.made[op.x, "new"]), 2, loc=op.loc)
        return self.builder.add(Slice(joined.result, 2, T, T + spec.keep, loc=op.loc))

    def needs(self, item: Value, role: str) -> list[tuple[Value, str]]:
        if role == "all" and item in self.found.kept:
            return [(item, "new")]
        if role == "new" and item in self.found.sliced:
            return [(item, "all")]
        op = item.op
        assert op is not None, "only the tokens have no op, and they are known"
        return self.reads(op, role)

    def make(self, item: Value, role: str) -> None:
        op = item.op
        assert op is not None
        if role == "all" and item in self.found.kept:
            spec = self.found.kept[item].spec
            assert spec.axis is not None
            append = KVAppend(self.past[spec.name], self.made[item, "new"], spec.axis, loc=op.loc)
            self.made[item, role] = self.builder.add(append)
        elif role == "new" and item in self.found.sliced:
            axis = self.found.sliced[item].axis
            rows = Slice(self.made[item, "all"], axis, P, P + T, loc=op.loc)
            self.made[item, role] = self.builder.add(rows)
        else:
            self.place(self.step(op, role), op, role)

    def step(self, op: Op, role: str) -> Op:
        if isinstance(op, Attention) and role == "new":
            return self.attend(op, P, P + T)
        made = self.copy(op, role, NEW if role == "new" else ALL)
        spec = self.found.carried.get(op)
        # In role `all` every row is there from the first on, so that nothing is carried into it.
        if spec is not None and role == "new":
            name = "history" if isinstance(op, Conv1dCausal) else "initial"
            made = made.replace(**{name: self.past[spec.name]})
        return made


class _Prefill(_Derivation):
    """tokens[B,S] -> logits[B,1,V] of the last position, state"""

    row_role, state_role, carry_role = "last", "whole", "whole"

    def __init__(self, analysis: Analysis) -> None:
        super().__init__(analysis, "prefill")
        self.builder.inputs.append(analysis.graph.inputs[0])
        self.made[analysis.graph.inputs[0], "whole"] = analysis.graph.inputs[0]
        self.users = analysis.graph.users()

    def carried_out(self, op: Op, spec: StateSpec) -> Value:
        if isinstance(op, Recurrence):
            return self.made[op.results[1], "whole"]
        assert isinstance(op, Conv1dCausal)
        assert spec.keep is not None
        x = self.made[op.x, "whole"]
        before = (
            Full(0.0, spec.type.shape, x.dtype, loc=op.loc).result
            if op.history is None
            else self.made[op.history, "whole"]
        )
        joined = Concat((before, x), 2, loc=op.loc).result
        return self.builder.add(Slice(joined, 2, LENGTH, LENGTH + spec.keep, loc=op.loc))

    def narrows(self, item: Value) -> bool:
        """Whether the last row of `item` can be had from last rows, without other rows being needed
        anyway."""
        op = item.op
        if (
            op is None
            or item in self.found.sliced
            or op in self.found.carried
            or len(op.results) > 1
        ):
            return False
        return len(self.users.get(item, ())) <= 1 or self.found.axes[item] is None

    def needs(self, item: Value, role: str) -> list[tuple[Value, str]]:
        op = item.op
        if role == "last" and not self.narrows(item):
            return [(item, "whole")]
        assert op is not None
        if role == "last" and self.found.axes[item] is None:
            return [(item, "whole")]
        return self.reads(op, role)

    def make(self, item: Value, role: str) -> None:
        axis = self.found.axes[item]
        if role == "last" and (axis is None or not self.narrows(item)):
            self.made[item, role] = self.last_row(item, axis)
            return
        op = item.op
        assert op is not None
        if role == "whole":
            self.place(op.map_operands(lambda value: self.made[value, "whole"]), op, role)
        elif isinstance(op, Attention):
            self.place(self.attend(op, LENGTH - 1, LENGTH), op, role)
        else:
            self.place(self.copy(op, role, LAST), op, role)

    def last_row(self, item: Value, axis: TokenAxis | None) -> Value:
        whole = self.made[item, "whole"]
        if axis is None:
            return whole
        loc = item.op.loc if item.op else ""
        if axis.is_whole:
            return self.builder.add(Slice(whole, axis.axis, LENGTH - 1, LENGTH, loc=loc))
        # Tokens merged with the batch or with what follows: part them, cut, and merge again.
        before, after = whole.shape[: axis.axis], whole.shape[axis.axis + 1 :]
        parted = Reshape(whole, (*before, axis.outer, LENGTH, axis.inner, *after), loc=loc)
        row = Slice(parted.result, axis.axis + 1, LENGTH - 1, LENGTH, loc=loc)
        merged = (*before, axis.outer * axis.inner, *after)
        return self.builder.add(Reshape(row.result, merged, loc=loc))
