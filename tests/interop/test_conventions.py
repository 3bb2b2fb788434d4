"""What PyTorch expects of a backend: aliases, writes, outputs of every kind, sizes, types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hetc.interop import last_report
from tests.interop.compiled import compare, compiled, executors, same

F = nn.functional


def test_views_of_inputs_share_their_memory() -> None:
    compare(lambda x: (x.view(-1), x[1:], x.t(), x + 1), torch.randn(3, 4))
    x = torch.randn(3, 4)
    with torch.no_grad():
        view, _ = compiled(lambda x: (x.view(-1), x + 1))(x)
        view[0] = 7.0
    assert x[0, 0] == 7.0


def test_outputs_that_share_memory_go_on_sharing_it() -> None:
    def fn(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x * 2
        return y, y.t(), y.view(-1)

    compare(fn, torch.randn(3, 4))
    with torch.no_grad():
        whole, turned, flat = compiled(fn)(torch.randn(3, 4))
    assert whole.data_ptr() == turned.data_ptr() == flat.data_ptr()


def test_an_input_that_is_an_output() -> None:
    x = torch.randn(3)
    compare(lambda x: (x, x * 2), x)
    with torch.no_grad():
        assert compiled(lambda x: (x, x * 2))(x)[0] is x


@pytest.mark.parametrize(
    "write",
    [
        lambda x: (x.add_(1), x * 2)[1],
        lambda x: (x[0].mul_(3), x.sum())[1],
        lambda x: (x.t().copy_(torch.ones(4, 3)), x.exp())[1],
        lambda x: x.mul_(2),
        lambda x: (x.view(-1)[1:].zero_(), x.sin(), x.add_(x.cos()))[1],
    ],
)
def test_writes_into_inputs(write: Callable[..., Any]) -> None:
    report = compare(write, torch.randn(3, 4))
    assert not report.fallbacks


def test_an_input_given_twice_and_written() -> None:
    def fn(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        return x * y

    ours = compiled(fn)
    x = torch.randn(3)
    y = x.clone()
    with torch.no_grad():
        same(ours(x, x), fn(y, y))
    same(x, y)


def test_outputs_of_every_kind() -> None:
    def fn(x: torch.Tensor) -> Any:
        return None, [x.relu(), {"a": (x.exp(), None)}], x.shape[0], 2.5, (), x.sum()

    compare(fn, torch.randn(3, 4))
    compare(fn, torch.randn(3, 4), dynamic=True)


def test_nested_containers_as_inputs() -> None:
    def fn(inputs: dict[str, Any]) -> Any:
        return inputs["a"][0] + inputs["b"] * inputs["a"][1]

    compare(fn, {"a": [torch.randn(3), torch.randn(3)], "b": torch.randn(3)})


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0,), (1, 0, 3)])
def test_tensors_without_elements(shape: tuple[int, ...]) -> None:
    compare(lambda x: (x + 1, x.sum(0), x.exp().reshape(-1), torch.cat([x, x])), torch.ones(shape))


@pytest.mark.parametrize(
    ("dtype", "fn"),
    [
        (torch.float32, lambda x: (x @ x.t()).softmax(-1)),
        (torch.float64, lambda x: (x @ x.t()).softmax(-1)),
        (torch.bfloat16, lambda x: (x @ x.t()).softmax(-1)),
        (torch.float16, lambda x: (x @ x.t()).softmax(-1)),
        (torch.int64, lambda x: (x * 3 // 2 % 5, x.float() / 2, x > 1)),
        (torch.int32, lambda x: x * 3 - x.amax(0)),
        (torch.int16, lambda x: x * 3 + 1),
        (torch.int8, lambda x: x + x),
        (torch.uint8, lambda x: x // 2 + 1),
        (torch.bool, lambda x: (x & ~x.t().contiguous().view(4, 4), x.long().cumsum(0))),
    ],
    ids=lambda item: str(item) if isinstance(item, torch.dtype) else "",
)
def test_element_types(dtype: torch.dtype, fn: Callable[..., Any]) -> None:
    report = compare(fn, (torch.randn(4, 4) * 3).to(dtype))
    assert executors(report) == ["onnx"]
    assert not report.fallbacks


def test_a_convolution_that_is_cut_to_the_length_of_its_input() -> None:
    weight = torch.randn(3, 2, 3)
    for cut in (-2, 5):
        report = compare(
            lambda x, cut=cut: torch.nn.functional.conv1d(x, weight, padding=2)[..., :cut],
            torch.randn(2, 2, 5),
        )
        assert executors(report) == ["onnx"]


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_a_cast_rounds(narrow: torch.dtype) -> None:
    """Exactly: regions compute in f32, but what a program takes away on purpose stays away."""
    x = torch.randn(200) * 1e4
    with torch.no_grad():
        made = compiled(lambda x: x.to(narrow).float() - x)(x)
    assert torch.equal(made, x.to(narrow).float() - x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(4, 3).t(),
        lambda: torch.randn(2, 5, 3).permute(2, 0, 1),
        lambda: torch.randn(6, 6)[::2, 1:4],
        lambda: torch.randn(3).expand(4, 3),
        lambda: torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    ],
)
def test_inputs_in_any_layout(make: Callable[[], torch.Tensor]) -> None:
    """And results in the layout that PyTorch would give them."""
    compare(lambda x: (x.sin(), x + 1, x.transpose(0, 1) * 2, x.sum(-1)), make())


def test_numbers_as_inputs() -> None:
    def fn(x: torch.Tensor, count: int, factor: float) -> Any:
        return x * count + factor, count * 2

    for dynamic in (None, True):
        ours = compiled(fn, dynamic=dynamic)
        x = torch.randn(3)
        with torch.no_grad():
            for count, factor in ((3, 0.5), (4, 0.25), (7, 1.5)):
                same(ours(x, count, factor), fn(x, count, factor))


def test_sizes_are_symbols_where_they_change() -> None:
    def fn(x: torch.Tensor) -> Any:
        rows = x.shape[0]
        return x.reshape(-1) + rows, torch.arange(rows), x.new_zeros(rows + 1, 2 * rows), rows * 2

    ours = compiled(fn, dynamic=True)
    with torch.no_grad():
        for rows in (3, 5, 9, 4):
            x = torch.randn(rows, 4)
            same(ours(x), fn(x))
    assert len(last_report().graphs) == 1


def test_no_recompilation_for_every_length() -> None:
    ours = compiled(lambda x, w: (x @ w).relu().sum(1))
    w = torch.randn(8, 5)
    with torch.no_grad():
        for length in (3, 4, 7, 12, 31):
            x = torch.randn(length, 8)
            same(ours(x, w), (x @ w).relu().sum(1))
    report = last_report()
    assert [graph.compile_id for graph in report.graphs] == ["0/0", "0/1"]
    assert len(report.recompiles) == 1
    assert "size mismatch at index 0" in report.recompiles[0].reason


def test_marked_axes_are_dynamic_at_once() -> None:
    ours = compiled(lambda x: x.cumsum(0) * x.shape[0])
    with torch.no_grad():
        for length in (5, 9):
            x = torch.randn(length, 2)
            torch._dynamo.mark_dynamic(x, 0)
            same(ours(x), x.cumsum(0) * length)
    assert len(last_report().graphs) == 1


def test_sizes_that_depend_on_data() -> None:
    ours = compiled(lambda x: x[x > 0] * 2 + 1, fullgraph=True)
    with torch.no_grad(), torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        for x in (torch.tensor([1.0, -1.0, 2.0]), torch.tensor([-1.0, -2.0]), torch.ones(5)):
            same(ours(x), x[x > 0] * 2 + 1)


def test_a_size_that_is_no_polynomial() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        half = x[: x.shape[0] // 2]
        return half.exp() + half.shape[0]

    ours = compiled(fn, dynamic=True)
    with torch.no_grad():
        for rows in (4, 5, 7, 8):
            x = torch.randn(rows, 2)
            same(ours(x), fn(x))


def test_batch_norm_in_eval_and_convolutions() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)).eval()
    with torch.no_grad():
        x = torch.randn(2, 3, 8, 8)
        same(compiled(model)(x), model(x))


def test_numbers_that_are_none_stay_so() -> None:
    """In a later call: the first one is compared with PyTorch's."""

    def fn(x: torch.Tensor) -> Any:
        return x.max(), x.amin(0), x.argmax(), x.sign(), x.relu(), x.clamp(0, 5), x.sort()[0]

    ours = compiled(fn)
    x = torch.arange(1.0, 18.0)
    with torch.no_grad():
        same(ours(x), fn(x))
        x[3] = x[12] = torch.nan
        same(ours(x), fn(x))


@pytest.mark.parametrize(
    ("fn", "good", "bad"),
    [
        (lambda x, y: x // y, [1, 2], [1, 0]),
        (lambda x, y: x[y], [0, 1], [0, 5]),
        (lambda x, y: torch.gather(x, 0, y), [0, 1], [0, 5]),
        (lambda x, y: F.embedding(y, x[:, None].float()), [0, 1], [0, 5]),
    ],
)
def test_errors_are_those_of_pytorch(fn: Callable[..., Any], good: Any, bad: Any) -> None:
    """And the region stays compiled."""
    ours, x = compiled(fn), torch.tensor([3, 4])
    with torch.no_grad():
        same(ours(x, torch.tensor(good)), fn(x, torch.tensor(good)))
        with pytest.raises((RuntimeError, IndexError)) as wanted:
            fn(x, torch.tensor(bad))
        with pytest.raises(type(wanted.value)) as found:
            ours(x, torch.tensor(bad))
        same(ours(x, torch.tensor(good)), fn(x, torch.tensor(good)))
    assert str(found.value) == str(wanted.value)


def test_sizes_that_must_be_equal_become_so() -> None:
    """Dynamo calls the lengths of keys and of values by two names."""

    def fn(q: torch.Tensor, cache: list[torch.Tensor]) -> torch.Tensor:
        k, v = (torch.cat([part, q], 2) for part in cache)
        return F.scaled_dot_product_attention(q, k, v)

    ours = compiled(fn)
    with torch.no_grad():
        for length in (7, 8, 9, 12):
            q = torch.randn(1, 2, 1, 8)
            cache = [torch.randn(1, 2, length, 8) for _ in range(2)]
            same(ours(q, cache), fn(q, cache))
    report = last_report()
    assert len(report.graphs) == 2
    assert not report.fallbacks
