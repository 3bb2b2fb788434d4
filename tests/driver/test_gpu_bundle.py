"""A bundle with real cubins on the stub of the driver: plan, cubins and executor fit each other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")

from hetc.backends.triton.cubin import read_notes
from hetc.bundle import Contract, open_bundle
from hetc.driver import CompileOptions, compile_bundle
from hetc.runtime.cuda.driver import Driver
from hetc.runtime.cuda.prefill import Prefill
from tests.driver.models import CONTEXT, build, save
from tests.runtime.cuda import stub_driver
from tests.runtime.cuda.stub_driver import StubBindings, StubLaunch


class CubinBindings(StubBindings):
    """The stub with what a cubin notes of its kernel, which does nothing but touch its operands."""

    def _cuModuleGetFunction(self, module: Any, name: bytes) -> Any:
        notes = read_notes(self._modules[int(module)], "a cubin")
        assert notes.symbol == name.decode()
        sizes = tuple(size for _, size in notes.parameters)
        handle = next(self._handles)
        # Several kernels have one symbol.
        own = f"{notes.symbol} {handle}"
        self._functions[handle] = stub_driver._Function(own, sizes, 0.01)
        self.kernels = {**self.kernels, own: lambda launch: touch(launch, sizes, notes)}
        return self.CUfunction(handle)


def touch(launch: StubLaunch, sizes: tuple[int, ...], notes: Any) -> None:
    assert launch.threads == notes.threads
    place = 0
    while place < len(sizes) - 2:
        if sizes[place] == 128:
            # A tensor map of bf16, and the four numbers behind it.
            launch.matrix(place, np.uint16)
            place += 5
            continue
        if sizes[place] == 8:
            launch.memory.view(launch.arguments[place], 1)
        place += 1
    assert launch.arguments[-2:] == (0, 0)


def run(prefill: Prefill, shape: tuple[int, int], contract: Contract) -> None:
    _, states = prefill.run(np.ones(shape, np.int64))
    for spec in contract.states:
        assert states[spec.name].numpy().nbytes > 0


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_kernels")
@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_real_cubins_are_launched_as_they_want(family: str, tmp_path: Path) -> None:
    source = save(build(family, num_hidden_layers=2), tmp_path / "model")
    options = CompileOptions(prefill="h200", decode="host", dtype="bf16")
    path = compile_bundle(source, tmp_path / "bundle", options).path
    stub = CubinBindings(memory_bytes=2**34)
    with open_bundle(path) as bundle:
        prefill = Prefill(bundle, None, Driver(stub))
        shapes = ((1, 1), (1, 7), (2, 13), (3, CONTEXT - 1), (3, CONTEXT - 1), (3, CONTEXT - 1))
        for shape in shapes:
            run(prefill, shape, bundle.contract)
        symbols = (prefill.plan.kernels[each.kernel].symbol for each in prefill.plan.launches)
        assert Counter(launched.split()[0] for launched in stub.launches) == {
            symbol: count * len(shapes) for symbol, count in Counter(symbols).items()
        }
        assert "cuGraphLaunch" in stub.calls
        prefill.close()
    assert stub.live == {}
