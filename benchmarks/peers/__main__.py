"""SmolLM2-135M in hetc and in its peers, the same work side by side.

    python -m benchmarks.peers --peers build/peers-venv/bin/python --rounds 3

Everyone decodes greedily, on the same number of threads, from the same random token ids. A figure
is the median of the rounds. `make bench-peers` installs the peers and runs this.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.machine import machine, smollm2, versions
from benchmarks.peers import contenders as known
from benchmarks.peers import tables
from benchmarks.peers.client import Failed, run
from benchmarks.peers.contenders import Contender
from benchmarks.peers.rounds import Found, Limits, Row, Work, measure_round
from hetc.runtime.cores import physical_cores

PACKAGES = ("llama-cpp-python", "openvino-genai", "onnxruntime-genai", "ctranslate2")
_VERSIONS = """import importlib.metadata as found, sys
for name in sys.argv[1:]:
    try:
        print(name, found.version(name))
    except found.PackageNotFoundError:
        print(name, "is missing")
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, required=True, help="interpreter that has the peers")
    parser.add_argument("--folder", type=Path, default=Path("build/peers"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names of contenders")
    parser.add_argument("--executors", nargs="*", default=["native"], help="executors of hetc")
    parser.add_argument("--prompts", type=int, nargs="*", default=[128, 512, 2048])
    parser.add_argument("--contexts", type=int, nargs="*", default=[64, 1024, 4096])
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--batched-context", type=int, default=1024, help="longest with a batch")
    parser.add_argument("--new", type=int, default=32, help="steps of a decode")
    parser.add_argument("--seconds", type=float, default=300, help="the most for one request")
    parser.add_argument("--patience", type=float, default=0, help="the most for a quiet machine")
    parser.add_argument("--hogs", type=int, default=0, help="busy processes beside everyone")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Contender]:
    """hetc's contenders and the peers, of those that `--only` names."""
    own = (item for executor in options.executors for item in known.hetc(executor))
    every = [*own, *known.peers(options.peers.absolute())]
    return [item for item in every if any(part in item.name for part in options.only)]


def works(options: argparse.Namespace) -> list[Work]:
    prefills = [Work("prefill", tokens) for tokens in options.prompts]
    decodes = [
        Work("decode", context, batch, options.new)
        for batch in options.batches
        for context in options.contexts
        if batch == 1 or context <= options.batched_context
    ]
    return prefills + decodes


def prepare(
    found: Found, contenders: list[Contender], folder: Path, threads: int
) -> dict[Contender, Path]:
    """The model of each contender, converted where it is not there yet; a failure is a row."""
    models: dict[Contender, Path] = {}
    for item in contenders:
        try:
            models[item] = _model(item, folder, threads)
        except Failed as failed:
            found.rows.setdefault(item.name, Row()).reasons["convert"] = str(failed)
    return models


def _model(item: Contender, folder: Path, threads: int) -> Path:
    if not item.format:
        return smollm2()
    source = smollm2()
    if item.source:
        source = _converted(item.source, source, Path(sys.executable), folder, threads)
    return _converted(item.format, source, item.python, folder, threads)


def _converted(format: str, source: Path, python: Path, folder: Path, threads: int) -> Path:
    target = folder / format.replace(":", "-")
    if not target.exists():
        say(f"converting to {format}")
        command: list[str | Path] = [python, "-m", "benchmarks.peers.convert", format]
        command += [source.absolute(), target.absolute()]
        run(command, folder / "logs" / f"convert-{target.name}.log", threads)
    return target


def peers_versions(python: Path) -> str:
    """`llama-cpp-python 0.3.36, ...` as their own environment has them."""
    command: list[str | Path] = [python, "-c", _VERSIONS, *PACKAGES]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        return f"peers: {error}"
    return ", ".join(done.stdout.splitlines())


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """`count` processes that do nothing but run."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def save(found: Found, path: Path) -> None:
    path.write_text(json.dumps(dataclasses.asdict(found), indent=1), encoding="utf-8")


def report(
    found: Found, models: dict[Contender, Path], works: list[Work], limits: Limits, peers: Path
) -> None:
    everyone = [item for item in models if item.name in found.rows]
    reads = [rate / 1e9 for rate in found.bandwidth]
    print(f"{machine()}\n{versions('torch', 'transformers', 'onnxruntime')}")
    print(peers_versions(peers))
    print(
        f"{limits.threads} threads each, {len(reads)} rounds; "
        f"reads {statistics.median(reads):.1f} GB/s ({min(reads):.1f} to {max(reads):.1f}); "
        "load average at the end of a round " + ", ".join(f"{load:.1f}" for load in found.load)
    )
    print(f"\n{tables.rates(found, everyone, works)}")
    for item in everyone:
        if item.is_hetc and found.rows[item.name].rates:
            print(f"\n{tables.ratios(found, item, everyone, works)}")
    print(f"\n{tables.utilization(found, models, works)}")
    print(f"\n{tables.reasons(found)}")


def main() -> None:
    options = arguments()
    threads = physical_cores()
    limits = Limits(threads, options.seconds, patience=options.patience)
    contenders, todo, found = chosen(options), works(options), Found()
    models = prepare(found, contenders, options.folder, threads)
    try:
        with hogs(options.hogs):
            for number in range(options.rounds):
                measure_round(number, models, todo, limits, options.folder / "logs", found, say)
                save(found, options.folder / "found.json")
    except KeyboardInterrupt:
        print("Interrupted: this is what was measured until then.\n")
    if options.hogs:
        print(f"beside {options.hogs} busy processes")
    report(found, models, todo, limits, options.peers)


if __name__ == "__main__":
    main()
