"""Synthesize state: derive `prefill` and `decode` from a stateless causal `forward`.

Values are asked for in one of four roles. `new`: the rows of the T new tokens. `all`: the rows of
all P+T tokens. `whole` and `last` are prefill's: every row, and the last row alone. Role `all`
stops at the state, where the past is joined with the new rows; keys and values of attention are the
only things asked for in role `all`, so that nothing of the past but the state is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hetc.errors import StateError
from hetc.ir.dims import DimLike, symbol
from hetc.ir.graph import Graph, GraphBuilder, Program, StateSpec
from hetc.ir.interpret import WeightLookup
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.sequence import Conv1dCausal, KeepLast, KVAppend, Scan
from hetc.ir.ops.shape import Concat, Reshape, Slice
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import I64, TensorType
from hetc.passes.index_only import IndexOnly
from hetc.passes.place_state import place_state
from hetc.passes.positions import check_prefix_closed
from hetc.passes.token_axis import LENGTH, Mixes, TokenAxis, refuse, token_axes

B, P, T = symbol("B"), symbol("P"), symbol("T")
NEW: Mapping[str, DimLike] = {"S": T}
ALL: Mapping[str, DimLike] = {"S": P + T}
LAST: Mapping[str, DimLike] = {"S": 1}


@dataclass(frozen=True)
class Kept:
    """One value of `forward` that becomes state."""

    value: Value
    spec: StateSpec


@dataclass
class Analysis:
    """Token axes of every value, the positional values that must be sliced, and the state."""

    graph: Graph
    axes: dict[Value, TokenAxis | None]
    sliced: dict[Value, TokenAxis]
    kept: dict[Value, Kept] = field(default_factory=dict)
    carried: dict[Op, StateSpec] = field(default_factory=dict)


def synthesize_state(
    graph: Graph, weights: WeightLookup, max_context: int, facts: tuple[str, ...] = ()
) -> Program:
    """The program of the causal `graph` (tokens i64[B,S] -> logits [B,S,V]); prove_causal ran
    before.

    Raises StateError (HETC-S014, HETC-S017, HETC-S018) naming the op where tokens are mixed in a
    way that has no state.
    """
    analysis = analyse(graph, weights, max_context)
    prefill = _Prefill(analysis).derive()
    decode = _Decode(analysis).derive()
    specs = tuple(_specs(analysis))
    return Program(graph.name, graph, prefill, decode, specs, max_context, facts)


def analyse(graph: Graph, weights: WeightLookup, max_context: int) -> Analysis:
    """Prove that everything but attention, causal convolution and scans works token by token, and
    place the state."""
    tokens = graph.inputs[0]
    if len(graph.inputs) != 1 or tokens.type != TensorType(I64, (B, LENGTH)):
        raise StateError(
            "HETC-S017",
            "decode cannot be derived: the model does not take tokens[B,S] alone",
            found=", ".join(f"{value.name}: {value.type}" for value in graph.inputs),
        )
    index_only = IndexOnly()
    axes: dict[Value, TokenAxis | None] = {tokens: TokenAxis(1)}
    irregular: set[Value] = set()
    sliced: dict[Value, TokenAxis] = {}
    for op in graph.ops:
        positional = index_only(op.results[0])
        if positional and any(value in irregular for value in op.operands):
            irregular.update(op.results)
            axes.update(dict.fromkeys(op.results))
            continue
        if not positional:
            for value in _frontier(op, irregular):
                sliced[value] = axes[value] = check_prefix_closed(value, weights, max_context, op)
        try:
            axes.update(zip(op.results, token_axes(op, axes), strict=True))
        except Mixes as reason:
            if not positional:
                raise refuse(op, str(reason)) from None
            irregular.update(op.results)
            axes.update(dict.fromkeys(op.results))
    found = Analysis(graph, axes, sliced)
    if axes[graph.outputs[0]] != TokenAxis(1):
        raise StateError(
            "HETC-S018",
            "decode cannot be derived: the output has no logits for every token",
            found=str(graph.outputs[0].type),
            do="export forward(tokens) -> logits[B,S,V]",
        )
    _name_states(found)
    return found


def _frontier(op: Op, irregular: set[Value]) -> Iterator[Value]:
    mask = op.mask if isinstance(op, Attention) else None
    for value in op.operands:
        if value in irregular and value is not mask:
            yield value


def _name_states(found: Analysis) -> None:
    index_only = IndexOnly()
    data = {value: axis for value, axis in found.axes.items() if not index_only(value)}
    kept = place_state(found.graph, data)
    readers: dict[Value, list[tuple[int, str, Attention]]] = {}
    attentions = [op for op in found.graph.ops if isinstance(op, Attention)]
    for layer, op in enumerate(attentions):
        for role, root in (("key", op.k), ("value", op.v)):
            for value in _sources(root, set(kept)):
                readers.setdefault(value, []).append((layer, role, op))
    for value in kept:
        uses = readers[value]
        layer, role, _ = uses[0]
        roles = {role for _, role, _ in uses}
        windows = [op.window for _, _, op in uses]
        axis = found.axes[value]
        assert axis is not None
        direct = all(value.size == (op.k if name == "key" else op.v).size for _, name, op in uses)
        kind, keep = "kv" if direct else "latent", None
        whole = all(value is (op.k if name == "key" else op.v) for _, name, op in uses)
        if whole and all(windows):
            kind, keep = "window", max(window for window in windows if window) - 1
        part = "latent" if len(roles) > 1 else role
        name = _unique(f"layer{layer}.{part}", found)
        rows: DimLike = P if keep is None else symbol(f"W{keep}")
        shape = tuple(rows if i == axis.axis else dim for i, dim in enumerate(value.shape))
        spec = StateSpec(
            name,
            kind,
            TensorType(value.dtype, shape),
            axis.axis,
            keep,
            layer,
            value.op.loc if value.op else "",
        )
        found.kept[value] = Kept(value, spec)
    for step in found.graph.ops:
        count = len(found.carried)
        if isinstance(step, Conv1dCausal) and found.axes[step.result] is not None:
            taps = step.weight.shape[2]
            assert isinstance(taps, int)
            history = TensorType(step.x.dtype, (*step.x.shape[:2], taps - 1))
            found.carried[step] = StateSpec(
                f"conv{count}", "conv", history, 2, taps - 1, None, step.loc
            )
        elif isinstance(step, Scan) and found.axes[step.result] is not None:
            last = step.results[1].type
            found.carried[step] = StateSpec(
                f"scan{count}", "recurrent", last, None, None, None, step.loc
            )


def _unique(name: str, found: Analysis) -> str:
    taken = {kept.spec.name for kept in found.kept.values()}
    count = sum(other == name or other.startswith(f"{name}.") for other in taken)
    return name if not count else f"{name}.{count}"


def _sources(root: Value, kept: set[Value]) -> Iterator[Value]:
    """The state values that `root` is computed from."""
    stack, seen = [root], {root}
    while stack:
        value = stack.pop()
        if value in kept:
            yield value
        elif value.op is not None:
            fresh = [operand for operand in value.op.operands if operand not in seen]
            seen.update(fresh)
            stack.extend(fresh)


def _specs(found: Analysis) -> Iterator[StateSpec]:
    for kept in found.kept.values():
        yield kept.spec
    yield from found.carried.values()


class _Derivation:
    """Builds one graph on demand: `value(v, role)` is `v` in that role, computed once."""

    def __init__(self, analysis: Analysis, name: str) -> None:
        self.found = analysis
        self.builder = GraphBuilder(name)
        self.made: dict[tuple[Value, str], Value] = {}

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

    def needs(self, item: Value, role: str) -> list[tuple[Value, str]]:
        raise NotImplementedError

    def make(self, item: Value, role: str) -> None:
        raise NotImplementedError

    def place(self, op: Op, source: Op, role: str) -> None:
        """Put `op` in the graph as `source` in `role`."""
        self.builder.add(op)
        for old, new in zip(source.results, op.results, strict=True):
            self.made[old, role] = new

    def copy(
        self, op: Op, role: str, roles: Mapping[Value, str], dims: Mapping[str, DimLike]
    ) -> Op:
        """`op` on operands in their roles, with its sizes for this role."""
        # Operands and sizes change together: neither alone would fit the op's signature.
        changes = op.map_dims(dims)
        changes |= op.operand_changes(lambda value: self.made[value, roles.get(value, role)])
        if isinstance(op, Iota) and "start" not in changes:
            offset: DimLike = {"new": P, "last": LENGTH - 1}.get(role, 0)
            if offset != 0 and self.found.axes[op.result] is not None:
                changes["start"] = op.start + offset * op.step
        return op.replace(**changes) if changes else op


class _Decode(_Derivation):
    """tokens[B,T], past, state -> logits[B,T,V], state"""

    def __init__(self, analysis: Analysis) -> None:
        super().__init__(analysis, "decode")
        tokens = self.builder.input("tokens", TensorType(I64, (B, T)))
        self.builder.input("past", TensorType(I64, ()))
        self.made[analysis.graph.inputs[0], "new"] = tokens
        self.past = {
            spec.name: self.builder.input(spec.name, spec.type) for spec in _specs(analysis)
        }

    def derive(self) -> Graph:
        logits = self.value(self.found.graph.outputs[0], "new")
        outputs, names = [logits], ["logits"]
        for kept in self.found.kept.values():
            spec = kept.spec
            whole = self.value(kept.value, "all")
            if spec.keep is not None and spec.axis is not None:
                whole = self.builder.add(KeepLast(whole, spec.axis, spec.keep, loc=spec.loc))
            outputs.append(whole)
            names.append(f"{spec.name}.out")
        for op, spec in self.found.carried.items():
            outputs.append(self.carried_out(op, spec))
            names.append(f"{spec.name}.out")
        return self.builder.finish(outputs, names)

    def carried_out(self, op: Op, spec: StateSpec) -> Value:
        self.value(op.results[0], "new")
        if isinstance(op, Scan):
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
        roles = self.operand_roles(op, role)
        return [(value, roles.get(value, role)) for value in op.operands]

    def operand_roles(self, op: Op, role: str) -> dict[Value, str]:
        """The roles of operands that differ from their reader's."""
        if isinstance(op, Attention) and role == "new":
            return {value: "all" for value in (op.k, op.v, op.mask) if value is not None}
        return {}

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
        roles = self.operand_roles(op, role)
        if isinstance(op, Attention):
            return self.attend(op, roles)
        made = self.copy(op, role, roles, NEW if role == "new" else ALL)
        spec = self.found.carried.get(op)
        if spec is not None:
            name = "history" if isinstance(op, Conv1dCausal) else "initial"
            made = made.replace(**{name: self.past[spec.name]})
        return made

    def attend(self, op: Attention, roles: dict[Value, str]) -> Op:
        read = {name: self.made[getattr(op, name), "all"] for name in ("k", "v")}
        changes: dict[str, Value] = {"q": self.made[op.q, "new"], **read}
        for name in ("sinks", "slopes"):
            extra = getattr(op, name)
            if extra is not None:
                changes[name] = self.made[extra, "new"]
        if op.mask is not None:
            # A mask without a shorter description is computed for all rows; the new ones are the
            # last T.
            mask = self.made[op.mask, "all"]
            axis = mask.rank - 2
            changes["mask"] = (
                mask if mask.shape[axis] == 1 else Slice(mask, axis, P, P + T, loc=op.loc).result
            )
        return op.replace(**changes)


class _Prefill(_Derivation):
    """tokens[B,S] -> logits[B,1,V] of the last position, state"""

    def __init__(self, analysis: Analysis) -> None:
        super().__init__(analysis, "prefill")
        self.builder.inputs.append(analysis.graph.inputs[0])
        self.made[analysis.graph.inputs[0], "whole"] = analysis.graph.inputs[0]
        self.users = analysis.graph.users()

    def derive(self) -> Graph:
        logits = self.value(self.found.graph.outputs[0], "last")
        outputs, names = [logits], ["logits"]
        for kept in self.found.kept.values():
            spec = kept.spec
            rows = self.value(kept.value, "whole")
            if spec.keep is not None and spec.axis is not None:
                rows = self.builder.add(KeepLast(rows, spec.axis, spec.keep, loc=spec.loc))
            outputs.append(rows)
            names.append(f"{spec.name}.out")
        for op, spec in self.found.carried.items():
            outputs.append(self.carried_out(op, spec))
            names.append(f"{spec.name}.out")
        return self.builder.finish(outputs, names)

    def carried_out(self, op: Op, spec: StateSpec) -> Value:
        self.value(op.results[0], "whole")
        if isinstance(op, Scan):
            return self.made[op.results[1], "whole"]
        assert isinstance(op, Conv1dCausal)
        assert spec.keep is not None
        x = self.made[op.x, "whole"]
        before = Full(0.0, spec.type.shape, x.dtype, loc=op.loc).result
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
        roles = self.operand_roles(op, role)
        return [(value, roles.get(value, role)) for value in op.operands]

    def operand_roles(self, op: Op, role: str) -> dict[Value, str]:
        if isinstance(op, Attention) and role == "last":
            return {value: "whole" for value in (op.k, op.v, op.mask) if value is not None}
        return {}

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
            self.place(self.attend(op), op, role)
        else:
            self.place(self.copy(op, role, {}, LAST), op, role)

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

    def attend(self, op: Attention) -> Op:
        changes: dict[str, Value] = {"q": self.made[op.q, "last"]}
        for name in ("k", "v"):
            changes[name] = self.made[getattr(op, name), "whole"]
        for name in ("sinks", "slopes"):
            extra = getattr(op, name)
            if extra is not None:
                changes[name] = self.made[extra, "last"]
        if op.mask is not None:
            mask = self.made[op.mask, "whole"]
            row = Slice(mask, mask.rank - 2, LENGTH - 1, LENGTH, loc=op.loc).result
            changes["mask"] = mask if mask.shape[-2] == 1 else row
        return op.replace(**changes)
