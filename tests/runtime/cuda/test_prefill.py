"""A prefill on the stub: right in every order that CUDA allows, and everything given back."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from hetc.bundle import OpenBundle
from hetc.bundle.launches import MAX_SEQUENCES
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.driver import Driver
from hetc.runtime.cuda.layout import lay_out
from hetc.runtime.cuda.prefill import CudaOptions, Prefill
from hetc.runtime.cuda.sizes import Sizes
from tests.runtime.cuda.layered_plan import (
    LAYERED_KERNELS,
    LAYERS,
    layered_forward,
    layered_plan,
)
from tests.runtime.cuda.plan_bundles import MAX_TOKENS
from tests.runtime.cuda.stub_driver import NOT_PERMITTED, StubBindings
from tests.runtime.cuda.stub_streams import Order

SHAPES = ((2, 5), (2, 5), (1, 2), (2, 5), (1, 1), (3, 40), (2, 5), (3, 40), (3, 40))


def tokens(*shape: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 9, shape)


def check(prefill: Prefill, prompt: NDArray[np.int64]) -> dict[str, Any]:
    """Runs a prompt, compares all that comes out, and gives the states."""
    logits, states = prefill.run(prompt)
    expected, expected_states = layered_forward(prompt)
    np.testing.assert_array_equal(logits, expected)
    assert list(states) == list(expected_states)
    for name, state in states.items():
        assert state.shape == expected_states[name].shape
        assert state.dtype == {"k": "bf16", "w": "f32"}[name[-1]]
        np.testing.assert_array_equal(state.numpy(), expected_states[name])
    return states


@pytest.mark.parametrize("graphs", [0, 1, 16])
@pytest.mark.parametrize(
    ("order", "seed"), [("late", 0), ("early", 0), *(("random", n) for n in range(8))]
)
def test_any_order_gives_the_same(
    order: Order, seed: int, graphs: int, layered: OpenBundle
) -> None:
    stub = StubBindings(LAYERED_KERNELS, order=order, seed=seed)
    prefill = Prefill(layered, CudaOptions(graphs=graphs), Driver(stub))
    for number, shape in enumerate(SHAPES):
        check(prefill, tokens(*shape, seed=number))
    assert ("cuGraphLaunch" in stub.calls) == (graphs > 0)
    prefill.close()
    prefill.close()
    assert stub.live == {}


def test_states_stay_as_they_were(layered: OpenBundle) -> None:
    """Neither the next call nor the end of the executor changes what a caller holds."""
    stub = StubBindings(LAYERED_KERNELS)
    prefill = Prefill(layered, None, Driver(stub))
    first, second = tokens(2, 5, seed=1), tokens(2, 5, seed=2)
    _, held = prefill.run(first)
    check(prefill, second)
    check(prefill, second)
    prefill.close()
    assert set(stub.live) == {"pinned", "streams", "events", "retained"}
    _, expected = layered_forward(first)
    for name, state in held.items():
        np.testing.assert_array_equal(state.numpy(), expected[name])
    array = held["layers.0.k"].numpy()[0, 1]
    del held, state
    gc.collect()
    np.testing.assert_array_equal(array, expected["layers.0.k"][0, 1])
    del array
    gc.collect()
    assert stub.live == {}


def test_reading_a_state_waits_for_its_layer_alone(layered: OpenBundle) -> None:
    stub = StubBindings(LAYERED_KERNELS)
    prefill = Prefill(layered, None, Driver(stub))
    _, states = prefill.run(tokens(2, 5))
    queue = stub.streams.queues[prefill.device.transfer]
    lengths = [len(queue)]
    for layer in range(LAYERS):
        states[f"layers.{layer}.k"].numpy()
        lengths.append(len(queue))
    assert sorted(set(lengths), reverse=True) == lengths
    prefill.close()


def test_memory_grows_while_states_are_on_their_way(layered: OpenBundle) -> None:
    prefill = Prefill(layered, None, Driver(StubBindings(LAYERED_KERNELS)))
    prompt = tokens(1, 4)
    _, held = prefill.run(prompt)
    check(prefill, tokens(3, 40))
    _, expected = layered_forward(prompt)
    for name, state in held.items():
        np.testing.assert_array_equal(state.numpy(), expected[name])
    prefill.close()


def test_pinned_memory_is_used_again(layered: OpenBundle) -> None:
    stub = StubBindings(LAYERED_KERNELS)
    prefill = Prefill(layered, None, Driver(stub))
    for number in range(6):
        check(prefill, tokens(2, 5, seed=number))
        gc.collect()
    before = stub.calls.count("cuMemHostAlloc"), stub.calls.count("cuEventCreate")
    check(prefill, tokens(1, 3))
    assert (stub.calls.count("cuMemHostAlloc"), stub.calls.count("cuEventCreate")) == before
    prefill.close()


def test_weights_come_in_chunks(layered: OpenBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hetc.runtime.cuda.memory._CHUNK_BYTES", 24)
    for order in ("late", "early"):
        stub = StubBindings(LAYERED_KERNELS, order=order)
        prefill = Prefill(layered, None, Driver(stub))
        check(prefill, tokens(1, 4))
        prefill.close()
        # 64 bytes of each of the two tensors.
        assert stub.calls.count("cuMemcpyHtoDAsync") == 6 + 1


def test_weights_can_be_made_up(layered: OpenBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hetc.runtime.cuda.memory._CHUNK_BYTES", 24)
    seen: list[NDArray[Any]] = []

    def layer(launch: Any) -> None:
        seen.append(launch.array(2, np.float32, 32).copy())

    stub = StubBindings({**LAYERED_KERNELS, "layer": layer})
    prefill = Prefill(layered, CudaOptions(random_weights=0), Driver(stub))
    prefill.run(tokens(1, 4))
    prefill.close()
    assert np.isfinite(seen[0]).all()
    assert 0.005 < np.std(seen[0]) < 0.05
    assert stub.live == {}


def test_graphs_are_kept_for_the_shapes_used_last(layered: OpenBundle) -> None:
    stub = StubBindings(LAYERED_KERNELS)
    prefill = Prefill(layered, CudaOptions(graphs=2), Driver(stub))
    check(prefill, tokens(3, 40))
    for shape in ((1, 2), (1, 2), (1, 3), (1, 3), (1, 4), (1, 4), (1, 4)):
        check(prefill, tokens(*shape))
    segments = LAYERS + 1
    assert stub.live["instances"] == 2 * segments
    assert "graphs" not in stub.live
    launched = stub.calls.count("cuLaunchKernel")
    check(prefill, tokens(1, 4, seed=5))
    assert stub.calls.count("cuLaunchKernel") == launched
    prefill.close()
    assert stub.live == {}


def test_no_graph_is_no_failure(layered: OpenBundle) -> None:
    stub = StubBindings(
        LAYERED_KERNELS,
        fails=lambda number, name: NOT_PERMITTED if name == "cuGraphInstantiate" else 0,
    )
    prefill = Prefill(layered, None, Driver(stub))
    check(prefill, tokens(1, 4))
    with pytest.warns(RuntimeWarning, match="HETC-R059.*no CUDA graphs are used"):
        check(prefill, tokens(1, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(prefill, tokens(1, 4))
        check(prefill, tokens(1, 5))
        check(prefill, tokens(1, 5))
    prefill.close()
    assert stub.live == {}


def test_more_tokens_than_the_plan_takes(layered: OpenBundle) -> None:
    stub = StubBindings(LAYERED_KERNELS)
    prefill = Prefill(layered, None, Driver(stub))
    with pytest.raises(RuntimeFault, match="HETC-R057") as error:
        prefill.run(tokens(2, MAX_TOKENS // 2 + 1))
    assert error.value.found == f"2 x {MAX_TOKENS // 2 + 1} tokens"
    check(prefill, tokens(2, 5))
    prefill.close()
    assert stub.live == {}


def test_more_sequences_than_a_grid_counts() -> None:
    plan = msgspec.structs.replace(layered_plan(), max_tokens=2**20)
    assert lay_out(plan, Sizes(MAX_SEQUENCES, 1)).state_bytes > 0
    with pytest.raises(RuntimeFault, match="HETC-R057"):
        lay_out(plan, Sizes(MAX_SEQUENCES + 1, 1))


def test_memory_that_does_not_suffice(layered: OpenBundle) -> None:
    stub = StubBindings(LAYERED_KERNELS, memory_bytes=100_000)
    prefill = Prefill(layered, None, Driver(stub))
    check(prefill, tokens(1, 2))
    with pytest.raises(RuntimeFault, match="HETC-R052"):
        prefill.run(tokens(2, 100))
    # What is smaller still fits.
    check(prefill, tokens(1, 2))
    prefill.close()
    assert stub.live == {}
