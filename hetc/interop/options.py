"""The options of `torch.compile(model, backend="hetc", options={...})`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from hetc.errors import UsageError
from hetc.targets import load, load_link

EXECUTORS = ("native", "onnx", "reference")


@dataclass(frozen=True)
class Options:
    """What a compiled model is asked to do.

    `prefill` and `decode` are the targets of graphs with many tokens a sequence and with one; other
    graphs are cut between both, which `link` joins. `executor` runs what hetc takes: `native` runs
    decode steps of language models on the native engine and all other regions in ONNX Runtime,
    `onnx` and `reference` run all in one. `strict` makes an error of everything that would run
    eagerly.
    """

    prefill: str = "h200"
    decode: str = "sn40l"
    link: str = "pcie5"
    executor: str = "native"
    strict: bool = False

    @staticmethod
    def of(given: Mapping[str, Any] | None) -> Options:
        """The options that a user gave; raises UsageError (HETC-U040) for one that cannot be, and
        TargetError for a target that is not known."""
        known = {field.name: field for field in fields(Options)}
        for name, value in (given or {}).items():
            if name not in known:
                raise UsageError(
                    "HETC-U040",
                    "torch.compile has no such option for the backend hetc",
                    found=repr(name),
                    expected=", ".join(known),
                )
            wanted = bool if name == "strict" else str
            if type(value) is not wanted:
                raise UsageError(
                    "HETC-U040",
                    f"the option {name} is of another type",
                    expected=wanted.__name__,
                    found=repr(value),
                )
        options = Options(**(given or {}))
        if options.executor not in EXECUTORS:
            raise UsageError(
                "HETC-U040",
                "no such executor",
                expected=", ".join(EXECUTORS),
                found=repr(options.executor),
            )
        for name in (options.prefill, options.decode):
            load(name)
        load_link(options.link)
        return options
