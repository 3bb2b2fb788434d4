"""The kernels of a prefill half, compiled: their entries in the launch plan, and the files beside
it.

For each architecture the cost model says what is worth compiling; of that, what spills in a loop or
does not fit is dropped, and the model chooses again among the rest, now that registers and shared
memory are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from hetc.backends.triton.compile import Cubin, Job, Progress, compile_kernels
from hetc.backends.triton.cost import Resources, Space
from hetc.backends.triton.kernel import Kernel
from hetc.backends.triton.limits import why_refused
from hetc.bundle import launches
from hetc.errors import BackendError, InternalError, Reason
from hetc.targets import Target

FOLDER = "prefill/kernels"
# How many times as many configurations are tried where none of the first can be launched.
_MORE = 4


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


@dataclass(frozen=True)
class _Compiled:
    """What became of a kernel on an architecture: cubins by the number of their configuration, and
    why the others were dropped."""

    space: Space
    cubins: dict[int, Cubin]
    dropped: tuple[Reason, ...]

    def file(self, number: int) -> str:
        """The name of a cubin."""
        return f"{FOLDER}/{self.space.kernel.id}.{self.space.arch}.{number}.cubin"


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
    distinct, machines = _distinct(kernels), _one_for_each_arch(targets)
    spaces = [Space(kernel, target) for kernel in distinct for target in machines]
    compiled = _compile(spaces, options or BuildOptions(), progress)
    for each in compiled:
        if not each.cubins:
            raise _nothing_left(each)
    entries, files = {}, {}
    for kernel in distinct:
        source = f"{FOLDER}/{kernel.id}.py"
        files[source] = kernel.source.encode()
        mine = [each for each in compiled if each.space.kernel is kernel]
        entries[kernel.id] = _entry(kernel, source, mine)
        for each in mine:
            files |= {each.file(number): cubin.data for number, cubin in each.cubins.items()}
    cubins = [cubin for each in compiled for cubin in each.cubins.values()]
    return Built(
        entries,
        files,
        tuple(reason for each in compiled for reason in each.dropped),
        triton=" ".join(sorted({cubin.triton for cubin in cubins})),
        ptxas=" ".join(sorted({cubin.ptxas for cubin in cubins})),
    )


def _compile(
    spaces: list[Space], options: BuildOptions, progress: Progress | None
) -> list[_Compiled]:
    """What is worth it of each space, in order; more of it where all of that is refused."""
    made: dict[int, dict[int, Cubin]] = {place: {} for place in range(len(spaces))}
    compiled: list[_Compiled] = []
    for top in (options.top, _MORE * options.top):
        tried = [
            (place, number)
            for place, space in enumerate(spaces)
            if not compiled or not compiled[place].cubins
            for number in space.worth_compiling(top)
            if number not in made[place]
        ]
        # What has most accumulators compiles longest: begun last, it would be waited for.
        tried.sort(key=lambda each: -spaces[each[0]].accumulators[each[1]])
        jobs = [
            Job(spaces[place].kernel, spaces[place].kernel.configs[number], spaces[place].arch)
            for place, number in tried
        ]
        cubins = compile_kernels(jobs, workers=options.workers, progress=progress)
        for (place, number), cubin in zip(tried, cubins, strict=True):
            made[place][number] = cubin
        compiled = [_judged(space, made[place]) for place, space in enumerate(spaces)]
        if all(each.cubins for each in compiled):
            break
    return compiled


def _judged(space: Space, made: Mapping[int, Cubin]) -> _Compiled:
    """Which of the cubins `made`, by configuration, can be launched. Spilling is slow, and wrong
    is none: where all spill in a loop, what spills least is kept."""
    refused = {number: _refusal(cubin, space) for number, cubin in made.items()}
    kept = [number for number, why in refused.items() if not why]
    if not kept:
        fit = [number for number in made if not _refusal(_unspilled(made[number]), space)]
        kept = sorted(fit, key=lambda number: made[number].spill_bytes)[:1]
    dropped = tuple(
        Reason(
            "HETC-E075",
            f"a configuration is dropped: {refused[number]}",
            at=str(Job(space.kernel, space.kernel.configs[number], space.arch)),
        )
        for number in sorted(made)
        if number not in kept
    )
    return _Compiled(space, {number: made[number] for number in sorted(kept)}, dropped)


def _unspilled(cubin: Cubin) -> Cubin:
    return replace(cubin, spill_bytes=0)


def _entry(kernel: Kernel, source: str, compiled: list[_Compiled]) -> launches.Kernel:
    """The kernel in the launch plan, from what became of it on each architecture."""
    return launches.Kernel(
        symbol=kernel.symbol,
        source=source,
        parameters=kernel.parameters,
        configs=tuple(_with_all_constants(kernel, config) for config in kernel.configs),
        builds=tuple(
            launches.Build(
                arch=each.space.arch,
                config=number,
                cubin=each.file(number),
                threads=cubin.threads,
                shared_bytes=cubin.shared_bytes,
                registers=cubin.registers,
                spill_bytes=cubin.spill_bytes,
                boxes=cubin.boxes,
            )
            for each in compiled
            for number, cubin in each.cubins.items()
        ),
        choices={
            each.space.arch: each.space.choose(
                {number: _resources(cubin) for number, cubin in each.cubins.items()}
            )
            for each in compiled
        },
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
        spill_bytes=cubin.spill_bytes if cubin.spills_in_loop else 0,
        tmem_columns=cubin.tmem_columns,
        scratch_bytes=cubin.scratch_bytes,
    )


def _nothing_left(compiled: _Compiled) -> BackendError:
    reasons = "; ".join(str(reason) for reason in compiled.dropped)
    return BackendError(
        "HETC-E072",
        "no configuration of a kernel can be launched",
        at=f"{compiled.space.kernel.id} for {compiled.space.arch}",
        found=reasons or "none fits into shared memory",
        do="compile for another target, or report the kernel",
    )


def _with_all_constants(kernel: Kernel, config: launches.Config) -> launches.Config:
    """The configuration as a launch plan has it: of the kernel, it knows nothing else."""
    constants = {**(kernel.constants or {}), **config.constants}
    return msgspec.structs.replace(config, constants=constants)


def _resources(cubin: Cubin) -> Resources:
    return Resources(cubin.registers, cubin.shared_bytes, cubin.tmem_columns, cubin.spill_bytes)
