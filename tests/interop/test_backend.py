"""The backend's own promises: options, training, parameters, random ops, breaks, the report."""

from __future__ import annotations

import logging
import threading
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed

import hetc
from hetc.errors import BackendError, HetcError, Reason, TargetError, UsageError
from hetc.interop import backend, last_report, lower
from hetc.interop.captured import Captured
from hetc.interop.onnx_runner import OnnxRunner
from hetc.interop.report import RegionReport
from hetc.interop.runner import WholeGraph
from hetc.ir.graph import Graph
from tests.interop.compiled import compare, compiled, executors, same

F = nn.functional


@torch.library.custom_op("hetc_tests::odd", mutates_args=())
def odd(x: torch.Tensor) -> torch.Tensor:
    """An op that hetc cannot know."""
    return x * 3 - 1


@odd.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def test_the_entry_point_is_the_backend() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    path = project["project"]["entry-points"]["torch_dynamo_backends"]["hetc"]
    module, _, name = path.partition(":")
    assert getattr(import_module(module), name) is backend


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"prefil": "h200"}, UsageError, "prefill, decode, link, executor, strict"),
        ({"strict": 1}, UsageError, "the option strict is of another type"),
        ({"executor": "gpu"}, UsageError, "native, onnx, reference"),
        ({"decode": "abacus"}, TargetError, "abacus"),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[HetcError], says: str) -> None:
    with pytest.raises(BackendCompilerFailed) as found, torch.no_grad():
        compiled(lambda x: x + 1, options)(torch.ones(2))
    assert isinstance(found.value.inner_exception, error)
    assert says in str(found.value.inner_exception)


def test_the_reference_executor_runs_regions() -> None:
    report = compare(
        lambda x: (x @ x.t()).softmax(-1), torch.randn(3, 4), options={"executor": "reference"}
    )
    assert executors(report) == ["reference"]


def test_marks_are_those_of_the_target_of_the_phase() -> None:
    table, ids = torch.randn(50, 64), torch.tensor([[1, 2, 3]])

    def region(target: str) -> RegionReport:
        report = compare(lambda ids: table[ids] @ table.t(), ids, options={"prefill": target})
        return report.graphs[0].regions[0]

    here, there = region("h200"), region("sn40l")
    assert here.placed == {"h200": sum(here.marks.values())}
    assert there.placed == {"sn40l": sum(there.marks.values())}
    assert here.estimated_s != there.estimated_s > 0


def test_graphs_without_phase_are_cut() -> None:
    x, w = torch.rand(1024, 1024) / 1024, torch.rand(1024, 1024)

    def region(prefill: str, decode: str) -> RegionReport:
        options = {"prefill": prefill, "decode": decode}
        return compare(lambda x, w: x @ w, x, w, options=options).graphs[0].regions[0]

    # The one with the higher rate in f32 has it, whatever its role is.
    one, other = region("h200", "l40s"), region("l40s", "h200")
    assert one.placed == other.placed == {"l40s": 1}
    assert one.estimated_s == other.estimated_s > 0
    assert one.uncut is None


def test_what_fits_nowhere_is_not_cut(tmp_path: Path) -> None:
    small = tmp_path / "small.toml"
    known = (Path(hetc.__file__).parent / "targets" / "l40s.toml").read_text()
    small.write_text(known.replace("bytes = { value = 48e9", "bytes = { value = 1e6", 1))
    options = {"prefill": str(small), "decode": str(small)}
    model = nn.Linear(1024, 1024)
    (region,) = compare(model, torch.randn(2, 1024), options=options).graphs[0].regions
    assert region.executor == "onnx"
    assert region.uncut is not None
    assert region.uncut.code == "HETC-P010"
    assert region.placed == {"l40s": sum(region.marks.values())}


def test_gradients_are_pytorchs(caplog: pytest.LogCaptureFixture) -> None:
    x, weight = torch.randn(3, 4), torch.randn(4, 2)
    grads = []

    def fn(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (x @ w).relu().sum()

    ours = compiled(fn)
    for run in (ours, ours, fn):
        w = weight.clone().requires_grad_()
        torch.autograd.backward(run(x, w))
        grads.append(w.grad)
    same(grads[0], grads[2])
    same(grads[1], grads[2])
    (graph,) = last_report().graphs
    assert not graph.regions
    assert [(item.op, item.reason.code) for item in graph.fallbacks] == [("autograd", "HETC-E019")]
    assert [r.message for r in caplog.records if "no gradients" in r.message] != []
    assert len([r for r in caplog.records if "no gradients" in r.message]) == 1


def test_gradients_are_refused_when_strict() -> None:
    with pytest.raises(BackendCompilerFailed) as found:
        compiled(lambda x: x * 2, {"strict": True})(torch.ones(2, requires_grad=True))
    error = found.value.inner_exception
    assert isinstance(error, BackendError)
    assert error.code == "HETC-E019"


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_parameters_that_require_grad_do_not_matter_without_it(mode: Any) -> None:
    model = nn.Linear(4, 3)
    x = torch.randn(2, 4)
    with mode():
        same(compiled(model, {"strict": True})(x), model(x))
    assert executors(last_report()) == ["onnx"]


def test_strict_names_the_op_and_the_reason() -> None:
    with pytest.raises(BackendCompilerFailed) as found, torch.no_grad():
        compiled(lambda x: odd(x) + 1, {"strict": True})(torch.ones(2))
    error = found.value.inner_exception
    assert isinstance(error, BackendError)
    assert error.code == "HETC-E018"
    assert "HETC-I210 hetc_tests.odd.default" in error.found


def test_what_hetc_does_not_know_runs_between_regions() -> None:
    report = compare(lambda x: odd(x.exp() + 1) * 2 + odd(x), torch.randn(3, 3))
    (graph,) = report.graphs
    assert [region.executor for region in graph.regions] == ["onnx", "onnx"]
    (found,) = graph.fallbacks
    assert (found.op, found.count) == ("hetc_tests.odd.default", 2)


def test_parameters_may_be_written_and_replaced_between_calls() -> None:
    model = nn.Linear(4, 3)
    ours = compiled(model)
    x = torch.randn(2, 4)
    with torch.no_grad():
        same(ours(x), model(x))
        model.weight.mul_(2)
        same(ours(x), model(x))
        # No version counter notices this one.
        model.weight.data.fill_(0.5)
        same(ours(x), model(x))
        model.weight = nn.Parameter(torch.randn(3, 4))
        same(ours(x), model(x))


def test_random_ops_draw_the_same_numbers() -> None:
    """In the order of the program, whatever stands between them."""

    def fn(x: torch.Tensor) -> Any:
        first = F.dropout(x.exp(), 0.5, training=True)
        return first * 2, torch.rand_like(x) + first.sum(), torch.randn(3) + 1

    x = torch.randn(4, 4)
    made = []
    for run in (compiled(fn), fn):
        torch.manual_seed(3)
        with torch.no_grad():
            made.append([run(x), run(x)])
    same(made[0], made[1])
    codes = {item.op: item.reason.code for item in last_report().fallbacks}
    assert codes["aten.rand_like.default"] == "HETC-I241"


def test_dropout_without_training_is_compiled() -> None:
    report = compare(lambda x: F.dropout(x, 0.5, training=False) + 1, torch.randn(3))
    assert not report.fallbacks


def test_graph_breaks_are_told_with_their_cause() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x.sin()
        torch._dynamo.graph_break()
        return y.cos()

    report = compare(fn, torch.randn(3))
    assert len(report.graphs) == 2
    (found,) = report.graph_breaks
    assert "graph_break" in found.reason
    assert found.place.startswith(__file__)
    assert all(graph.place.startswith(__file__) for graph in report.graphs)
    assert all(graph.calls == 2 for graph in report.graphs)


def test_one_line_at_the_first_call(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="hetc"):
        compare(lambda x: odd(x) + 1, torch.randn(3))
    (line,) = [r.message for r in caplog.records if r.name == "hetc"]
    assert line.startswith(f"hetc: {__file__}:")
    assert "1 region on onnx" in line
    assert "HETC-I210" in line
    assert "\n" not in line


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every region gives results that are 1 too large."""
    prepare = OnnxRunner.prepare

    def one_more(self: OnnxRunner, graph: Any) -> Any:
        run = prepare(self, graph)
        return lambda tensors: tuple(tensor + 1 for tensor in run(tensors))

    monkeypatch.setattr(OnnxRunner, "prepare", one_more)


@pytest.mark.usefixtures("spoiled")
def test_a_wrong_result_of_an_executor_is_caught() -> None:
    report = compare(lambda x: x.exp(), torch.randn(3))
    assert executors(report) == ["eager"]
    assert report.fallbacks[0].reason.code == "HETC-V005"
    with pytest.raises(HetcError, match="HETC-V005"), torch.no_grad():
        compiled(lambda x: x.exp(), {"strict": True})(torch.randn(3))


def test_rounding_of_pytorch_is_no_mistake_of_hetc() -> None:
    x = torch.rand(64).to(torch.bfloat16)
    run = compiled(lambda x: (x + 256) - 256)
    with torch.no_grad():
        assert torch.equal(run(x), x)
        assert not torch.equal((x + 256) - 256, x)
    report = last_report()
    assert executors(report) == ["onnx"]
    assert not report.fallbacks


@pytest.mark.usefixtures("spoiled")
def test_the_comparison_waits_for_a_call_that_succeeds() -> None:
    run = compiled(lambda x, i: x[i] * 2)
    x = torch.arange(3.0)
    with torch.no_grad():
        with pytest.raises(IndexError):
            run(x, torch.tensor([7, 8]))
        assert run(x, torch.tensor([1, 2])).tolist() == [2, 4]
    assert last_report().fallbacks[0].reason.code == "HETC-V005"


def test_a_mistake_in_lowering_a_region_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise AttributeError("a mistake")

    monkeypatch.setattr(lower, "lower_region", broken)
    report = compare(lambda x: x.exp() + 1, torch.randn(3))
    assert {fallback.reason.code for fallback in report.fallbacks} == {"HETC-Z002"}


def test_a_mistake_in_taking_a_whole_graph_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise TypeError("a mistake")

    monkeypatch.setattr(lower, "WHOLE_GRAPH_COMPILERS", {"native": broken})
    report = compare(lambda x: x.exp() + 1, torch.randn(3))
    assert [reason.code for reason in report.graphs[0].refusals] == ["HETC-Z002"]
    assert executors(report) == ["onnx"]


def test_a_mistake_in_a_table_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from hetc.frontends.torch_export.registry import TABLE

    def broken(*args: Any) -> Any:
        raise TypeError("a mistake")

    monkeypatch.setitem(TABLE, "exp.default", broken)
    report = compare(lambda x: x.exp() + 1, torch.randn(3))
    assert report.fallbacks[0].reason.code == "HETC-Z001"
    assert executors(report) == ["onnx"]


class Whole:
    """Runs a captured graph with PyTorch, and counts."""

    def __init__(self, captured: Captured) -> None:
        self.captured = captured
        self.calls = 0

    def __call__(self, *given: Any) -> Any:
        self.calls += 1
        return self.captured.module(*given)


def test_a_compiler_of_whole_graphs_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Whole] = []

    def takes(captured: Captured, otherwise: Any, tell: Any) -> WholeGraph | Reason:
        if seen:
            return Reason("HETC-X999", "not mine")
        seen.append(Whole(captured))
        return WholeGraph(seen[0], Graph("all", (), (), (), ()), {})

    monkeypatch.setattr(lower, "WHOLE_GRAPH_COMPILERS", {"native": takes})
    model = nn.Linear(4, 3)
    with torch.no_grad():
        x = torch.randn(2, 4)
        same(compiled(model)(x), model(x))
        (taken,) = last_report().graphs
        same(compiled(lambda x: x * 2)(x), x * 2)
        (other,) = last_report().graphs
    assert taken.whole is not None
    assert (taken.whole.executor, taken.whole_calls, taken.refusals) == ("native", 1, ())
    assert other.whole is None
    assert other.refusals == (Reason("HETC-X999", "not mine"),)
    names = sorted(seen[0].captured.parameters.values())
    assert len(names) == 2
    assert "bias" in names[0]
    assert "weight" in names[1]


def test_two_models_in_many_threads() -> None:
    models = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 2), nn.Tanh())]
    torch._dynamo.reset()
    ours = [torch.compile(model, backend=backend) for model in models]
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        try:
            with torch.no_grad():
                for step in range(20):
                    x = torch.randn(2 + step % 3, 4, generator=generator)
                    for mine, model in zip(ours, models, strict=True):
                        same(mine(x), model(x))
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_reset_of_dynamo_forgets_the_report() -> None:
    compare(lambda x: x + 1, torch.randn(3))
    assert last_report().graphs
    torch._dynamo.reset()
    assert not last_report().graphs


@torch.library.custom_op("hetc_tests::liar", mutates_args=())
def liar(x: torch.Tensor) -> torch.Tensor:
    """An op whose result is of another type than its fake tensor."""
    return x > 0


@liar.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def test_a_tensor_of_another_type_than_announced_is_not_read() -> None:
    x = torch.randn(5)
    with torch.no_grad():
        made = compiled(lambda x: liar(x).to(torch.bool, copy=True))(x)
    assert torch.equal(made, x > 0)
    reasons = [item.reason for item in last_report().fallbacks if "_to_copy" in item.op]
    assert [reason.code for reason in reasons] == ["HETC-E017"]
    assert "another type" in reasons[0].text
