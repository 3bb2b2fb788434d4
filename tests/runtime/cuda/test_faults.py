"""Every call of the driver fails once, and is interrupted once: one clear error, nothing kept."""

from __future__ import annotations

import gc
import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from hetc.bundle import OpenBundle
from hetc.errors import HetcError, RuntimeFault
from hetc.runtime.cuda.driver import Driver
from hetc.runtime.cuda.prefill import CudaOptions, Prefill
from tests.runtime.cuda.layered_plan import LAYERED_KERNELS, layered_forward
from tests.runtime.cuda.stub_driver import NOT_PERMITTED, StubBindings

SHAPES = ((1, 2), (1, 2), (2, 9))
# What gives something back: where it fails, that one thing is not given back.
RELEASES = {
    "cuMemFree": "device",
    "cuMemFreeHost": "pinned",
    "cuStreamDestroy": "streams",
    "cuEventDestroy": "events",
    "cuModuleUnload": "modules",
    "cuGraphDestroy": "graphs",
    "cuGraphExecDestroy": "instances",
    "cuDevicePrimaryCtxRelease": "retained",
    "cuCtxPopCurrent": "pushed",
    # Memory whose work may go on is not given back.
    "cuStreamSynchronize": "pinned",
}
Fails = Callable[[int, str], int]


def run_all(stub: StubBindings, bundle: OpenBundle) -> list[BaseException]:
    """Load, run every shape, close; gives what was raised. What works must be right."""
    raised: list[BaseException] = []
    prefill = None
    try:
        prefill = Prefill(bundle, CudaOptions(graphs=2), Driver(stub))
    except (HetcError, KeyboardInterrupt) as error:
        raised.append(error)
    if prefill is not None:
        for number, shape in enumerate(SHAPES):
            prompt = np.random.default_rng(number).integers(0, 9, shape)
            try:
                logits, states = prefill.run(prompt)
                read = {name: state.numpy() for name, state in states.items()}
            except (HetcError, KeyboardInterrupt) as error:
                raised.append(error)
                continue
            expected, expected_states = layered_forward(prompt)
            np.testing.assert_array_equal(logits, expected)
            for name, array in read.items():
                np.testing.assert_array_equal(array, expected_states[name])
            del states, read, array
        try:
            prefill.close()
        except (HetcError, KeyboardInterrupt) as error:
            raised.append(error)
        prefill.close()
    return raised


def total(bundle: OpenBundle) -> int:
    """How many calls a run without faults makes."""
    stub = StubBindings(LAYERED_KERNELS)
    assert run_all(stub, bundle) == []
    return len(stub.calls)


def check_left(stub: StubBindings, raised: list[BaseException], failed: str) -> None:
    """Nothing is left but what the call that failed should have given back."""
    for error in raised:
        # Frames hold on to states.
        error.__traceback__ = error.__context__ = None
    raised.clear()
    if stub.live:
        gc.collect()
    assert set(stub.live) <= {RELEASES.get(failed)}, (failed, stub.live)
    assert sum(stub.live.values()) <= 1


@pytest.mark.parametrize("part", range(4))
def test_a_call_that_fails_is_one_error(part: int, layered: OpenBundle) -> None:
    for at in range(part, total(layered), 4):

        def fail(number: int, name: str, at: int = at) -> int:
            return NOT_PERMITTED if number == at else 0

        stub = StubBindings(LAYERED_KERNELS, fails=fail)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            raised = run_all(stub, layered)
        failed = stub.calls[at]
        told = [str(error) for error in raised] + [str(w.message) for w in warned]
        assert len(told) == 1, (failed, told)
        assert re.search("HETC-R05[0-9]|HETC-R063", told[0])
        check_left(stub, raised, failed)


@pytest.mark.parametrize("part", range(4))
def test_an_interrupt_anywhere_leaves_all_in_order(part: int, layered: OpenBundle) -> None:
    for at in range(part, total(layered), 4):

        def interrupt(number: int, name: str, at: int = at) -> int:
            if number == at:
                raise KeyboardInterrupt
            return 0

        stub = StubBindings(LAYERED_KERNELS, fails=interrupt)
        raised = run_all(stub, layered)
        failed = stub.calls[at]
        assert [type(error) for error in raised] == [KeyboardInterrupt], failed
        check_left(stub, raised, failed)


@pytest.mark.parametrize("code", [700, 719])
def test_a_kernel_that_fails_takes_the_context_with_it(code: int, layered: OpenBundle) -> None:
    lost = False

    def fails(number: int, name: str) -> int:
        nonlocal lost
        lost = lost or (name == "cuStreamSynchronize" and stub.calls.count("cuLaunchKernel") > 3)
        return code if lost else 0

    stub = StubBindings(LAYERED_KERNELS, fails=fails)
    prefill = Prefill(layered, None, Driver(stub))
    with pytest.raises(RuntimeFault, match="HETC-R053") as error:
        prefill.run(np.ones((1, 4), np.int64))
    assert error.value.at == "cuStreamSynchronize"
    assert "CUDA_ERROR" in error.value.found
    before = len(stub.calls)
    prefill.close()
    assert len(stub.calls) == before
