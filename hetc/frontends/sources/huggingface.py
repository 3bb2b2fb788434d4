"""Hugging Face directories: config.json, weights as safetensors or torch files, a tokenizer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hetc.errors import InputError
from hetc.frontends.no_phases import ASKED
from hetc.frontends.sources.binding import bind_checkpoint
from hetc.frontends.sources.checkpoint import StoredTensor, read_checkpoint
from hetc.frontends.sources.libraries import require
from hetc.frontends.sources.model_config import read_config
from hetc.frontends.sources.model_source import ModelSource
from hetc.frontends.sources.skeleton import build_skeleton
from hetc.frontends.sources.tensors import dtype_name
from hetc.frontends.sources.tokenizer import directory_tokenizer
from hetc.frontends.sources.whole import named_class, why_no_language_model


def open_hf_directory(path: str | Path, *, whole: bool = False) -> ModelSource:
    """Open a model directory; its weights are None where it holds config.json alone.

    A model whose class generates no tokens is taken as one function, and any with `whole`. Weights
    keep the type they are stored in. Errors: HETC-I050 to HETC-I063 and HETC-I070 for what
    cannot be used, each naming the file.
    """
    require("torch", "transformers", needed_for="reading a Hugging Face directory")
    directory = Path(path).resolve()
    config, notes = read_config(directory)
    stored = read_checkpoint(directory)
    config, narrow, more = _plain_weights(config, stored, directory)
    notes += more
    weights = None
    no_phases = ASKED if whole else why_no_language_model(config)
    cls = None if no_phases is None else named_class(config)
    if stored is not None:
        config, more = _own_dtype(config, stored)
        notes += more
        weights, more = bind_checkpoint(build_skeleton(config, cls), stored, directory.name)
        notes += more
    else:
        notes += ("the directory has no weights: the result is a plan",)
        build_skeleton(config, cls)
    tokenizer, more = directory_tokenizer(directory, config)
    return ModelSource(
        name=directory.name,
        family=config.model_type,
        config=config,
        weights=weights,
        tokenizer=tokenizer,
        dtype=dtype_name(config.dtype) if config.dtype is not None else "f32",
        notes=(*notes, *more),
        stored=narrow,
        no_phases=no_phases,
    )


# quantization_config.quant_method -> the type in which a plan stores the matrices.
_STORED_TYPES = {"fp8": "f8e4m3"}


def _plain_weights(
    config: Any, stored: Mapping[str, StoredTensor] | None, directory: Path
) -> tuple[Any, str | None, tuple[str, ...]]:
    """Refuse weights that only a quantization library can read; a plan needs only their type."""
    method = getattr(config, "quantization_config", None)
    if method is None:
        return config, None, ()
    name = method.get("quant_method") if isinstance(method, dict) else type(method).__name__
    if stored is not None:
        raise InputError(
            "HETC-I062",
            "the weights are in a quantization library's own format",
            at=str(directory),
            expected="weights in bf16, f16 or f32, or a GGUF file",
            found=f"quantization_config with quant_method {name!r}",
            do="save a dequantized copy, or compile a GGUF file of the model",
        )
    config = copy.deepcopy(config)
    del config.quantization_config
    narrow = _STORED_TYPES.get(str(name))
    if narrow is None:
        return config, None, (f"quantization_config ({name}): planned in the config's dtype",)
    return config, narrow, (f"quantization_config ({name}): matrices planned as {narrow}",)


def _own_dtype(config: Any, stored: Mapping[str, StoredTensor]) -> tuple[Any, tuple[str, ...]]:
    """The config with its dtype set: the one it names, else the first float type of the weights."""
    floats = [tensor.dtype for tensor in stored.values() if tensor.dtype.is_floating_point]
    if config.dtype is None and floats:
        config = copy.deepcopy(config)
        config.dtype = floats[0]
        return config, (f"config.json names no dtype: {dtype_name(floats[0])}, as the weights",)
    others = sorted({dtype_name(dtype) for dtype in floats if dtype != config.dtype})
    if others:
        named = dtype_name(config.dtype)
        return config, (f"config.json says {named}, but weights are stored in {', '.join(others)}",)
    return config, ()
