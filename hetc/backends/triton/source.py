"""Triton source: rendered from the templates beside this file, and imported as a module.

Triton reads a function's source from its file, so that what was rendered must be written before it
is compiled or interpreted.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

# The elements of hetc that kernels read and write, as Triton's signatures and its language have
# them.
_SIGNATURE = {
    "f32": "fp32", "f16": "fp16", "bf16": "bf16", "f8e4m3": "fp8e4nv", "f8e5m2": "fp8e5",
    "i64": "i64", "i32": "i32", "i16": "i16", "i8": "i8", "u8": "u8", "bool": "i1",
}  # fmt: skip
_LANGUAGE = {
    "f32": "float32", "f16": "float16", "bf16": "bfloat16", "f8e4m3": "float8e4nv",
    "f8e5m2": "float8e5", "i64": "int64", "i32": "int32", "i16": "int16", "i8": "int8",
    "u8": "uint8", "bool": "int1",
}  # fmt: skip


def pointer(element: str) -> str:
    """The type of a pointer to `element` (`bf16`) in a kernel's signature: `*bf16`."""
    return f"*{_SIGNATURE[element]}"


def triton_element(element: str) -> str:
    """`element` (`bf16`) as an expression in a kernel: `tl.bfloat16`."""
    return f"tl.{_LANGUAGE[element]}"


def render(template: str, **context: Any) -> str:
    """The module that `templates/{template}` gives; equal contexts give equal text."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    import jinja2

    def read(name: str) -> str:
        return _templates().joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        # Kernels are Python, in which nothing needs to be escaped.
        autoescape=False,
        loader=jinja2.FunctionLoader(read),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["triton"] = triton_element
    return environment


def _templates() -> Traversable:
    return resources.files("hetc.backends.triton").joinpath("templates")


def load_function(source: str, symbol: str, folder: Path) -> Any:
    """The function `symbol` of the module `source`, which is written to `folder`.

    Under the name of its digest: equal sources share a file, and no file ever changes.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = folder / f"{symbol}_{digest}.py"
    if not path.is_file():
        # Renamed into place: several processes may load one source at a time.
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(source, encoding="utf-8", newline="\n")
        draft.replace(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, symbol)
