"""What the layer over the bindings makes of their answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hetc.errors import MissingDependency, RuntimeFault
from hetc.runtime.cuda import device_info, driver
from hetc.runtime.cuda.driver import Driver, open_driver
from tests.conftest import why_no_gpu
from tests.runtime.cuda.stub_driver import StubBindings


def test_a_gpu_says_what_it_is() -> None:
    info = device_info(0, Driver(StubBindings(capability=(12, 0))))
    assert (info.name, info.arch, info.driver) == ("Stub H200", "sm_120", "13.0")
    assert info.shared_bytes == 227 * 1024


def test_a_number_beyond_the_gpus() -> None:
    with pytest.raises(RuntimeFault, match="no such GPU") as error:
        device_info(2, Driver(StubBindings(devices=2)))
    assert error.value.expected == "a number below 2"


@pytest.mark.skipif(not why_no_gpu(), reason="there is a GPU")
def test_the_real_bindings_without_a_gpu() -> None:
    with pytest.raises(RuntimeFault, match="HETC-R050"):
        device_info()


def test_without_the_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="cuda-bindings"):
        open_driver()


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (RuntimeError("Failed to dlopen libcuda.so.1"), "HETC-R050", "cannot be loaded"),
        (100, "HETC-R050", "100"),
        (35, "HETC-R050", "35"),
        (999, "HETC-R051", "999"),
    ],
)
def test_starting_fails(raised: Any, code: str, told: str) -> None:
    def start(flags: int) -> tuple[int]:
        if isinstance(raised, Exception):
            raise raised
        return (raised,)

    with pytest.raises(RuntimeFault, match=code) as error:
        Driver(SimpleNamespace(cuInit=start)).start()
    assert told in error.value.found


def test_a_function_that_bindings_or_driver_lack() -> None:
    def absent(stream: int) -> None:
        raise RuntimeError('Function "cuStreamSynchronize" not found')

    for bindings in (SimpleNamespace(), SimpleNamespace(cuStreamSynchronize=absent)):
        with pytest.raises(RuntimeFault, match="HETC-R051") as error:
            Driver(bindings).synchronize(1)
        assert error.value.at == "cuStreamSynchronize"


@pytest.mark.parametrize("answer", [RuntimeError("not found"), (500,), (500, None, None)])
def test_a_driver_that_cannot_tell_parameters(answer: Any) -> None:
    def info(function: int, index: int) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert Driver(SimpleNamespace(cuFuncGetParamInfo=info)).parameter_sizes(1, 4) is None


def test_memory_that_is_full() -> None:
    stub = StubBindings(memory_bytes=10)
    api = Driver(stub)
    api.push_context(api.retain_context(api.device(0)))
    with pytest.raises(driver.OutOfMemory, match="HETC-R052") as error:
        api.allocate(2048)
    assert error.value.expected == "2,048 bytes more"
