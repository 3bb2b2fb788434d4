"""Run the original framework on tokens: the oracle of `hetc verify --against`, written by other
hands than the compiler's."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hetc.errors import InputError
from hetc.frontends.sources import named_class
from hetc.frontends.torch_export import load_pt2
from hetc.ir.types import Array


def original_logits(path: Path, tokens: Array) -> Array:
    """Logits f32 [B,S,V] of the model at `path` for `tokens` i64[B,S], computed by the framework
    that the file belongs to, in f32.

    Hugging Face directories and GGUF files run in transformers, `.pt2` in torch, `.onnx` in ONNX
    Runtime. Raises InputError (HETC-I006) for another kind of file, or a model that it cannot run.
    """
    if path.is_dir() or path.suffix == ".gguf":
        return _transformers(path, tokens)
    if path.suffix == ".pt2":
        return _exported(path, tokens)
    if path.suffix == ".onnx":
        return _onnx(path, tokens)
    raise InputError(
        "HETC-I006",
        "there is no framework to compare with",
        at=str(path),
        expected="a Hugging Face directory, or a .gguf, .pt2 or .onnx file",
    )


def original_outputs(path: Path, inputs: Mapping[str, Array]) -> list[Array]:
    """All outputs of the model without phases at `path`, a Hugging Face directory or a `.pt2` or
    `.onnx` file, for `inputs` by name, computed by the framework that it belongs to.

    Raises InputError (HETC-I006) for another kind of file.
    """
    if path.is_dir():
        return _transformers_outputs(path, inputs)
    if path.suffix == ".pt2":
        return _exported_outputs(path, inputs)
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        feeds = {item.name: inputs[item.name] for item in session.get_inputs()}
        return [np.asarray(array) for array in session.run(None, feeds)]
    raise InputError(
        "HETC-I006",
        "there is no framework to compare with",
        at=str(path),
        expected="a Hugging Face directory, or a .pt2 or .onnx file",
    )


def _transformers_outputs(path: Path, inputs: Mapping[str, Array]) -> list[Array]:
    import torch
    import transformers

    options = {"local_files_only": True, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(path, **options)
    cls = named_class(config)
    if cls is None:
        raise InputError(
            "HETC-I006",
            "there is no class of transformers to compare with",
            at=str(path),
            found=f"architectures {config.architectures}",
        )
    model = cls.from_pretrained(path, dtype=torch.float32, **options).eval()
    with torch.inference_mode():
        found = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    return [np.asarray(t.numpy()) for t in found.values() if isinstance(t, torch.Tensor)]


def _exported_outputs(path: Path, inputs: Mapping[str, Array]) -> list[Array]:
    import torch
    from torch.utils import _pytree as pytree

    program = load_pt2(path)
    specs = [s for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    leaves = [
        torch.from_numpy(inputs[spec.arg.name])
        if spec.arg.name in inputs
        else getattr(spec.arg, "value", None)
        for spec in specs
    ]
    assert program.call_spec.in_spec is not None, "exported by torch.export"
    args, kwargs = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    with torch.inference_mode():
        result = program.module()(*args, **kwargs)
    tensors = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    return [np.asarray((t.float() if t.is_floating_point() else t).numpy()) for t in tensors]


def _transformers(path: Path, tokens: Array) -> Array:
    import torch
    import transformers

    options = {"local_files_only": True, "trust_remote_code": False}
    if path.is_dir():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, **options
        )
    else:
        model = model_of_gguf(path)
    with torch.inference_mode():
        logits = model.eval()(input_ids=torch.from_numpy(tokens), use_cache=False).logits
    return np.asarray(logits.float().numpy())


def model_of_gguf(path: Path, dtype: str = "float32") -> Any:
    """transformers' own reading of a GGUF file, without its `from_pretrained`, which needs
    accelerate. As there, only weights are rounded to `dtype`, and not the frequencies of rotary
    positions.

    Raises InputError HETC-I006 where transformers leaves a part without weights.
    """
    import torch
    import transformers
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    with contextlib.redirect_stderr(io.StringIO()):  # it draws a progress bar
        loaded = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)
    missing, _ = model.load_state_dict(loaded["tensors"], strict=False)
    model.tie_weights()
    left = [name for name in missing if name not in (model._tied_weights_keys or {})]
    if left:
        raise InputError(
            "HETC-I006", "transformers finds no weights for a part", at=", ".join(left)
        )
    return model


def _exported(path: Path, tokens: Array) -> Array:
    import torch

    module = load_pt2(path).module()
    with torch.inference_mode():
        result = module(torch.from_numpy(tokens))
    if not isinstance(result, torch.Tensor):
        result = result[0] if isinstance(result, tuple) else result["logits"]
    return np.asarray(result.float().numpy())


def _onnx(path: Path, tokens: Array) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {item.name: _feed(item, tokens) for item in session.get_inputs()}
    return np.asarray(session.run(None, feeds)[0], dtype=np.float32)


def _feed(item: Any, tokens: Array) -> Array:
    """Tokens for the token input, ones for a mask, positions, and an empty past."""
    batch, length = tokens.shape
    if "mask" in item.name:
        return np.ones((batch, length), np.int64)
    if "position" in item.name:
        return np.tile(np.arange(length, dtype=np.int64), (batch, 1))
    if len(item.shape) == 4:
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        heads, width = item.shape[1], item.shape[3]
        return np.zeros((batch, heads, 0, width), kinds[item.type])
    return tokens
