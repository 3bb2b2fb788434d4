"""GGUF files: metadata and tensors by the `gguf` package, what they mean by transformers' tables.

Weights are dequantized one by one, when asked for, to float32: what the file says, not rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hetc.frontends.sources.binding import Candidate, bind
from hetc.frontends.sources.gguf_config import ROPE_FACTORS, gguf_config
from hetc.frontends.sources.gguf_tensors import GGUFFile, GGUFTensor, read_gguf
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
    weights = _weights(build_skeleton(config), file, facts)
    tokenizer, more = gguf_tokenizer(path, config)
    return ModelSource(
        name=path.stem,
        family=config.model_type,
        config=config,
        weights=weights,
        tokenizer=tokenizer,
        dtype=dtype_name(config.dtype),
        notes=(*notes, *more),
    )


def _weights(model: Any, file: GGUFFile, facts: dict[str, Any]) -> dict[str, LazyTensor]:
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
    candidates = {
        target: Candidate(
            _shape(expected[target], sources), "f32", _loader(target, sources, processor, names)
        )
        for target, sources in parts.items()
    }
    return bind(model, candidates, left_over, file.path.name)


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


def _loader(
    target: str, parts: Sequence[GGUFTensor], processor: Any, names: Mapping[str, str]
) -> Callable[[], Array]:
    def load() -> Array:
        # A processor returns a tensor under its own name, or puts stacked ones here itself.
        stacked: dict[str, Any] = {"tensors": {}}
        returned: Array | None = None
        for part in parts:
            made = processor.process(
                weights=part.values(),
                name=part.name,
                tensor_key_mapping=names,
                parsed_parameters=stacked,
            )
            if made.name is not None:
                returned = made.weights
        if target in stacked["tensors"]:
            returned = stacked["tensors"][target].numpy()
        return np.ascontiguousarray(returned, dtype=np.float32)

    return load
