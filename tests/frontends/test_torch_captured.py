"""Parts of captured graphs as graphs of the IR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from hetc.errors import Reason
from hetc.frontends.torch_export import Part, Size, import_part, reasons_against
from hetc.ir.interpret import interpret
from hetc.ir.op import Op
from hetc.ir.text import print_graph
from hetc.ir.verify import problems


def captured(fn: Callable[..., Any], *args: torch.Tensor) -> GraphModule:
    """`fn` with every size of `args` above 1 a symbol."""
    module: GraphModule = make_fx(fn, tracing_mode="symbolic")(*args)
    return module


def takes_all(op: Op) -> Reason | None:
    return None


def part_of(module: GraphModule, *names: str) -> Part:
    nodes = [n for n in module.graph.nodes if n.name in names]
    rank = len(nodes[-1].meta["val"].shape)
    found = import_part(module, nodes, [(nodes[-1], tuple(range(rank)))], {}, "part")
    assert isinstance(found, Part), found
    assert not problems(found.graph)
    return found


def test_what_others_made_is_an_input() -> None:
    module = captured(lambda x: x.sin().exp() * 2, torch.ones(3, 4))
    part = part_of(module, "exp", "mul")
    assert [getattr(item, "name", "") for item in part.inputs] == ["sin"]
    assert "%sin: f32[N0,N1]" in print_graph(part.graph)
    assert part.sizes == {"N0": 3, "N1": 4}
    x = np.array([[0.5, 1.0]], np.float32)
    (made,) = interpret(part.graph, [x])
    np.testing.assert_allclose(made, np.exp(x) * 2, rtol=1e-6)


def test_a_size_that_no_tensor_shows_is_an_input_of_its_own() -> None:
    module = captured(lambda x: torch.arange(x.shape[0]) + 1, torch.ones(3))
    names = [n.name for n in module.graph.nodes if n.op == "call_function"]
    part = part_of(module, *[n for n in names if n in ("arange", "add")])
    (size,) = part.inputs
    assert isinstance(size, Size)
    assert [str(value.type) for value in part.graph.inputs] == ["bool[N0,0]"]
    (made,) = interpret(part.graph, [np.empty((4, 0), np.bool_)])
    assert made.tolist() == [1, 2, 3, 4]


def test_outputs_come_with_their_axes_as_they_are_wanted() -> None:
    module = captured(lambda x: x.exp(), torch.ones(2, 3))
    (node,) = [n for n in module.graph.nodes if n.name == "exp"]
    part = import_part(module, [node], [(node, (1, 0))], {}, "part")
    assert isinstance(part, Part)
    (made,) = interpret(part.graph, [np.zeros((2, 3), np.float32)])
    assert made.shape == (3, 2)


def test_a_parameter_is_a_weight() -> None:
    module = captured(lambda x, w: x @ w.t(), torch.ones(2, 3), torch.ones(4, 3))
    # Parameters have sizes of their own that never change.
    fake = FakeTensorMode(shape_env=ShapeEnv())
    (w,) = [n for n in module.graph.nodes if n.name == "w_1"]
    w.meta["val"] = fake.from_tensor(torch.ones(4, 3), static_shapes=True)
    refused, graph = reasons_against(module, {w: "w"}, takes_all)
    assert "weight" in print_graph(graph)
    assert all(reason.code.startswith("HETC-") for reason in refused.values())


def test_a_node_that_is_refused_leaves_nothing_behind() -> None:
    def no_exp(op: Op) -> Reason | None:
        return Reason("HETC-E010", "no exp here") if op.kind == "exp" else None

    module = captured(lambda x: x.exp().sin() + torch.linalg.qr(x)[0].sum(), torch.ones(3, 3))
    refused, graph = reasons_against(module, {}, no_exp)
    assert {node.name: reason.code for node, reason in refused.items()} == {
        "exp": "HETC-E010",
        "linalg_qr": "HETC-I210",
    }
    kinds = [op.kind for op in graph.ops]
    assert "exp" not in kinds
    assert "opaque" not in kinds
    assert "sin" in kinds
