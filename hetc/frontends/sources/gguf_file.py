"""GGUF files: metadata and tensors by the `gguf` package, what they mean by transformers' tables.

Weights are dequantized one by one, when asked for, to float32: what the file says, not rounded. The
integers of quantized ones are there beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hetc.frontends.sources.binding import Candidate, bind
from hetc.frontends.sources.gguf_config import ROPE_FACTORS, gguf_config
from hetc.frontends.sources.gguf_groups import Process, groups_of
from hetc.frontends.sources.gguf_tensors import FLOATS, GGUFFile, GGUFTensor, read_gguf
from hetc.frontends.sources.libraries import require
from hetc.frontends.sources.model_source import Array, LazyTensor, ModelSource
from hetc.frontends.sources.skeleton import build_skeleton
from hetc.frontends.sources.tensors import dtype_name
from hetc.frontends.sources.tokenizer import gguf_tokenizer


def open_gguf(path: str | Path) -> ModelSource:
    """Open a GGUF file; every weight is dequantized to f32 when it is loaded.

    `dtype` is the file's own float type, bf16 where it is quantized. Errors: HETC-I064 to HETC-I068
    for the file, HETC-I054 and HETC-I059 to HETC-I061 where its weights make no language model.
    """
    require("torch", "transformers", "gguf", needed_for="reading a GGUF file")
    path = Path(path).resolve()
    file = read_gguf(path)
    config, facts, notes = gguf_config(file)
    weights, widened = _weights(build_skeleton(config), file, facts)
    tokenizer, more = gguf_tokenizer(path, config)
    return ModelSource(
        name=path.stem,
        family=config.model_type,
        config=config,
        weights=weights,
        tokenizer=tokenizer,
        dtype=dtype_name(config.dtype),
        notes=(*notes, *widened, *more),
    )


def _weights(
    model: Any, file: GGUFFile, facts: dict[str, Any]
) -> tuple[dict[str, LazyTensor], tuple[str, ...]]:
    """The weights by name, and a note of those that are quantized and lose their integers."""
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    architecture = file.metadata["general.architecture"]
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=facts)
    names = get_gguf_hf_weights_map(_Shallow(model), processor)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    parts: dict[str, list[GGUFTensor]] = {}
    left_over: list[str] = []
    for name, tensor in file.tensors.items():
        # Stacked experts are listed without the suffix that the file gives them.
        target = names.get(name) or names.get(name.removesuffix(".weight"))
        if target in expected:
            parts.setdefault(target, []).append(tensor)
        elif name != ROPE_FACTORS:
            left_over.append(name)
    candidates = {}
    for target, sources in parts.items():
        process = _process(target, sources, processor, names)
        shape = _shape(expected[target], sources)
        groups = groups_of(shape, sources, process)
        candidates[target] = Candidate(shape, "f32", _loader(sources, process), groups)
    widened = [
        part
        for target, sources in parts.items()
        for part in sources
        if part.kind.name not in FLOATS and candidates[target].groups is None
    ]
    notes: tuple[str, ...] = ()
    if widened:
        first = f"{widened[0].name} ({widened[0].kind.name})"
        notes = (f"{len(widened)} quantized tensors can only be widened, {first} for one",)
    return bind(model, candidates, left_over, file.path.name), notes


class _Shallow:
    """A model as the name table needs it: without the submodules below the base model.

    The table is built again for every submodule that it sees, 15 ms each, and only the base model
    ever adds names to it.
    """

    def __init__(self, module: Any, children: bool = True) -> None:
        self.config = module.config
        self.state_dict = module.state_dict
        self._base = module.base_model_prefix if children else ""
        self._module = module

    def named_children(self) -> list[tuple[str, _Shallow]]:
        if not self._base or not hasattr(self._module, self._base):
            return []
        return [(self._base, _Shallow(getattr(self._module, self._base), children=False))]


def _shape(expected: tuple[int, ...], parts: Sequence[GGUFTensor]) -> tuple[int, ...]:
    """The model's shape where the file has as many elements: processors transpose and stack."""
    stored = sum(math.prod(part.shape) for part in parts)
    return expected if stored == math.prod(expected) else parts[0].shape


def _loader(parts: Sequence[GGUFTensor], process: Process) -> Callable[[], Array]:
    def load() -> Array:
        values = process([part.values() for part in parts])
        return np.ascontiguousarray(values, dtype=np.float32)

    return load


def _process(
    target: str, parts: Sequence[GGUFTensor], processor: Any, names: Mapping[str, str]
) -> Process:
    def process(arrays: Sequence[Array]) -> Array:
        # A processor returns a tensor under its own name, or puts stacked ones here itself.
        stacked: dict[str, Any] = {"tensors": {}}
        returned: Array | None = None
        for part, array in zip(parts, arrays, strict=True):
            made = processor.process(
                weights=array,
                name=part.name,
                tensor_key_mapping=names,
                parsed_parameters=stacked,
            )
            if made.name is not None:
                returned = made.weights
        if target in stacked["tensors"]:
            returned = stacked["tensors"][target].numpy()
        assert returned is not None, "a processor leaves what it was given somewhere"
        return returned

    return process
