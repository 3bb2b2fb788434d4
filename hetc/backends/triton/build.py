"""The kernels of a prefill half, compiled: their entries in the launch plan, and the files beside
it.

For each architecture the cost model says what is worth compiling; of that, what spills much or does
not fit is dropped, and the model chooses again among the rest, now that registers and shared memory
are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from hetc.backends.triton.compile import Cubin, Job, Progress, compile_kernels
from hetc.backends.triton.cost import Resources, Space
from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.limits import why_refused
from hetc.bundle import launches
from hetc.errors import BackendError, InternalError, Reason
from hetc.targets import Target

FOLDER = "prefill/kernels"


@dataclass(frozen=True)
class BuildOptions:
    """`top` configurations are compiled for every bucket of rows; `workers` processes compile, one
    a core by default."""

    top: int = 2
    workers: int | None = None


@dataclass(frozen=True)
class Built:
    """What a launch plan says of its kernels, by their ids; sources and cubins by the names of
    their files; which configurations were compiled and dropped, and why; versions."""

    kernels: dict[str, launches.Kernel]
    files: dict[str, bytes]
    dropped: tuple[Reason, ...]
    triton: str
    ptxas: str


def build_kernels(
    kernels: Iterable[Kernel],
    targets: Iterable[Target],
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Built:
    """Compile `kernels`, equal ones once, for the architectures of `targets`; of several targets of
    one architecture the first says how fast it is. Equal input gives equal bytes.

    Raises BackendError: HETC-E072 where no configuration of a kernel can be launched, and those of
    `compile_kernels`.
    """
    options = options or BuildOptions()
    distinct = _distinct(kernels)
    targets = _one_for_each_arch(targets)
    spaces = [Space(kernel, target) for kernel in distinct for target in targets]
    tried = [(space, number) for space in spaces for number in space.worth_compiling(options.top)]
    # What has most accumulators compiles longest: begun last, it would be waited for.
    tried.sort(key=lambda each: -each[0].accumulators[each[1]])
    jobs = [Job(space.kernel, space.kernel.configs[number], space.arch) for space, number in tried]
    cubins = compile_kernels(jobs, workers=options.workers, progress=progress)
    kept: dict[tuple[str, str], dict[int, Cubin]] = {}
    dropped: dict[tuple[str, str], list[Reason]] = {}
    for (space, number), job, cubin in zip(tried, jobs, cubins, strict=True):
        place = space.kernel.id, space.arch
        if refusal := _refusal(cubin, space):
            reason = Reason("HETC-E075", f"a configuration is dropped: {refusal}", at=str(job))
            dropped.setdefault(place, []).append(reason)
        else:
            kept.setdefault(place, {})[number] = cubin
    files: dict[str, bytes] = {}
    entries: dict[str, launches.Kernel] = {}
    for kernel in distinct:
        source = f"{FOLDER}/{kernel.id}.py"
        files[source] = kernel.source.encode()
        builds: list[launches.Build] = []
        choices: dict[str, tuple[launches.Choice, ...]] = {}
        for target in targets:
            space = Space(kernel, target)
            place = kernel.id, space.arch
            if place not in kept:
                raise _nothing_left(space, dropped.get(place, []))
            for number, cubin in sorted(kept[place].items()):
                name = f"{FOLDER}/{kernel.id}.{space.arch}.{number}.cubin"
                files[name] = cubin.data
                builds.append(_build(name, space.arch, number, cubin))
            resources = {number: _resources(cubin) for number, cubin in kept[place].items()}
            choices[space.arch] = space.choose(resources)
        entries[kernel.id] = launches.Kernel(
            symbol=kernel.symbol,
            source=source,
            parameters=kernel.parameters,
            configs=tuple(_with_all_constants(kernel, config) for config in kernel.configs),
            builds=tuple(builds),
            choices=choices,
        )
    return Built(
        entries,
        files,
        tuple(reason for place in sorted(dropped) for reason in dropped[place]),
        triton=" ".join(sorted({cubin.triton for cubin in cubins})),
        ptxas=" ".join(sorted({cubin.ptxas for cubin in cubins})),
    )


def _distinct(kernels: Iterable[Kernel]) -> list[Kernel]:
    """Every kernel once, in order; kernels of one id must be searched in one space."""
    found: dict[str, Kernel] = {}
    for kernel in kernels:
        first = found.setdefault(kernel.id, kernel)
        if first.configs != kernel.configs:
            raise InternalError(
                "HETC-Z031",
                "equal kernels have unequal configurations",
                at=kernel.id,
                expected=first.configs,
                found=kernel.configs,
            )
    return list(found.values())


def _one_for_each_arch(targets: Iterable[Target]) -> list[Target]:
    found: dict[str, Target] = {}
    for target in targets:
        found.setdefault(target.device.arch, target)
    return list(found.values())


def _refusal(cubin: Cubin, space: Space) -> str:
    return why_refused(
        space.limits,
        shared_bytes=cubin.shared_bytes,
        spill_bytes=cubin.spill_bytes,
        tmem_columns=cubin.tmem_columns,
        scratch_bytes=cubin.scratch_bytes,
    )


def _nothing_left(space: Space, reasons: list[Reason]) -> BackendError:
    return BackendError(
        "HETC-E072",
        "no configuration of a kernel can be launched",
        at=f"{space.kernel.id} for {space.arch}",
        found="; ".join(str(reason) for reason in reasons) or "none fits into shared memory",
        do="compile for another target, or report the kernel",
    )


def _build(name: str, arch: str, number: int, cubin: Cubin) -> launches.Build:
    return launches.Build(
        arch=arch,
        config=number,
        cubin=name,
        threads=cubin.threads,
        shared_bytes=cubin.shared_bytes,
        registers=cubin.registers,
        spill_bytes=cubin.spill_bytes,
    )


def _with_all_constants(kernel: Kernel, config: launches.Config) -> launches.Config:
    """The configuration as a launch plan has it: of the kernel, it knows nothing else."""
    constants = {**(kernel.constants or {}), **config.constants}
    return msgspec.structs.replace(config, constants=constants)


def _resources(cubin: Cubin) -> Resources:
    return Resources(cubin.registers, cubin.shared_bytes, cubin.tmem_columns, cubin.spill_bytes)
