"""How a graph is cut: levels, order, effects, views; on graphs written as ATen calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from hetc.interop.assemble import assemble
from hetc.interop.regions import Region, cut_regions

aten = torch.ops.aten


def traced(fn: Callable[..., Any], *args: torch.Tensor) -> GraphModule:
    module: GraphModule = make_fx(fn, tracing_mode="fake")(*args)
    return module


def cut(module: GraphModule, *eager: str) -> list[str]:
    """The cut as text, where PyTorch must run the ops named."""
    refused = {n for n in module.graph.nodes if str(n.target).removeprefix("aten.") in eager}
    return [
        f"[{' '.join(node.name for node in item.nodes)}]" if isinstance(item, Region) else item.name
        for item in cut_regions(module, refused)
    ]


def test_one_region_holds_all_that_it_can() -> None:
    module = traced(lambda x, y: (x.exp() * y, y.sin()), torch.ones(2), torch.ones(2))
    assert cut(module) == ["x_1", "y_1", "[exp mul sin]"]


def test_a_node_goes_into_the_earliest_part_that_has_what_it_reads() -> None:
    module = traced(lambda x: (x.exp().sin() + 1, x.cos()), torch.ones(2))
    assert cut(module, "sin.default") == ["x_1", "[exp cos]", "sin", "[add]"]


def test_no_part_waits_for_itself() -> None:
    """exp and mul could stand together, if what lies between them did not need one of them."""
    module = traced(lambda x: x.exp() * x.exp().sin(), torch.ones(2))
    assert cut(module, "sin.default") == ["x_1", "[exp exp_1]", "sin", "[mul]"]


def test_random_ops_keep_their_order() -> None:
    def fn(x: torch.Tensor) -> Any:
        first = aten.bernoulli.p(x.exp(), 0.5)
        return first + 1, aten.bernoulli.p(x, 0.5)

    found = cut(traced(fn, torch.ones(2)), "bernoulli.p")
    assert found == ["x_1", "[exp]", "bernoulli", "bernoulli_1", "[add]"]


def test_nothing_moves_across_a_write() -> None:
    def fn(x: torch.Tensor) -> Any:
        before = x.exp()
        aten.copy_.default(x, before)
        return before.sin(), x.cos()

    assert cut(traced(fn, torch.ones(2))) == ["x_1", "[exp]", "copy_", "[sin cos]"]


def test_views_that_leave_a_region_are_made_outside_as_well() -> None:
    module = traced(lambda x: (lambda y: (y.t(), y.t().exp()))(x.sin()), torch.ones(2, 3))
    found = cut(module)
    assert found[:2] == ["x_1", "[sin t_1 exp]"]
    assert len(found) == 3


def test_an_assembled_module_runs_what_was_cut() -> None:
    x = torch.randn(2, 3)
    module = traced(lambda x: (x.exp().sin() + 1, x.cos().t()), x)
    order = cut_regions(module, {n for n in module.graph.nodes if "sin.default" in str(n.target)})
    wanted = module(x)

    class Call:
        """Runs the nodes of a region by themselves."""

        def __init__(self, region: Region) -> None:
            self.__name__ = f"region_{region.number}"
            self.region = region

        def __call__(self, *given: torch.Tensor) -> list[Any]:
            made = dict(zip(self.reads(), given, strict=True))
            for node in self.region.nodes:
                target: Any = node.target
                made[node] = target(*(made.get(a, a) for a in node.args))
            return [made[node] for node in self.region.outputs]

        def reads(self) -> list[Any]:
            inside = set(self.region.nodes)
            read = (item for node in self.region.nodes for item in node.all_input_nodes)
            return list(dict.fromkeys(item for item in read if item not in inside))

    made = [Call(item) for item in order if isinstance(item, Region)]
    whole = assemble(module, order, {call.region.number: (call, call.reads()) for call in made})
    for ours, theirs in zip(whole(x), wanted, strict=True):
        assert torch.equal(ours, theirs)
    assert len(made) == 2
