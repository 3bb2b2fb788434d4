"""SmolLM2 through transformers' `generate`: eagerly, and compiled by hetc and by inductor.

    python -m benchmarks.torch_compile --runs 3 --sides eager hetc inductor

Each side and cache has a process of its own; they take turns in every run. Warm-up is the time of
the first two calls of `generate`, as far as it is more than that of later ones; hetc's part of it
is to compile graphs that PyTorch has captured, and to make steps. Decode is what each further token
adds. A token's time is that of the native engine, of hetc around it, of what PyTorch
does around hetc (guards, mostly; all of the model where there is no hetc), and of `generate`.
Texts are compared with that of the eager model in the same type, and in f32.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
import warnings
from importlib import import_module
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.machine import machine, smollm2, versions
from hetc.frontends.original import model_of_gguf
from hetc.interop.step_call import StepCall
from hetc.runtime.native.step import NativeStep

SIDES = ("eager", "hetc", "inductor")
PROMPT, NEW = 64, 64
# As many tokens or more.
TEXT = (
    "Every spring the river rises over its banks, and the people of the valley move their boats"
    " and their animals to the hill. The old bridge has been carried away four times. After the"
    " last flood, the village council met in the school to decide whether it should be built"
    " again, and a young engineer stood up and said that"
)
FIGURES = ("warm_up", "own", "prefill", "decode", "engine", "hetc", "pytorch", "generate")


def one(side: str, cache: str, dtype: str) -> dict[str, Any]:
    """Seconds and tokens of one side, in this process."""
    warnings.simplefilter("ignore")
    gguf = smollm2()
    model = model_of_gguf(gguf, dtype).eval()
    model.config.use_cache = model.generation_config.use_cache = True
    model.generation_config.eos_token_id = None
    if side != "eager":
        model.forward = torch.compile(model.forward, backend=side)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"][-PROMPT:]])

    def generate(new: int) -> tuple[float, list[int]]:
        start = time.perf_counter()
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            disable_compile=True,
            **({"cache_implementation": "static"} if cache == "static" else {}),
        )
        return time.perf_counter() - start, found[0, PROMPT:].tolist()

    own = [_timed(import_module("hetc.interop.backend"), "_infer"), _timed(StepCall, "_new")]
    engine, step = _timed(NativeStep, "run"), _timed(StepCall, "__call__")
    forward = _timed(model, "forward")
    first = [generate(NEW)[0] for _ in range(2)]
    prefill = statistics.median(generate(1)[0] for _ in range(3))
    for taken in (engine, step, forward):
        taken.clear()
    whole = [generate(NEW) for _ in range(3)]
    seconds = statistics.median(item[0] for item in whole)
    # The first of each text is the prompt's.
    steps = [taken for index, taken in enumerate(forward) if index % NEW]
    token = (seconds - prefill) / (NEW - 1)
    inside = [statistics.median(taken) if taken else 0.0 for taken in (steps, step, engine)]
    return {
        "warm_up": sum(first) - 2 * seconds,
        "own": sum(sum(taken) for taken in own),
        "prefill": prefill,
        "decode": 1 / token,
        "engine": inside[2] * 1e3,
        "hetc": (inside[1] - inside[2]) * 1e3,
        "pytorch": (inside[0] - inside[1]) * 1e3,
        "generate": (token - inside[0]) * 1e3,
        "tokens": whole[-1][1],
    }


def _timed(owner: Any, name: str) -> list[float]:
    """The seconds that each call of `owner.name` takes from now on."""
    seconds: list[float] = []
    run = getattr(owner, name)

    @functools.wraps(run)
    def timed(*given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        made = run(*given, **named)
        seconds.append(time.perf_counter() - start)
        return made

    setattr(owner, name, timed)
    return seconds


def in_process(side: str, cache: str, dtype: str) -> dict[str, Any]:
    """As `one`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.torch_compile", "--one", side, cache, dtype]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--caches", nargs="+", default=["dynamic", "static"])
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(*args.one)))
        return
    print(machine())
    print(versions("torch", "transformers"))
    print(
        f"\nSmolLM2-135M, prompt of {PROMPT} tokens, {NEW} new ones, medians of {args.runs} runs\n"
    )
    print(
        "| dtype | cache | side | warm-up, s | hetc's, s | prefill, s | decode, tokens/s"
        " | ms a token: engine | hetc | PyTorch | generate | as eager | as in f32 |"
    )
    print(
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    for dtype in args.dtypes:
        for cache in args.caches:
            found: dict[str, list[dict[str, Any]]] = {side: [] for side in args.sides}
            for _ in range(args.runs):
                for side in args.sides:
                    found[side].append(in_process(side, cache, dtype))
            expected = found[args.sides[0]][0]["tokens"]
            exact = in_process("eager", cache, "float32")["tokens"]
            for side, taken in found.items():
                middle = {key: statistics.median(item[key] for item in taken) for key in FIGURES}
                as_eager, as_exact = (
                    sum(a == b for a, b in zip(taken[-1]["tokens"], other, strict=True))
                    for other in (expected, exact)
                )
                print(
                    f"| {dtype} | {cache} | {side} | {middle['warm_up']:.1f} | {middle['own']:.1f}"
                    f" | {middle['prefill']:.2f} | {middle['decode']:.1f}"
                    f" | {middle['engine']:.1f} | {middle['hetc']:.1f}"
                    f" | {middle['pytorch']:.1f} | {middle['generate']:.1f}"
                    f" | {as_eager} | {as_exact} |"
                )


if __name__ == "__main__":
    main()
