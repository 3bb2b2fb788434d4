"""Prefill on a GPU: time to the first token (TTFT), hand-off, and MFU of every kernel.

    python -m benchmarks.gpu_prefill --model llama-3.1-8b smollm2 -o docs/benchmarks/gpu.md

Bundles come from `make gpu-bundles`; that of the 8B shapes has no weights, so they are made up on
the device, for hetc as for PyTorch. TTFT is the time from token ids in the host's memory to logits
there: median of several runs, all sides in one process, after warm-up runs that compile, tune and
capture. A side that is missing or does not fit is a row that says so.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import hetc
from benchmarks import gpu_peers as peers
from benchmarks.machine import versions
from hetc.bundle import OpenBundle, open_bundle
from hetc.errors import HetcError
from hetc.runtime.cuda import CudaOptions, DeviceInfo, device_info
from hetc.runtime.cuda.layout import lay_out
from hetc.runtime.cuda.prefill import Prefill
from hetc.runtime.cuda.sizes import Sizes
from hetc.runtime.cuda.timing import LaunchTime, time_launches

BUNDLES = Path("build/gpu-bundles")
SIDES = ("hetc", "eager", "compiled", "transformers")
# Enough to compile, capture a graph and replay it; fewer of what takes long.
_WARM_UP, _LONG_WARM_UP, _LONG_S, _LONG_RUNS = 4, 2, 0.5, 3
Tokens = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Limits:
    """What the device reaches at most, measured: bytes/s of a copy, FLOP/s of a bf16 product."""

    bandwidth: float
    rate: float


@dataclass(frozen=True)
class Row:
    """One side's prefill of `batch` prompts; `seconds` None where it did not run, for `why`.

    `handoff_s`: from the logits until all states are in the host's memory.
    """

    model: str
    batch: int
    tokens: int
    side: str
    seconds: float | None
    handoff_s: float | None = None
    mfu: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Tables:
    """What the kernels of a model are held against, and where their lines go."""

    limits: Limits
    shape: peers.LlamaShape
    kernels: list[str]
    attention: list[str]
    products: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="+", default=["llama-3.1-8b", "smollm2"])
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048, 8192, 32768])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--bundles", type=Path, default=BUNDLES)
    parser.add_argument("--tune", action="store_true", help="use what hetc tune found")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    try:
        info = device_info()
    except HetcError as error:
        print(f"nothing is measured: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    text = "\n".join(_page(options, info)) + "\n"
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


def _page(options: argparse.Namespace, info: DeviceInfo) -> Iterator[str]:
    limits = Limits(peers.copy_bandwidth(), peers.gemm_rate())
    shapes = {shape.name: shape for shape in (peers.LLAMA_8B, peers.SMOLLM2)}
    today = dt.datetime.now(dt.UTC).date()
    command = "python -m benchmarks.gpu_prefill " + " ".join(sys.argv[1:])
    yield "# Prefill on a GPU"
    yield f"\n`{command}` · {today} · hetc {hetc.__version__}\n"
    yield f"{info.name}, {info.arch}, CUDA {info.driver}, {info.memory_bytes / 2**30:.0f} GiB."
    yield f"Measured in the same run: copies {limits.bandwidth / 1e12:.2f} TB/s, bf16 products"
    yield f"{limits.rate / 1e12:.0f} TFLOP/s. {versions('torch')}.\n"
    yield "TTFT: from token ids to logits, both in the host's memory; median of "
    yield f"{options.runs} runs. MFU is of the measured rate of products.\n"
    rows: list[Row] = []
    kernels: list[str] = []
    attention: list[str] = []
    products: list[str] = []
    for name in options.model:
        tables = Tables(limits, shapes[name], kernels, attention, products)
        if "hetc" in options.sides:
            rows += _told(_hetc_rows(name, options, tables))
        rows += _told(_peer_rows(options, tables))
    yield "| model | batch | tokens | side | TTFT ms | tokens/s | hetc is | hand-off ms | MFU |"
    yield "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |"
    order = {name: number for number, name in enumerate(options.model)}
    rows.sort(key=lambda row: (order[row.model], row.batch, row.tokens, SIDES.index(row.side)))
    yield from (_line(row, rows) for row in rows)
    yield "\n## Kernels\n"
    yield "Every launch by itself, in its place; GB/s of the buffers and states that it reads and"
    yield "writes, without weights.\n"
    yield "| model | tokens | kernel | launches | ms | share | TFLOP/s | MFU | GB/s |"
    yield "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    yield from kernels
    yield "\n## Attention\n"
    yield "One layer's causal attention, of queries to grouped keys: hetc's kernel in its place,"
    yield "and PyTorch's `scaled_dot_product_attention` by itself, its own choice and by name.\n"
    yield "| model | tokens | hetc ms | TFLOP/s | PyTorch's choice | flash | cuDNN |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    yield from attention
    yield "\n## Products of PyTorch\n"
    yield "The products of the side *eager* in their places, by its profiler.\n"
    yield "| model | tokens | rows x inner x columns | calls | ms | TFLOP/s | MFU |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    yield from products


def _told(rows: Iterable[Row]) -> Iterator[Row]:
    """All `rows`, each said when it is there: a side can take minutes."""
    for row in rows:
        took = row.why if row.seconds is None else f"{row.seconds * 1e3:.2f} ms"
        print(row.model, row.batch, row.tokens, row.side, took, file=sys.stderr, flush=True)
        yield row


def _repeat(run: Callable[[int], float], runs: int) -> None:
    """Call `run` with numbers below 0 to warm up, then with those from 0 on; it gives seconds."""
    took = [run(number - _WARM_UP) for number in range(_LONG_WARM_UP)]
    is_long = took[-1] > _LONG_S
    for _ in range(0 if is_long else _WARM_UP - _LONG_WARM_UP):
        run(-1)
    for number in range(min(runs, _LONG_RUNS) if is_long else runs):
        run(number)


def _line(row: Row, rows: list[Row]) -> str:
    if row.seconds is None:
        cells = [row.why, "", "", "", ""]
    else:
        ours = [
            other.seconds
            for other in rows
            if (other.model, other.batch, other.tokens, other.side)
            == (row.model, row.batch, row.tokens, "hetc")
            and other.seconds is not None
        ]
        faster = f"{row.seconds / ours[0]:.2f} x" if ours and row.side != "hetc" else ""
        handoff = "" if row.handoff_s is None else f"{row.handoff_s * 1e3:.2f}"
        mfu = "" if row.mfu is None else f"{row.mfu:.0%}"
        rate = row.batch * row.tokens / row.seconds
        cells = [f"{row.seconds * 1e3:.2f}", f"{rate:,.0f}", faster, handoff, mfu]
    return " | ".join([f"| {row.model}", str(row.batch), str(row.tokens), row.side, *cells]) + " |"


def _cases(options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    return ((batch, tokens) for batch in options.batch for tokens in options.tokens)


def _prompt(batch: int, tokens: int, vocab: int) -> Tokens:
    return np.random.default_rng(0).integers(3, vocab, (batch, tokens))


def _hetc_rows(name: str, options: argparse.Namespace, tables: Tables) -> Iterator[Row]:
    try:
        with open_bundle(options.bundles / name) as bundle:
            plan = bundle.manifest.kind == "plan"
            asked = CudaOptions(tuned=options.tune, random_weights=0 if plan else None)
            with closing(Prefill(bundle, asked)) as prefill:
                for case in _cases(options):
                    yield _hetc_row(name, case, bundle, prefill, options, tables)
    except HetcError as error:
        for batch, count in _cases(options):
            yield Row(name, batch, count, "hetc", None, why=error.what)


def _hetc_row(
    name: str,
    case: tuple[int, int],
    bundle: OpenBundle,
    prefill: Prefill,
    options: argparse.Namespace,
    tables: Tables,
) -> Row:
    batch, count = case
    if count > bundle.contract.max_context:
        return Row(name, batch, count, "hetc", None, why="longer than the context")
    tokens = _prompt(batch, count, bundle.manifest.model.vocab)
    times: list[tuple[float, float]] = []

    def run(number: int) -> float:
        start = time.perf_counter()
        _, states = prefill.run(tokens)
        first = time.perf_counter()
        # Pinned memory is used again when nobody holds it.
        for state in states.values():
            state.numpy()
        if number >= 0:
            times.append((first - start, time.perf_counter() - first))
        return first - start

    try:
        _repeat(run, options.runs)
        launches = time_launches(prefill, tokens)
    except HetcError as error:
        return Row(name, batch, count, "hetc", None, why=error.what)
    seconds, handoff = (statistics.median(column) for column in zip(*times, strict=True))
    flops = sum(launch.flops for launch in launches)
    if batch == 1:
        tables.kernels.extend(_kernel_lines(name, count, prefill, launches, tables.limits))
        tables.attention.extend(_attention_lines(name, count, launches, tables.shape))
    return Row(name, batch, count, "hetc", seconds, handoff, flops / seconds / tables.limits.rate)


def _attention_lines(
    name: str, count: int, launches: tuple[LaunchTime, ...], shape: peers.LlamaShape
) -> Iterator[str]:
    own = [launch for launch in launches if launch.kernel.startswith("attention")]
    if not own:
        return
    seconds = statistics.median(launch.milliseconds for launch in own) / 1e3
    rate = own[0].flops / seconds / 1e12
    theirs = [peers.attention(shape, count, backend) for backend in peers.ATTENTION]
    cells = [f"{each * 1e3:.3f}" if each is not None else "refused" for each in theirs]
    yield f"| {name} | {count} | {seconds * 1e3:.3f} | {rate:.0f} | {' | '.join(cells)} |"


def _kernel_lines(
    name: str, count: int, prefill: Prefill, launches: tuple[LaunchTime, ...], limits: Limits
) -> Iterator[str]:
    layout = lay_out(prefill.plan, Sizes(1, count))
    spans = {**layout.buffers, **layout.states}
    whole = sum(launch.milliseconds for launch in launches)
    for kernel in dict.fromkeys(launch.kernel for launch in launches):
        own = [launch for launch in launches if launch.kernel == kernel]
        seconds = sum(launch.milliseconds for launch in own) / 1e3
        rate = sum(launch.flops for launch in own) / seconds
        moved = sum(
            spans[held].size
            for launch in own
            for side in ("reads", "writes")
            for held in getattr(prefill.plan.launches[launch.number], side)
        )
        cells = (
            name,
            str(count),
            kernel,
            str(len(own)),
            f"{seconds * 1e3:.3f}",
            f"{seconds * 1e3 / whole:.0%}",
            f"{rate / 1e12:.1f}",
            f"{rate / limits.rate:.0%}",
            f"{moved / seconds / 1e9:,.0f}",
        )
        yield "| " + " | ".join(cells) + " |"


def _peer_rows(options: argparse.Namespace, tables: Tables) -> Iterator[Row]:
    """Rows of PyTorch; each side's model is gone before the next one is made."""
    shape = tables.shape
    makers: dict[str, Callable[[], peers.Prefill | None]] = {
        "eager": lambda: peers.eager(peers.plain(shape)),
        "compiled": lambda: peers.compiled(peers.plain(shape)),
        "transformers": lambda: peers.transformers(shape),
    }
    for side, make in makers.items():
        if side not in options.sides:
            continue
        prefill = make()
        for batch, count in _cases(options):
            row = _peer_row(shape, side, batch, count, prefill, options.runs)
            if side == "eager" and batch == 1 and row.seconds is not None:
                tables.products.extend(_product_lines(count, prefill, tables))
            yield row
        del prefill
        gc.collect()
        torch.cuda.empty_cache()


def _product_lines(count: int, prefill: peers.Prefill | None, tables: Tables) -> Iterator[str]:
    assert prefill is not None
    tokens = torch.from_numpy(_prompt(1, count, tables.shape.vocab)).cuda()
    for product in peers.products(prefill, tokens):
        cells = (
            tables.shape.name,
            str(count),
            f"{product.rows} x {product.inner} x {product.columns}",
            str(product.calls),
            f"{product.seconds * 1e3:.2f}",
            f"{product.rate / 1e12:.0f}",
            f"{product.rate / tables.limits.rate:.0%}",
        )
        yield "| " + " | ".join(cells) + " |"


def _peer_row(
    shape: peers.LlamaShape,
    side: str,
    batch: int,
    count: int,
    prefill: peers.Prefill | None,
    runs: int,
) -> Row:
    if prefill is None:
        return Row(shape.name, batch, count, side, None, why="not installed")
    if count > shape.context:
        return Row(shape.name, batch, count, side, None, why="longer than the context")
    tokens = torch.from_numpy(_prompt(batch, count, shape.vocab))
    times = []

    def run(number: int) -> float:
        start = time.perf_counter()
        prefill(tokens.cuda()).cpu()
        took = time.perf_counter() - start
        if number >= 0:
            times.append(took)
        return took

    try:
        _repeat(run, runs)
    except RuntimeError as error:
        full = isinstance(error, torch.OutOfMemoryError)
        torch.cuda.empty_cache()
        why = "does not fit" if full else f"{type(error).__name__}: {error}".splitlines()[0][:80]
        return Row(shape.name, batch, count, side, None, why=why)
    return Row(shape.name, batch, count, side, statistics.median(times))


if __name__ == "__main__":
    main()
