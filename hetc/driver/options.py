"""What a compile is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hetc.errors import UsageError
from hetc.passes.quantize_weights import Form

QUANTIZE: Mapping[str, Form] = {"none": "none", "keep": "keep", "int8": "int8", "int4": "int4"}
KV: Mapping[str, Literal["i8"] | None] = {"model": None, "int8": "i8"}
PHASES = ("auto", "none")
DTYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
# Of a typical request where nothing is said.
USUAL_PROMPT, USUAL_ANSWER = 2048, 128


@dataclass(frozen=True)
class CompileOptions:
    """Targets by name, the workload that the cut is made for, and the type of the weights.

    Without `prefill` the cut is made for an h200, and kernels are compiled for it only where the
    cut puts the prefill of a model with weights on it.
    `context` is the longest sequence that the bundle accepts (the model's own limit where None),
    `prompt_tokens` and `new_tokens` what a typical request has (None: 2,048 and 128, or what fits
    of them into the context). `dtype` is fp32, bf16 or fp16 (the model's own where None). `link`
    names the link between the devices, or gives its GB/s. `policy` is a TOML file of pins, limits
    and declarations, `plan` a JSON file of what is fixed of the spatial plan. `quantize` says how
    matrices are stored: none, int8 or int4, or keep, which is as the source has them (None: keep
    where it has integers); the policy may say it of some by name.
    `kv` says how the native engine keeps keys and values in memory: `model` as the contract has
    them, `int8` with a scale for each head of a token. `calibrated` names frameworks whose fitted
    constants the cut uses where a target has them. `strict` makes every fallback an error.
    `phases` is `auto`, or `none` to compile any model as one function: then `batch` is the first
    axis of every input, and `prompt_tokens` every other axis that varies.
    """

    prefill: str | None = None
    decode: str = "sn40l"
    batch: int = 1
    context: int | None = None
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    dtype: str | None = None
    link: str | None = None
    policy: str | Path | None = None
    plan: str | Path | None = None
    quantize: str | None = None
    kv: str = "model"
    calibrated: tuple[str, ...] = ()
    strict: bool = False
    phases: str = "auto"

    def check(self) -> None:
        """Raise UsageError (HETC-U010) for a value that cannot be."""
        for name in ("batch", "prompt_tokens", "new_tokens", "context"):
            number = getattr(self, name)
            if number is None and name != "batch":
                continue
            flag = f"--{name.replace('_', '-')}"
            if type(number) is not int:
                raise UsageError("HETC-U010", f"{flag} must be a whole number", found=repr(number))
            if number < 1:
                raise UsageError("HETC-U010", f"{flag} must be at least 1", found=number)
        for name in ("prefill", "decode", "link"):
            target = getattr(self, name)
            if not isinstance(target, str | Path) and not (target is None and name != "decode"):
                raise UsageError("HETC-U010", f"--{name} must be a name", found=repr(target))
        for flag, known, found in (
            ("--quantize", QUANTIZE, self.quantize),
            ("--kv", KV, self.kv),
        ):
            if found is not None and found not in known:
                raise UsageError(
                    "HETC-U010",
                    "no such quantization",
                    at=flag,
                    expected=", ".join(known),
                    found=found,
                )
        if self.phases not in PHASES:
            raise UsageError(
                "HETC-U010",
                "no such choice of phases",
                at="--phases",
                expected=", ".join(PHASES),
                found=self.phases,
            )
        if self.dtype is not None and self.dtype not in DTYPES:
            raise UsageError(
                "HETC-U010", "no such dtype", expected=", ".join(DTYPES), found=self.dtype
            )


def usual_request(prompt: int | None, answer: int | None, longest: int) -> tuple[int, int]:
    """Tokens of a typical prompt and answer in a context of `longest`: as asked, and else as much
    of the usual as fits. Raises UsageError (HETC-U011) for what was asked and does not fit."""
    if answer is None:
        most = longest // 2 if prompt is None else longest - prompt
        answer = max(1, min(USUAL_ANSWER, most))
    if prompt is None:
        prompt = max(1, min(USUAL_PROMPT, longest - answer))
    if prompt + answer > longest:
        raise UsageError(
            "HETC-U011",
            "the request is longer than the model's context",
            at="--prompt-tokens, --new-tokens",
            expected=f"at most {longest} together",
            found=f"{prompt} and {answer}",
        )
    return prompt, answer
