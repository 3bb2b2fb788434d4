"""A transformers model on the meta device: modules and shapes, without memory for weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.sources.libraries import first_line

if TYPE_CHECKING:
    import torch


def build_skeleton(config: Any, cls: Any = None) -> Any:
    """The language model that `config` describes, or the model of the class `cls`: on meta, in the
    config's dtype, in eval mode.

    Attention is sdpa where the model offers it (eager where sdpa would change the result: softcaps,
    sinks). Experts are `batched_mm`, the only form whose meaning is local to a token. `config` is
    not changed. Errors: HETC-I054 (no language model), HETC-I055 (the config is inconsistent).
    """
    import torch

    config = copy.deepcopy(config)
    config.use_cache = False
    config._attn_implementation = None
    config._experts_implementation = "batched_mm"
    cls = cls or _model_class(config)
    try:
        with torch.device("meta"):
            model = cls._from_config(config, dtype=config.dtype or torch.float32)
    except ImportError as error:
        raise InputError(
            "HETC-I055",
            "transformers needs another package to build the model",
            at=f"{config.model_type} ({cls.__name__})",
            found=first_line(error),
            do="install the package, or compile the language model alone, with its own config.json",
        ) from error
    except Exception as error:  # every model class has checks and errors of its own
        raise InputError(
            "HETC-I055",
            "no model can be built from the config",
            at=f"{config.model_type} ({cls.__name__})",
            found=first_line(error),
            do="compare the values in config.json with those of a published model of this type",
        ) from error
    return model.eval()


def _model_class(config: Any) -> Any:
    """The class that `architectures` names if it gives logits or hidden states, or a causal LM."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    tables = (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING,
        auto.MODEL_FOR_MASKED_LM_MAPPING,
        auto.MODEL_MAPPING,
    )
    named = next(iter(config.architectures or ()), "")
    for table in tables:
        cls = table.get(type(config), None)
        # A model type may have several classes of one kind.
        candidates = cls if isinstance(cls, tuple | list) else (cls,)
        for candidate in candidates:
            if candidate is not None and candidate.__name__ == named:
                return candidate
    exact: Any = getattr(transformers, named, None) if named else None
    # The decoder inside a model of images or sounds has a configuration of its own.
    causal_names = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    if named in causal_names and getattr(exact, "config_class", None) is type(config):
        return exact
    if isinstance(exact, type):
        raise _no_language_model(config, named)
    causal = tables[0].get(type(config), None)
    if causal is None:
        raise _no_language_model(config, named or "no architectures field")
    return causal


def _no_language_model(config: Any, found: str) -> InputError:
    return InputError(
        "HETC-I054",
        "the model is not a language model that gives logits for every position",
        at=f"model type {config.model_type}",
        expected="a ...ForCausalLM architecture",
        found=found,
        do="save the language model alone, with its own config.json",
    )


def buffer_values(model: Any) -> dict[str, torch.Tensor]:
    """The values of the buffers that no checkpoint holds (rotary frequencies, scales), on the CPU.

    transformers recomputes them in each model's `_init_weights` after loading; the same is asked of
    it here on `model`, whose meta buffers are replaced: of the module that holds a buffer, then of
    those around it, from the inside out. Error: HETC-I055 where a float buffer is still undefined
    afterwards.
    """
    import torch

    for parameter in model.parameters():
        # transformers' own flag for "has its value": initialisers then leave it alone.
        parameter._is_hf_initialized = True
    holders: dict[str, list[str]] = {}
    for path, module in model.named_modules():
        for leaf, buffer in module._buffers.items():
            if buffer is not None and leaf in module._non_persistent_buffers_set:
                module._buffers[leaf] = _undefined(buffer)
                holders.setdefault(path, []).append(leaf)
    values: dict[str, torch.Tensor] = {}
    for path, leaves in holders.items():
        module = model.get_submodule(path)
        for around in _from_inside(path):
            with torch.no_grad():
                _owner(model, around)._init_weights(model.get_submodule(around))
            if all(_is_defined(module._buffers[leaf]) for leaf in leaves):
                break
        for leaf in leaves:
            name = f"{path}.{leaf}" if path else leaf
            values[name] = module._buffers[leaf]
            if not _is_defined(values[name]):
                raise InputError(
                    "HETC-I055",
                    "transformers does not say how to compute a buffer that checkpoints lack",
                    at=f"{model.config.model_type}: {name}",
                    do="export the loaded model with torch.export and compile the .pt2 file",
                )
    return values


def _from_inside(path: str) -> Iterator[str]:
    """A module's path, then those of the modules around it, up to the model itself."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _is_defined(buffer: torch.Tensor) -> bool:
    return not (buffer.is_floating_point() and bool(buffer.isnan().any()))


def _undefined(buffer: torch.Tensor) -> torch.Tensor:
    import torch

    fill = float("nan") if buffer.is_floating_point() else 0
    return torch.full(buffer.shape, fill, dtype=buffer.dtype, device="cpu")


def _owner(model: Any, path: str) -> Any:
    """The innermost submodel around a module: it is the one that knows how to initialise it."""
    from transformers import PreTrainedModel

    owner, module = model, model
    for part in path.split(".") if path else ():
        module = getattr(module, part)
        if isinstance(module, PreTrainedModel):
            owner = module
    return owner
