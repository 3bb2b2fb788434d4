"""The kernels of a launch plan, loaded for one GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from hetc.bundle import OpenBundle
from hetc.bundle.launches import Build, Config, Kernel, LaunchPlan
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.device import Device, release_all
from hetc.runtime.cuda.plan_file import bad_plan

_ARCH = re.compile(r"sm_(\d+)(\d)")
# What every block gets without asking; more is asked for once.
_USUAL_SHARED = 48 * 1024
# Up to how many rows which configuration is launched, by kernel.
Choices = Mapping[str, tuple[tuple[int | None, int], ...]]


@dataclass(frozen=True)
class Function:
    """A compiled kernel, ready to launch: its handle, its build and its configuration."""

    handle: int
    build: Build
    config: Config


def runnable_arch(archs: set[str], device: str) -> str | None:
    """Which of `archs` a GPU of the architecture `device` runs; None for none of them.

    Triton's code for sm_90 and later runs on exactly that; older code also runs on later GPUs of
    the same major number (CUDA C++ programming guide, "Binary Compatibility").
    """
    if device in archs:
        return device
    major, minor = _numbers(device)
    older = [arch for arch in archs if _numbers(arch)[0] == major and _numbers(arch)[1] < minor]
    return max(older, key=_numbers) if older and major < 9 else None


def _numbers(arch: str) -> tuple[int, int]:
    found = _ARCH.fullmatch(arch)
    return (int(found[1]), int(found[2])) if found else (-1, -1)


class Kernels:
    """All kernels of a plan for the GPU at hand.

    A cubin is loaded when it is first asked for. Raises RuntimeFault HETC-R055 where the bundle has
    none for this GPU.
    """

    def __init__(self, plan: LaunchPlan, bundle: OpenBundle, device: Device) -> None:
        self._plan = plan
        self._bundle = bundle
        self._device = device
        self._tuned: Choices = {}
        self._functions: dict[tuple[str, int], Function] = {}
        self._modules: dict[str, int] = {}
        self._archs = {name: self._arch(kernel) for name, kernel in plan.kernels.items()}

    def use(self, tuned: Choices) -> None:
        """Take these choices before the plan's own."""
        self._tuned = tuned

    def choices(self, name: str) -> tuple[tuple[int | None, int], ...]:
        """(most rows, number of the configuration), in order, of the kernel `name`."""
        own = self._plan.kernels[name].choices.get(self._archs[name], ())
        return self._tuned.get(name) or tuple((choice.rows, choice.config) for choice in own)

    @property
    def built(self) -> Mapping[str, frozenset[int]]:
        """The configurations that this GPU runs, of every kernel."""
        return {
            name: frozenset(b.config for b in kernel.builds if b.arch == self._archs[name])
            for name, kernel in self._plan.kernels.items()
        }

    def choose(self, name: str, rows: int) -> Function:
        """What is launched of the kernel `name` on `rows` rows."""
        for most, config in self.choices(name):
            if most is None or rows <= most:
                return self.function(name, config)
        raise bad_plan("no choice holds", "one for any rows", rows, f"kernels.{name}")

    def function(self, name: str, config: int) -> Function:
        """The kernel `name` in the configuration number `config`."""
        if (name, config) not in self._functions:
            self._functions[name, config] = self._load(name, config)
        return self._functions[name, config]

    def load_chosen(self) -> None:
        """Load all that `choose` may give: no call waits for it later."""
        for name in self._plan.kernels:
            for _, config in self.choices(name):
                self.function(name, config)

    def close(self) -> None:
        """Unload them; in the context."""
        modules, self._modules, self._functions = self._modules, {}, {}
        unload = self._device.driver.unload_module
        release_all([partial(unload, held) for held in modules.values()])

    def _arch(self, kernel: Kernel) -> str:
        built = {build.arch for build in kernel.builds} & set(kernel.choices)
        arch = runnable_arch(built, self._device.info.arch)
        if arch is None:
            raise RuntimeFault(
                "HETC-R055",
                "this bundle has no kernels for the GPU at hand",
                at=kernel.symbol,
                expected=f"{self._device.info.arch} ({self._device.info.name})",
                found=", ".join(sorted(built)) or "none",
                do="compile with --prefill for this GPU",
            )
        return arch

    def _load(self, name: str, config: int) -> Function:
        kernel = self._plan.kernels[name]
        wanted = (self._archs[name], config)
        build = next((b for b in kernel.builds if (b.arch, b.config) == wanted), None)
        if build is None:
            raise bad_plan("a configuration was not built", f"one for {wanted[0]}", config, name)
        limit, driver = self._device.info.shared_bytes, self._device.driver
        if build.shared_bytes > limit:
            found = f"{build.shared_bytes} of {limit} bytes"
            raise bad_plan("a kernel needs more shared memory than there is", limit, found, name)
        handle = self._open(build, kernel.symbol)
        expected = (*(size for parameter in kernel.parameters for size in parameter.sizes), 8, 8)
        sizes = driver.parameter_sizes(handle, len(expected) + 1)
        if sizes is not None and sizes != expected:
            raise bad_plan("a cubin has other parameters", expected, sizes, build.cubin)
        if build.shared_bytes > _USUAL_SHARED:
            driver.allow_shared(handle, build.shared_bytes)
        return Function(handle, build, kernel.configs[config])

    def _open(self, build: Build, symbol: str) -> int:
        """The kernel in a cubin, whose digest is checked before the driver sees it."""
        driver = self._device.driver
        image = self._bundle.read_bytes(build.cubin)
        try:
            if build.cubin not in self._modules:
                self._modules[build.cubin] = driver.load_module(image)
            return driver.function(self._modules[build.cubin], symbol)
        except RuntimeFault as error:
            if error.code != "HETC-R051":
                raise
            raise RuntimeFault(
                "HETC-R063",
                "the driver cannot load a kernel of this bundle",
                at=build.cubin,
                expected=f"a driver for code of ptxas {self._plan.ptxas} for {build.arch}",
                found=f"{error.found} by the driver for CUDA {self._device.info.driver}",
                do="update NVIDIA's driver, or compile the bundle again",
            ) from error
