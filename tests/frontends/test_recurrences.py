"""Recurrences in place of loops: what is replaced, that it computes the same, and who sees it."""

from __future__ import annotations

import threading
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.export import Dim
from transformers.models.kimi_linear import modeling_kimi_linear
from transformers.models.mamba import modeling_mamba
from transformers.models.mamba2 import modeling_mamba2
from transformers.models.minimax import modeling_minimax
from transformers.models.qwen3_next import modeling_qwen3_next
from transformers.models.recurrent_gemma import modeling_recurrent_gemma
from transformers.models.rwkv import modeling_rwkv
from transformers.models.xlstm import modeling_xlstm

from hetc.errors import InputError
from hetc.frontends.recurrences import register_ops, supplied
from hetc.frontends.recurrences.replacement import TABLE
from hetc.frontends.torch_export import import_exported, import_whole, load_pt2
from hetc.ir.interpret import interpret
from tests.architectures.attempt import build
from tests.architectures.recurrent import CASES
from tests.driver.models import Forward, eager, export, tokens
from tests.golden import Golden

FILES: dict[str, ModuleType] = {
    "mamba2_chunk_scan": modeling_mamba2,
    "mamba_selective_scan": modeling_mamba,
    "torch_chunk_gated_delta_rule": modeling_qwen3_next,
    "MiniMaxLightningAttention.forward": modeling_minimax,
    "RecurrentGemmaRglru._rnn_scan": modeling_recurrent_gemma,
    "chunk_kimi_delta_attention": modeling_kimi_linear,
    "rwkv_linear_attention": modeling_rwkv,
    "xLSTMBackend.forward": modeling_xlstm,
}


def original(name: str) -> Any:
    found: Any = FILES[name]
    for part in name.split("."):
        found = getattr(found, part)
    return found


def tensors(result: Any) -> list[torch.Tensor]:
    if isinstance(result, tuple | list):
        return [tensor for item in result for tensor in tensors(item)]
    return [] if result is None else [result]


def test_every_replacement_is_tried_here() -> None:
    assert FILES.keys() == TABLE.keys()


@pytest.mark.parametrize("name", FILES)
def test_a_replacement_computes_what_the_original_does(name: str) -> None:
    register_ops()
    torch.manual_seed(1)
    for args, kwargs in TABLE[name].trials(FILES[name]):
        expected = tensors(original(name)(*args, **kwargs))
        found = tensors(TABLE[name].function(*args, **kwargs))
        for theirs, ours in zip(expected, found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class Several(torch.nn.Module):
    """One of hetc's ops as a module, with every operand."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *args: torch.Tensor) -> Any:
        return getattr(torch.ops.hetc, self.name)(*args)


def operands(name: str, length: int) -> tuple[torch.Tensor, ...]:
    rand = torch.rand
    if name == "scan":
        return rand(2, length, 3), rand(2, length, 3), rand(2, 3)
    q, k, v = rand(2, 2, length, 5), rand(2, 2, length, 5), rand(2, 4, length, 3)
    return q, k, v, rand(2, 4, length, 5), rand(2, 4, length, 1) / 4, rand(2, 4, 5, 3)


@pytest.mark.parametrize("name", ["linear_attention", "scan"])
def test_an_op_is_in_torch_what_it_is_in_the_ir(name: str) -> None:
    register_ops()
    given, axis = operands(name, 4), 1 if name == "scan" else 2
    # The initial state, which comes last, has no tokens.
    shapes = (*({axis: Dim("S", min=1, max=64)} for _ in given[:-1]), None)
    program = torch.export.export(Several(name), given, dynamic_shapes=(shapes,))
    graph = import_whole(program).graph
    assert name in {op.kind for op in graph.ops}
    for length in (1, 4, 9):
        now = operands(name, length)
        expected = getattr(torch.ops.hetc, name)(*now)
        found = interpret(graph, [x.numpy() for x in now])
        for theirs, ours in zip(expected, found, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["linear_attention", "scan"])
def test_torch_finds_its_ops_sound(name: str) -> None:
    register_ops()
    checks = ("test_schema", "test_faketensor")
    op = getattr(torch.ops.hetc, name).default
    torch.library.opcheck(op, operands(name, 4), test_utils=checks)


def test_a_model_can_be_exported_by_hand(tmp_path: Path) -> None:
    """And saved, and read from the file."""
    model = build("mamba2", CASES["mamba2"])
    with supplied(model) as names:
        assert names == ("mamba2_chunk_scan",)
        program = export(Forward(model))
    torch.export.save(program, tmp_path / "mamba2.pt2")
    imported = import_exported(load_pt2(tmp_path / "mamba2.pt2"))
    ids = tokens(2, 21)
    (logits,) = interpret(imported.graph, [ids.numpy()], lambda name: imported.weights[name].load())
    np.testing.assert_allclose(logits, eager(model, ids), atol=1e-4)


def test_originals_come_back_and_other_threads_keep_them() -> None:
    before = modeling_mamba2.mamba2_chunk_scan
    elsewhere: list[str] = []

    def look() -> None:
        args, kwargs = next(TABLE["mamba2_chunk_scan"].trials(modeling_mamba2))
        with torch.profiler.profile() as profile:
            modeling_mamba2.mamba2_chunk_scan(*args, **kwargs)
        elsewhere.extend(event.key for event in profile.key_averages())

    with supplied(build("mamba2", CASES["mamba2"])):
        assert modeling_mamba2.mamba2_chunk_scan is not before
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert modeling_mamba2.mamba2_chunk_scan is before
    assert "aten::cumsum" in elsewhere
    assert "hetc::linear_attention" not in elsewhere


def test_a_function_that_computes_something_else_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = modeling_mamba2.mamba2_chunk_scan

    def other(*args: Any, **kwargs: Any) -> Any:
        x, dt, a, *rest = args
        return real(x, dt, 2 * a, *rest, **kwargs)

    # It looks like the known one.
    vars(other)["__signature__"] = signature(real)
    monkeypatch.setattr(modeling_mamba2, "mamba2_chunk_scan", other)
    with pytest.raises(InputError) as caught, supplied(build("mamba2", CASES["mamba2"])):
        pass
    assert caught.value.code == "HETC-I071"
    assert "results that differ by" in str(caught.value)


def test_a_function_that_takes_something_else_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    def other(hidden_states: Any, dt: Any, speed: float) -> Any:
        return hidden_states

    monkeypatch.setattr(modeling_mamba2, "mamba2_chunk_scan", other)
    with pytest.raises(InputError) as caught, supplied(build("mamba2", CASES["mamba2"])):
        pass
    golden("recurrence_differs.txt", str(caught.value))
