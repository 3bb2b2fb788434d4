"""Inputs, outputs, names and refusals of the torch.export frontend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.export import Dim

from hetc.errors import InputError
from hetc.frontends.torch_export import import_exported, import_whole
from hetc.ir.interpret import interpret
from hetc.ir.text import print_graph
from tests.frontends.torch_models import assert_same, axes, export, ids, run
from tests.golden import Golden


class Net(torch.nn.Module):
    """A causal language model of one mixing layer; `forward` is given by each test."""

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(16, 8)
        self.head = torch.nn.Linear(8, 16, bias=False)
        self.cache = torch.nn.Buffer(torch.zeros(8))
        self.function = function

    def forward(self, input_ids: Tensor) -> Any:
        if self.function is not None:
            return self.function(self, input_ids)
        x = self.embed(input_ids)
        steps = torch.arange(1, input_ids.shape[1] + 1)[:, None]
        return self.head(torch.relu(x.cumsum(1) / steps))


class Biased(Net):
    def forward(self, input_ids: Tensor, bias: Tensor) -> Any:  # type: ignore[override]
        return self.head(self.embed(input_ids)) + bias


class Masked(Net):
    def forward(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> Any:  # type: ignore[override]
        x = self.embed(input_ids) * attention_mask[:, :, None]
        return {"hidden": x, "logits": self.head(x + position_ids[:, :, None])}


def small_ids(rows: int, length: int) -> Tensor:
    return ids(rows, length) % 16


def test_text_of_a_small_model(golden: Golden) -> None:
    golden("torch_net.txt", print_graph(import_exported(export_small(Net())).graph))


def export_small(module: torch.nn.Module, *extra: Tensor) -> torch.export.ExportedProgram:
    inputs = (small_ids(2, 12), *extra)
    return _export(module, inputs, tuple(axes() for _ in inputs))


def _export(
    module: torch.nn.Module, inputs: tuple[Tensor, ...], shapes: Any
) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(module.eval(), inputs, dynamic_shapes=shapes)


def test_masks_and_positions_are_bound_and_the_logits_found() -> None:
    module = Masked()
    mask, positions = (
        torch.ones(2, 12, dtype=torch.long),
        torch.arange(12).expand(2, 12).contiguous(),
    )
    imported = import_exported(export_small(module, mask, positions))
    assert imported.notes == (
        "the input attention_mask is bound to ones",
        "the input position_ids is bound to 0, 1, ... S-1",
        "1 other output of the program dropped",
    )
    tokens = small_ids(3, 5)
    given = (torch.ones_like(tokens), torch.arange(5).expand(3, 5))
    expected = module(tokens, *given)["logits"].detach().numpy()
    np.testing.assert_allclose(run(imported, tokens), expected, rtol=1e-5)


def test_a_static_batch_is_kept_and_noted() -> None:
    program = _export(Net(), (small_ids(2, 12),), ({1: Dim("seq", min=1)},))
    imported = import_exported(program)
    assert str(imported.graph.inputs[0].type) == "i64[2,S]"
    assert imported.notes == ("the program is exported for a batch of 2 only",)
    assert imported.max_sequence is None


MULTIPLES = ({0: Dim("batch", min=1), 1: 4 * Dim("k", min=1, max=9)},)


def test_a_sequence_in_multiples_keeps_its_name() -> None:
    imported = import_exported(_export(Net(), (small_ids(2, 12),), MULTIPLES))
    assert str(imported.graph.outputs[0].type) == "f32[B,S,16]"
    assert imported.max_sequence == 36
    assert imported.notes[0].startswith("the program takes only lengths S = 4*")
    tokens = small_ids(3, 8)
    np.testing.assert_allclose(
        run(imported, tokens), Net()(tokens).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_a_sequence_cut_into_chunks_is_refused() -> None:
    def forward(net: Net, input_ids: Tensor) -> Any:
        chunks = net.embed(input_ids).unflatten(1, (-1, 4))
        return net.head((chunks + chunks.cumsum(2)).flatten(1, 2))

    assert "is not a whole multiple of the input's axes" in _refused(
        Net(forward), (small_ids(2, 12),), MULTIPLES
    )


def test_a_program_with_deferred_guards_ends_where_it_takes_another_path() -> None:
    def forward(net: Net, input_ids: Tensor) -> Any:
        x = net.embed(input_ids)
        length = x.shape[1]
        scores = (x @ x.transpose(1, 2)).topk(min(20, length), dim=-1).indices
        chosen = torch.zeros(2, length, length).scatter(-1, scores, 1.0)
        return net.head(x * chosen.sum(-1, keepdim=True))

    limits = ({1: Dim("seq", min=1, max=64)},)
    with torch.no_grad():
        program = torch.export.export(
            Net(forward),
            (small_ids(2, 12),),
            dynamic_shapes=limits,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    imported = import_exported(program)
    assert imported.max_sequence == 20
    (note,) = (note for note in imported.notes if "takes another path" in note)
    assert note.startswith("the program is one for at most 20 tokens: beyond them Min(20, S)")
    tokens = small_ids(2, 20)
    expected = Net(forward)(tokens).detach().numpy()
    np.testing.assert_allclose(run(imported, tokens), expected, rtol=1e-4, atol=1e-5)


def test_an_assertion_that_short_sequences_fail_is_refused() -> None:
    def forward(net: Net, input_ids: Tensor) -> Any:
        torch.ops.aten._assert_scalar(input_ids.shape[1] % 4 == 0, "chunks of 4")
        return net.head(net.embed(input_ids))

    limits = ({1: Dim("seq", min=1, max=64)},)
    with torch.no_grad():
        program = torch.export.export(
            Net(forward),
            (small_ids(2, 12),),
            dynamic_shapes=limits,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    with pytest.raises(InputError, match="the export asserts"):
        import_exported(program)


def test_int32_tokens_are_cast() -> None:
    module = Net()
    program = _export(module, (small_ids(2, 12).int(),), (axes(),))
    imported = import_exported(program)
    assert str(imported.graph.inputs[0].type) == "i64[B,S]"
    (logits,) = interpret(
        imported.graph, [small_ids(3, 5).numpy()], lambda name: imported.weights[name].load()
    )
    np.testing.assert_allclose(logits, module(small_ids(3, 5)).detach().numpy(), rtol=1e-5)


def test_small_tensors_of_the_program_are_literals() -> None:
    module = Net(lambda net, tokens: net.head(net.embed(tokens) * torch.tensor([1.0, 2.0] * 4)))
    imported = import_exported(export_small(module))
    assert [op.kind for op in imported.graph.ops].count("constant") == 1
    assert set(imported.weights) == {"embed.weight", "head.weight"}


def test_a_buffer_that_is_only_written_is_dropped() -> None:
    def forward(net: Net, input_ids: Tensor) -> Any:
        net.cache.copy_(torch.full((8,), 2.0))
        return net.head(net.embed(input_ids) * net.cache)

    imported = import_exported(export_small(Net(forward)))
    assert set(imported.weights) == {"embed.weight", "head.weight"}
    tokens = small_ids(3, 5)
    np.testing.assert_allclose(
        run(imported, tokens), Net(forward)(tokens).detach().numpy(), rtol=1e-5
    )


def test_import_is_repeatable() -> None:
    program = export_small(Net())
    assert print_graph(import_exported(program).graph) == print_graph(
        import_exported(program).graph
    )


def keeps_state(net: Net, input_ids: Tensor) -> Any:
    x = net.embed(input_ids) + net.cache
    net.cache.add_(x.sum((0, 1)))
    return net.head(x)


def on_data(net: Net, input_ids: Tensor) -> Any:
    count = input_ids.max().item()
    torch._check(count > 1)  # type: ignore[no-untyped-call]
    return net.head(net.embed(input_ids)) + torch.arange(count).sum()


def short_rows(net: Net, input_ids: Tensor) -> Any:
    return net.head(net.embed(input_ids)[:, -1:])


def test_refusals(golden: Golden) -> None:
    tokens = small_ids(2, 12)
    stateless = Net()
    texts = {
        "static sequence": _refused(stateless, (tokens,), ({0: Dim("batch", min=1)},)),
        "no tokens": _refused(Net(lambda net, x: net.head(x)), (torch.zeros(2, 12, 8),), (axes(),)),
        "extra input": _refused(Biased(), (tokens, torch.zeros(16)), (axes(), None)),
        "no logits": _refused(Net(short_rows), (tokens,), (axes(),)),
        "state": _refused(Net(keeps_state), (tokens,), (axes(),)),
        "size from data": _refused(Net(on_data), (tokens,), (axes(),)),
    }
    golden("torch_refusals.txt", "\n\n".join(f"# {name}\n{text}" for name, text in texts.items()))


def _refused(module: torch.nn.Module, inputs: tuple[Tensor, ...], shapes: Any) -> str:
    program = _export(module, inputs, shapes)
    with pytest.raises(InputError) as caught:
        import_exported(program, source="model.pt2")
    # Paths and line numbers are the machine's.
    return "\n".join(line.partition(" (File ")[0] for line in caught.value.render().splitlines())


def test_control_flow_is_refused() -> None:
    def forward(net: Net, input_ids: Tensor) -> Any:
        x = net.embed(input_ids)
        return net.head(torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,)))

    assert "HETC-I212" in _refused(Net(forward), (small_ids(2, 12),), (axes(),))


def test_assert_same_sees_a_difference() -> None:
    imported = import_exported(
        export(torch.nn.Sequential(torch.nn.Embedding(128, 8), torch.nn.Linear(8, 8)).eval())
    )
    other = torch.nn.Sequential(torch.nn.Embedding(128, 8), torch.nn.Linear(8, 8)).eval()
    with pytest.raises(AssertionError):
        assert_same(imported, other)


class Pair(torch.nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = x * 2
        return z, (z + y).sum(1), z


def test_a_whole_program_keeps_its_inputs_outputs_and_sizes() -> None:
    x, y = torch.randn(3, 5, 8), torch.randn(5, 1)
    shapes = ({0: Dim("b", min=1), 1: Dim("n", min=1)}, {0: Dim("n", min=1)})
    exported = torch.export.export(Pair(), (x, y), dynamic_shapes=shapes)
    graph = import_whole(exported).graph
    assert [str(value.type) for value in graph.inputs] == ["f32[N0,N1,8]", "f32[N1,1]"]
    assert graph.output_names == ("mul.0", "sum_1", "mul.2")
    x, y = torch.randn(2, 7, 8), torch.randn(7, 1)
    made = interpret(graph, [x.numpy(), y.numpy()])
    for found, expected in zip(made, Pair()(x, y), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)
