"""What quantization costs: logits of hetc and of llama.cpp against the same weights in f32.

    python -m benchmarks.quality --peers build/peers-venv/bin/python [--spread]

All positions of a text are teacher-forced: every engine is given the same tokens, and its
distribution of the next one is compared with that of transformers in f32. hetc computes them by
decode, a token at a time. With `--spread` the model is SmolLM2 with its weights off the grid that
its file has (`benchmarks/spread_weights.py`), since a file in 4 bits costs nothing to quantize.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from benchmarks.machine import machine, smollm2, versions
from benchmarks.peers.client import ROOT, Client, Failed, run
from benchmarks.peers.contenders import ENGINES
from benchmarks.peers.tables import markdown
from benchmarks.spread_weights import spread_weights
from hetc.driver import CompileOptions, compile_bundle
from hetc.frontends.original import original_logits
from hetc.runtime.cores import physical_cores

_LIMIT_SECONDS = 900.0
_ROWS = 100


@dataclass(frozen=True)
class Scored:
    """One row: how it is made of the GGUF file, and what runs it."""

    name: str
    python: Path
    engine: str
    compile: CompileOptions | None = None
    llama: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Distance:
    """Over all positions: mean and 99th percentile of the Kullback-Leibler divergence from f32 in
    nats, the part whose likeliest token is the same, and where it is not, by how much f32 preferred
    its own (median and most, in logits)."""

    kl: float
    kl_99: float
    same_top: float
    gap: float
    gap_most: float


def distance(wanted: np.ndarray, found: np.ndarray) -> Distance:
    """Compare f32[S, V] with f32[S, V]."""
    divergence = np.concatenate(
        [
            _kl(wanted[at : at + _ROWS], found[at : at + _ROWS])
            for at in range(0, len(wanted), _ROWS)
        ]
    )
    best, chosen = wanted.argmax(-1), found.argmax(-1)
    rows = np.arange(len(wanted))
    gaps = (wanted[rows, best] - wanted[rows, chosen])[best != chosen]
    median, most = (float(np.median(gaps)), float(gaps.max())) if gaps.size else (0.0, 0.0)
    same = float((best == chosen).mean())
    percentile = float(np.percentile(divergence, 99))
    return Distance(float(divergence.mean()), percentile, same, median, most)


def _kl(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    p, q = _log_softmax(wanted), _log_softmax(found)
    result: np.ndarray = np.sum(np.exp(p) * (p - q), axis=-1)
    return result


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    rows = logits.astype(np.float64)
    rows -= rows.max(-1, keepdims=True)
    result: np.ndarray = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
    return result


def contenders(peers: Path | None) -> Iterator[Scored]:
    """hetc's native engine in each form, and llama.cpp in the like ones."""
    forms = (("fp32", "none"), ("bf16", "none"), ("bf16", "int8"), ("bf16", "int4"))
    for dtype, quantize in forms:
        yield Scored(
            f"hetc {dtype if quantize == 'none' else quantize}",
            Path(sys.executable),
            ENGINES + "hetc:Hetc",
            compile=CompileOptions(dtype=dtype, quantize=quantize),
            options={"executor": "native"},
        )
    if peers is not None:
        for kind in ("BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K_M"):
            yield Scored(
                f"llama.cpp {kind}",
                peers.absolute(),
                ENGINES + "llama_cpp:LlamaCpp",
                llama=kind,
            )


def logits_of(item: Scored, source: Path, ids: list[int], folder: Path) -> np.ndarray:
    """Make the model that `item` runs, and its logits f32[S, V]. Raises Failed."""
    threads, log = physical_cores(), folder / f"{item.name}.log"
    model, result = folder / "model", folder / "logits.npy"
    if item.compile is not None:
        compile_bundle(source, model, item.compile)
    else:
        convert: list[str | Path] = [item.python, "-m", "benchmarks.peers.convert"]
        run([*convert, f"llama_cpp:{item.llama}", source, model], log, threads)
    worker = Client(item.python, item.engine, item.options, log, threads)
    try:
        where = {"model": str(model), "batch": 1, "context": len(ids)}
        worker.ask("load", _LIMIT_SECONDS, threads=threads, **where)
        worker.ask("logits", _LIMIT_SECONDS, tokens=ids, to=str(result))
    finally:
        worker.close()
    found: np.ndarray = np.load(result)
    return found


def text_ids(tokens: int) -> list[int]:
    """The first `tokens` ids of hetc's own decision records: prose that no model was trained on."""
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    file = smollm2()
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    ids: list[int] = tokenizer(text)["input_ids"][:tokens]
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="interpreter that has llama-cpp-python")
    parser.add_argument("--spread", action="store_true", help="weights off the file's own grid")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names of rows")
    given = parser.parse_args()
    print(machine(), versions("torch", "transformers", "torch-mlir"), sep="\n")
    ids, rows, source = text_ids(given.tokens), [], smollm2()
    with tempfile.TemporaryDirectory() as folder:
        if given.spread:
            source = Path(folder) / "spread.gguf"
            spread_weights(smollm2(), source)
        wanted = original_logits(source, np.array([ids]))[0]
        for item in contenders(given.peers):
            if not any(part in item.name for part in given.only):
                continue
            try:
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    found = distance(wanted, logits_of(item, source, ids, Path(own)))
            except Failed as failed:
                rows.append([item.name, str(failed), "", "", "", ""])
                continue
            rows.append(_row(item.name, found))
    print(f"{len(ids)} tokens, {'weights off the grid' if given.spread else 'weights as stored'}")
    heads = ["", "KL, nats", "KL, 99 %", "same top, %", "gap", "most"]
    print(markdown(heads, rows))


def _row(name: str, found: Distance) -> list[str]:
    return [
        name,
        f"{found.kl:.2e}",
        f"{found.kl_99:.2e}",
        f"{100 * found.same_top:.2f}",
        f"{found.gap:.3f}",
        f"{found.gap_most:.3f}",
    ]


if __name__ == "__main__":
    main()
