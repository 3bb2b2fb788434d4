"""Passes run in order, are checked, and are named when they fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hetc.errors import HetcError, InternalError, StateError, UsageError
from hetc.ir.graph import Graph, Program
from hetc.ir.op import Value
from hetc.ir.verify import Stage
from hetc.passes.manager import Item, Pass, PassOptions, check_order, on_graphs, run_passes
from hetc.passes.registry import PIPELINES, load_pass, load_pipeline, pass_names
from tests.golden import Golden
from tests.passes.blocks import Block, random_weights, stack


def broken(change: Callable[[Graph], Graph]) -> Pass:
    return Pass("broken", on_graphs(lambda graph, _: change(graph)), "A pass that fails.")


def backwards(graph: Graph) -> Graph:
    return Graph(graph.name, graph.inputs, graph.ops[::-1], graph.outputs, graph.output_names)


def divide(graph: Graph) -> Graph:
    raise ZeroDivisionError(f"division of {graph.name} by zero")


def unsupported(graph: Graph) -> Graph:
    raise StateError("HETC-S014", "decode cannot be derived: for a test", at="layers.0")


def failure(step: Pass) -> HetcError:
    with pytest.raises(HetcError) as caught:
        run_passes([*load_pipeline("simplify,lift-norms"), step], stack([Block()]))
    return caught.value


def test_every_pass_is_listed_in_order_and_described() -> None:
    assert list(pass_names()) == sorted(pass_names())
    for name in pass_names():
        found = load_pass(name)
        assert found.name == name
        assert len(found.summary) > 20
        assert found.summary.endswith(".")
    for name in PIPELINES:
        check_order(load_pipeline(name))


def test_a_pipeline_may_stand_among_passes() -> None:
    names = [step.name for step in load_pipeline("inline-calls, canonicalize ,prove-causal")]
    assert names == ["inline-calls", *PIPELINES["canonicalize"], "prove-causal"]


def test_the_default_pipeline_makes_a_program_with_layers() -> None:
    graph = stack([Block()] * 3)
    program = run_passes(load_pipeline("default"), graph, PassOptions(random_weights(graph), 64))
    assert isinstance(program, Program)
    assert [op.kind for op in program.decode.ops].count("call") == 3
    # The source stays as it is: prefill and decode are what runs.
    assert "call" not in {op.kind for op in program.forward.ops}


def test_a_pass_over_graphs_changes_both_halves_of_a_program() -> None:
    graph = stack([Block()] * 3)
    program = run_passes(load_pipeline("default"), graph, PassOptions(random_weights(graph), 64))
    inlined = run_passes([load_pass("inline-calls")], program)
    assert isinstance(program, Program)
    assert isinstance(inlined, Program)
    assert inlined.forward is program.forward
    for half in (inlined.prefill, inlined.decode):
        assert "call" not in {op.kind for op in half.ops}


def test_a_graph_that_breaks_a_rule_is_refused_before_the_first_pass() -> None:
    with pytest.raises(HetcError) as caught:
        run_passes(load_pipeline("simplify"), backwards(stack([Block()])))
    assert not isinstance(caught.value, InternalError)
    assert caught.value.exit_code == 2


def test_a_pass_that_breaks_the_ir_is_named(golden: Golden) -> None:
    error = failure(broken(backwards))
    assert isinstance(error, InternalError)
    assert (error.exit_code, error.code) == (3, "HETC-X110")
    golden("errors/broken-rule.txt", error.render())


def test_a_pass_that_raises_is_named(golden: Golden) -> None:
    error = failure(broken(divide))
    assert (error.exit_code, error.code) == (3, "HETC-Z001")
    assert isinstance(error.__cause__, ZeroDivisionError)
    golden("errors/failed-pass.txt", error.render())


def test_what_a_pass_says_about_the_model_stays_as_it_is() -> None:
    error = failure(broken(unsupported))
    assert isinstance(error, StateError)
    assert error.render().splitlines()[0] == (
        "error[HETC-S014]: decode cannot be derived: for a test"
    )
    assert error.__notes__ == ["in the pass broken, after simplify, lift-norms"]


def test_missing_weights_are_no_fault_of_a_pass() -> None:
    graph = stack([Block(mask="attention")])
    with pytest.raises(HetcError) as caught:
        run_passes(load_pipeline("default"), graph_with_table_mask(graph))
    assert caught.value.code == "HETC-X020"
    assert caught.value.exit_code == 2


def graph_with_table_mask(graph: Graph) -> Graph:
    """The mask `and`ed with a table of weights, of which a text file has no data."""
    from hetc.ir.graph import rebuild
    from hetc.ir.op import Op
    from hetc.ir.ops.attention import Attention
    from hetc.ir.ops.binary import And
    from hetc.ir.ops.source import Weight
    from hetc.ir.types import BOOL, TensorType

    def step(op: Op) -> Op | tuple[Value, ...] | None:
        if not isinstance(op, Attention) or op.mask is None:
            return None
        table = Weight("table", TensorType(BOOL, (1, 1, 1, 1))).result
        return op.replace(mask=And(op.mask, table).result)

    return rebuild(graph, step)


@pytest.mark.parametrize(
    ("names", "golden_name"),
    [("lift-norm", "no-such-pass"), ("synthesize-state", "too-early")],
)
def test_bad_pipelines_get_one_clear_error(names: str, golden_name: str, golden: Golden) -> None:
    with pytest.raises(UsageError) as caught:
        run_passes(load_pipeline(names), stack([Block()]))
    golden(f"errors/{golden_name}.txt", caught.value.render())


def test_a_program_has_no_forward_pass() -> None:
    graph = stack([Block()])
    options = PassOptions(random_weights(graph), 64)
    program = run_passes(load_pipeline("default"), graph, options)
    with pytest.raises(UsageError, match="HETC-U021"):
        run_passes(load_pipeline("prove-causal"), program, options)


def test_the_verifier_holds_a_result_to_the_stage_of_its_pass() -> None:
    def keep(item: Item, options: PassOptions) -> Item:
        return item

    # As imported, the stack still has ops that the canonical stage forbids: none are unused here,
    # so an identity cast is put in.
    from hetc.ir.ops.unary import Cast

    graph = stack([Block()])
    same = Cast(graph.outputs[0], graph.outputs[0].dtype)
    casted = Graph("forward", graph.inputs, (*graph.ops, same), (same.result,), ("logits",))
    assert run_passes([Pass("keep", keep, "")], casted) is casted
    with pytest.raises(InternalError, match="HETC-X120"):
        run_passes([Pass("keep", keep, "", stage=Stage.CANONICAL)], casted)
