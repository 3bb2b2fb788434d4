"""`torch.compile(model, backend="hetc")`: what Dynamo calls with every graph that it captures."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hetc.errors import BackendError, Reason
from hetc.frontends.torch_export import makes_tensors
from hetc.interop.captured import Captured
from hetc.interop.lower import lower
from hetc.interop.options import Options
from hetc.interop.phase import ROWS, growing_results
from hetc.interop.recorder import RECORDER, GraphRecord
from hetc.interop.report import GraphBreak
from hetc.interop.summary import summary

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_log = logging.getLogger("hetc")
# How a line of a Python traceback begins.
_LINE = re.compile(r'File "(.+)", line (\d+), in (\S+)')


def backend(
    module: GraphModule, inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """A function that runs the captured `module`, with PyTorch itself where gradients are wanted.

    Raises UsageError (HETC-U040) for options that cannot be, and under `strict` BackendError.
    """
    from torch._dynamo.backends.common import aot_autograd

    chosen = Options.of(options)
    sources = _sources(module)
    record = GraphRecord(_compile_id(), _place(module), _graph_break(module))

    def infer(functional: GraphModule, examples: Sequence[Any]) -> Callable[..., Any]:
        return _boxed(_infer(functional, examples, chosen, sources, record))

    def train(functional: GraphModule, examples: Sequence[Any]) -> Callable[..., Any]:
        _leave_to_autograd(functional, chosen, record)
        return _boxed(functional.forward)

    compiled: Callable[..., Any] = aot_autograd(
        fw_compiler=train,
        bw_compiler=train,
        inference_compiler=infer,
        keep_inference_input_mutations=True,
    )(module, inputs)
    # Only now: Dynamo gives some graphs up half-way and begins anew.
    RECORDER.add(record)
    return compiled


backend.reset = RECORDER.clear  # type: ignore[attr-defined]


def _infer(
    functional: GraphModule,
    examples: Sequence[Any],
    options: Options,
    sources: Sequence[tuple[str, bool]],
    record: GraphRecord,
) -> Callable[..., Any]:
    from torch._dynamo import config, maybe_mark_dynamic

    names: dict[Node, str] = {}
    parameters: dict[Node, str] = {}
    for node in functional.graph.find_nodes(op="placeholder"):
        index = getattr(node.meta.get("desc"), "idx", None)
        if index is None:
            continue
        names[node], is_static = sources[index]
        is_written = any(
            getattr(user.target, "_schema", None) and user.target._schema.is_mutable
            for user in node.users
        )
        if is_static and not is_written:
            parameters[node] = names[node]
    captured = Captured(functional, examples, options, names, parameters)
    run = lower(captured, record)
    # Not under `dynamic=False`.
    may_grow = record.phase == "prefill" and config.automatic_dynamic_shapes
    growing = growing_results(functional) if may_grow else []

    def call(*given: Any) -> Any:
        record.calls += 1
        results = run(*given)
        for place in growing:
            maybe_mark_dynamic(results[place], ROWS)
        if RECORDER.is_first("call"):
            _log.warning("%s", summary(record.report()))
        return results

    return call


def _sources(module: GraphModule) -> list[tuple[str, bool]]:
    """Name and whether it is a parameter or buffer, of every input."""
    found = []
    for node in module.graph.find_nodes(op="placeholder"):
        static = (node.meta.get("tensor_dict") or {}).get("_dynamo_static_input_type")
        found.append((node.name, static is not None))
    return found


def _compile_id() -> str:
    from torch._guards import CompileContext

    return str(CompileContext.current_compile_id() or "")


def _place(module: GraphModule) -> str:
    """File, line and function of the first op that was captured."""
    for node in module.graph.nodes:
        found = _LINE.search(node.meta.get("stack_trace") or "")
        if found:
            return "{}:{} in {}".format(*found.groups())
    return ""


def _graph_break(module: GraphModule) -> GraphBreak | None:
    found = getattr(module, "compile_subgraph_reason", None)
    if found is None or not found.graph_break:
        return None
    line = found.user_stack[-1] if found.user_stack else None
    place = f"{line.filename}:{line.lineno} in {line.name}" if line else ""
    return GraphBreak(found.reason.partition("\n")[0], place)


def _boxed(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` under the convention by which AOTAutograd frees arguments early."""

    def boxed(given: list[Any]) -> Any:
        arguments = tuple(given)
        given.clear()
        return run(*arguments)

    boxed._boxed_call = True  # type: ignore[attr-defined]
    return boxed


def _leave_to_autograd(module: GraphModule, options: Options, record: GraphRecord) -> None:
    """Note that PyTorch runs a forward or backward graph; an error under `strict`."""
    reason = Reason("HETC-E019", "hetc compiles no gradients: PyTorch runs the graph")
    if options.strict:
        raise BackendError(
            reason.code,
            "hetc compiles no gradients",
            at=record.place,
            found="an input or a parameter that requires grad",
            do="call the model under torch.no_grad() or torch.inference_mode()",
        )
    ops = sum(node.op == "call_function" and makes_tensors(node) for node in module.graph.nodes)
    record.ops += ops
    record.fall_back("autograd", reason, ops)
    if RECORDER.is_first("autograd"):
        _log.warning(
            "hetc compiles no gradients: PyTorch runs what requires grad, here %s", record.place
        )
