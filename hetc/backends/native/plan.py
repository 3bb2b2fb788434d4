"""A half as blocks of stages.

The native engine runs both halves from the decode graph: prefill is decode from an empty state, a
chunk of the prompt at a time, with logits of the last token alone
(docs/decisions/0014-the-native-engine-runs-one-graph.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hetc.backends.dataflow.blocks import Run
from hetc.backends.native.expressions import is_expression
from hetc.backends.native.lower_ops import LOOKS, leaves, plan_op
from hetc.backends.native.model import Model, Refused
from hetc.backends.native.scope import Scope
from hetc.backends.native.values import LOGITS, Block, HalfValues, T
from hetc.backends.native.views import B, View, like
from hetc.bundle.contract import Phase
from hetc.errors import Reason
from hetc.ir.dims import product
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.norm import LayerNorm, RMSNorm
from hetc.ir.ops.shape import Reshape, Transpose

TOKENS = "tokens"


class Planner:
    """Turns the blocks of a model into stages, for one half."""

    def __init__(self, model: Model, half: Phase) -> None:
        self.model = model
        self.values = HalfValues(model, prefill=half == "prefill")
        self.refused: list[Reason] = []
        self.logit_columns = 0
        self._unknown: set[Value] = set()

    def plan(self) -> None:
        """Plan every block; what cannot be done is in `refused`."""
        half = self.values
        graph = self.model.graph
        tokens = next(value for value in graph.inputs if value.name == TOKENS)
        half.views[tokens] = View("tokens", (B, T), (T, 1))
        logits = graph.outputs[graph.output_names.index(LOGITS)]
        place = self._prepare_logits(logits)
        for scope, region in zip(self.model.scopes, self.model.storage.regions, strict=True):
            half.region = region
            self._plan_run(scope)
        if logits in half.views and half.views[logits].buffer != LOGITS:
            found = half.views[logits]
            if found.shape != place.shape:
                found = found.sliced(1, T - 1, 1)
            half.copy(found, place)
        self._require_whole_states()

    # Blocks.

    def _prepare_logits(self, logits: Value) -> View:
        """Where the logits go: rows of whole tiles, which the runtime cuts to the vocabulary."""
        half = self.values
        if half.prefill and self.model.scopes:
            half.last = _last_rows(self.model, logits)
        batch, tokens, columns = logits.shape
        assert isinstance(columns, int)
        tokens = 1 if half.prefill else tokens
        self.logit_columns = width = -(-columns // 16) * 16
        place = View(LOGITS, (batch, tokens, columns), (tokens * width, width, 1))
        if half.shape(logits) == place.shape:
            half.targets[logits] = place
        return place

    def _plan_run(self, scope: Scope) -> None:
        half, run = self.values, scope.run
        carried = self._enter(scope)
        block = Block(run.repeat)
        half.blocks.append(block)
        inside = self._inside(scope)
        for formal, _ in self._fixed_states(scope):
            half.views[formal] = half.memory.states.whole(scope, formal)
        for op in run.ops:
            dynamic = any(scope.kind(value) == "dynamic" for value in op.results)
            if not dynamic or op in inside:
                continue
            if any(value in self._unknown for value in leaves(op, inside)[0]):
                self._unknown.update(op.results)
                continue
            half.origin = f"{op.kind} {op.loc}".strip()
            try:
                plan_op(self.values, scope, op, inside)
            except Refused as refused:
                self.refused.append(refused.reason)
                self._unknown.update(op.results)
        for formal, result in carried.items():
            if result in half.views and half.views[result] != half.views[formal]:
                half.copy(half.views[result], half.views[formal])
        for formal, result in self._fixed_states(scope):
            if result in half.views:
                half.copy(half.views[result], half.views[formal])
        self._leave(scope, carried)

    def _fixed_states(self, scope: Scope) -> Iterator[tuple[Value, Value]]:
        """States of one size, however many tokens there were, and what they become."""
        outputs = set(scope.run.graph.outputs)
        for out in scope.run.outs:
            formal = scope.run.states[out.tensor]
            batch, *sizes = formal.shape or (0,)
            if batch == B and all(isinstance(size, int) for size in sizes) and out.keep is None:
                made = (value for value in out.op.results if value in outputs)
                yield formal, next(value for value in made if value.type == formal.type)

    def _enter(self, scope: Scope) -> dict[Value, Value]:
        """Give the inputs of a called graph their views; input -> the result that is handed on."""
        half, run, carried = self.values, scope.run, {}
        for formal, args in run.entries.items():
            if scope.kind(formal) != "dynamic" or args[0] not in half.views:
                continue
            if len(args) == 1:
                half.views[formal] = half.views[args[0]]
                continue
            first = half.views[args[0]]
            view = like(first, half.light("carried", product(first.shape)))
            if not half.blocks or half.blocks[-1].times > 1:
                half.blocks.append(Block(1))
            half.copy(first, view)
            half.views[formal] = view
            result = run.graph.outputs[args[1].index]
            carried[formal] = result
            if _may_overwrite(run, formal, result):
                half.targets[result] = view
        return carried

    def _leave(self, scope: Scope, carried: Mapping[Value, Value]) -> None:
        half = self.values
        if not scope.run.calls:
            return
        for value, inner in zip(scope.run.calls[-1].results, scope.run.graph.outputs, strict=True):
            home = next((formal for formal, result in carried.items() if result is inner), inner)
            if home in half.views:
                half.views[value] = half.views[home]
            if inner in self._unknown:
                self._unknown.add(value)

    def _inside(self, scope: Scope) -> frozenset[Op]:
        """Elementwise ops that only one other needs: they are computed where it is."""
        half = self.values
        users, ops = scope.run.graph.users(), set(scope.run.ops)
        outputs = set(scope.run.graph.outputs)
        found = set()
        for op in scope.run.ops:
            if not is_expression(op) or op.result in outputs or scope.kind(op.result) != "dynamic":
                continue
            readers = users.get(op.result, [])
            if len(readers) == 1 and readers[0] in ops and is_expression(readers[0]):
                same = readers[0].result.shape == op.result.shape
                if same and (op in half.last) == (readers[0] in half.last):
                    found.add(op)
        return frozenset(found)

    def _require_whole_states(self) -> None:
        """Every state must have a place: attention reads it, or it is of one size."""
        for scope in self.model.scopes:
            for name, formal in scope.run.states.items():
                out = next((out for out in scope.run.outs if out.tensor == name), None)
                if out is None or not self.values.memory.states.is_held(scope, formal):
                    at = out.op.loc if out is not None else name
                    text = "the native engine has no place for this state"
                    self.refused.append(Reason("HETC-E042", text, at=at))


def _may_overwrite(run: Run, formal: Value, result: Value) -> bool:
    """Whether `result` may be written where the input `formal` was: nothing reads that any more."""
    op = result.op
    if op is None or not is_expression(op) or isinstance(op, Cast) or result.type != formal.type:
        return False
    readers = run.graph.users().get(formal, [])
    places = run.places
    return all(not isinstance(user, LOOKS) and places[user] <= places[op] for user in readers)


def _last_rows(model: Model, logits: Value) -> frozenset[Op]:
    """The ops of the last block that nothing but the logits needs: for the last token they work on
    its row alone."""
    if model.scopes[-1].run.calls:
        return frozenset()
    whole: set[Op] = set()
    while True:
        found = _needed_last(model.scopes[-1], logits, whole)
        # Products of one input run as one, of as many rows: those beside one that needs all, too.
        torn = {op for op in found if not found.issuperset(model.matrices.get(op, ()))}
        if not torn:
            return found
        whole |= torn


def _needed_last(scope: Scope, logits: Value, whole: set[Op]) -> frozenset[Op]:
    """The ops that nothing but the logits needs, where those of `whole` work on all rows."""
    users, ops = scope.run.graph.users(), set(scope.run.ops)
    found: set[Op] = set()
    for op in reversed(scope.run.ops):
        if op in whole:
            continue
        needed = op.result is logits or (
            op.result in users and all(user in found for user in users[op.result])
        )
        rowwise = is_expression(op) or isinstance(
            op, Linear | RMSNorm | LayerNorm | Reshape | Transpose | Embedding | Cast
        )
        dynamic = [value for value in op.operands if scope.kind(value) == "dynamic"]
        cut = all(T in value.shape for value in dynamic)
        if needed and rowwise and cut and scope.kind(op.result) == "dynamic" and op in ops:
            found.add(op)
    # What has tokens merged with other axes cannot be cut at its operands.
    return frozenset(found)
