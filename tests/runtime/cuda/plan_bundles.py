"""Parts of launch plans made by hand, and bundles of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hetc.bundle import (
    BundleWriter,
    Contract,
    HalfEntry,
    Manifest,
    ModelInfo,
    TargetRef,
    ToolInfo,
    Workload,
)
from hetc.bundle.launches import (
    LAUNCHES_FILE,
    Argument,
    Box,
    Build,
    Choice,
    Config,
    Extent,
    Kernel,
    Launch,
    LaunchPlan,
    Matrix,
    Parameter,
)
from tests.runtime.cuda.stub_driver import cubin

ARCHS = ("sm_80", "sm_90")
MAX_TOKENS = 256
_BYTES = {"i32": 4, "i64": 8, "fp32": 4}
Array = NDArray[Any]


def kernel_of(symbol: str, *told: tuple[str, str, int] | tuple[str, str, int, Matrix]) -> Kernel:
    """A kernel in two configurations; more than eight rows take the second. Of a parameter `told`
    are name, type, what divides it, and the matrix that lies there."""
    parameters = tuple(
        Parameter(name=name, type=kind, divisible=divisible, matrix=matrix[0] if matrix else None)
        for name, kind, divisible, *matrix in told
    )
    matrices = [parameter.matrix for parameter in parameters if parameter.matrix is not None]
    configs = (
        Config(constants={"BLOCK": 4}, warps=1, stages=1),
        Config(constants={"BLOCK": 8}, warps=2, stages=1),
    )
    builds = tuple(
        Build(
            arch=arch,
            config=number,
            cubin=f"prefill/kernels/{symbol}.{number}.{arch}.cubin",
            threads=32 * config.warps,
            shared_bytes=number * 65536,
            registers=32,
            spill_bytes=0,
            boxes=tuple(
                Box(rows=config.constants["BLOCK"], columns=matrix.columns, swizzle=32)
                for matrix in matrices
            ),
        )
        for arch in ARCHS
        for number, config in enumerate(configs)
    )
    choices = (Choice(rows=8, config=0), Choice(rows=None, config=1))
    return Kernel(
        symbol=symbol,
        source=f"prefill/kernels/{symbol}.py",
        parameters=parameters,
        configs=configs,
        builds=builds,
        choices=dict.fromkeys(ARCHS, choices),
    )


def launch_of(
    kernel: str, arguments: tuple[Argument, ...], size: str, reads: str, writes: str
) -> Launch:
    grid = ((Extent(size=size, by="BLOCK"),), (Extent(size="B"),), ())
    named = tuple(reads.split()), tuple(writes.split())
    return Launch(
        kernel=kernel,
        arguments=arguments,
        grid=grid,
        ops=(f"%{kernel}",),
        reads=named[0],
        writes=named[1],
        flops="2*M",
    )


def cubins(plan: LaunchPlan) -> dict[str, bytes]:
    """The files of all builds, as the stub takes them."""
    found = {}
    for kernel in plan.kernels.values():
        sizes: list[int] = []
        for parameter in kernel.parameters:
            mapped = parameter.matrix is not None
            sizes += [128, 4, 4, 8, 8] if mapped else [_BYTES.get(parameter.type, 8)]
        for build in kernel.builds:
            # The second configuration is the slower one on the stub.
            found[build.cubin] = cubin(kernel.symbol, [*sizes, 8, 8], 0.01 * (1 + build.config))
    return found


def write_bundle(
    path: Path,
    plan: LaunchPlan,
    kernels: Mapping[str, bytes],
    contract: Contract,
    tensors: Mapping[str, tuple[str, Array]],
    vocab: int,
    executors: tuple[str, ...],
    onnx: Mapping[str, bytes],
) -> Path:
    names = contract.state_names
    target = TargetRef("toy", "0" * 64)
    manifest = Manifest(
        tool=ToolInfo("hetc", "0.1.0"),
        kind="runnable",
        model=ModelInfo("toy", "toy", 1, 1, vocab, contract.max_context, "bf16"),
        workload=Workload(1, contract.max_context, 8, 8),
        targets={"prefill": target, "decode": target},
        halves={
            "prefill": HalfEntry(
                "prefill/graph.hetc",
                "prefill/model.onnx" if onnx else None,
                tuple(f"{name}.out" for name in names),
            ),
            "decode": HalfEntry("decode/graph.hetc", "decode/model.onnx" if onnx else None, names),
        },
        executors=executors,
    )
    with BundleWriter(path) as writer:
        writer.write_json("handoff.json", contract.to_json())
        for half in ("prefill", "decode"):
            writer.write_bytes(f"{half}/graph.hetc", b"graph")
            if onnx:
                writer.write_bytes(f"{half}/model.onnx", onnx[half])
        writer.write_bytes(LAUNCHES_FILE, msgspec.json.encode(plan))
        for name, data in kernels.items():
            writer.write_bytes(name, data)
        writer.write_tensors(
            "weights/model.safetensors",
            [
                (name, dtype, tensor.shape, partial(np.asarray, tensor))
                for name, (dtype, tensor) in tensors.items()
            ],
        )
        writer.commit(manifest)
    return path
