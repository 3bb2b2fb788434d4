"""Directories of models that are no language models: encoders, classifiers, towers."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError, Reason
from hetc.frontends.sources.export import as_fake_cpu, functional_program, max_positions
from hetc.frontends.sources.libraries import first_line
from hetc.frontends.sources.skeleton import buffer_values, build_skeleton

if TYPE_CHECKING:
    import torch

# Any batch above 1 and length will do; torch.export takes an example of 1 for a constant.
_BATCH, _LENGTH = 2, 12
# Beside the tokens; a model that is given none makes them up, and then cannot be told of padding.
_BESIDE_TOKENS = ("attention_mask", "token_type_ids")


def named_class(config: Any) -> Any:
    """The transformers class that `architectures` names; None where it has none of that name."""
    import transformers

    cls = getattr(transformers, next(iter(config.architectures or ()), ""), None)
    is_model = isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)
    return cls if is_model else None


def why_no_language_model(config: Any) -> Reason | None:
    """Why the class that `config` names is no language model (HETC-I013); None where it may be."""
    cls = named_class(config)
    if cls is None or cls.can_generate():
        return None
    return Reason("HETC-I013", f"{cls.__name__} generates no tokens")


def export_whole(config: Any) -> torch.export.ExportedProgram:
    """Export the forward of the class that `config` names, with all that it returns.

    It takes `input_ids i64[B,S]`, and where it has them `attention_mask` and `token_type_ids` of
    the same shape; or `pixel_values f32[B,C,H,W]` of the image size in the config. Parameters are
    fake, as in `export_program`. Errors: HETC-I014 (other inputs), HETC-I055 (the config),
    HETC-I069 (torch.export cannot follow the model).
    """
    import torch
    from torch._dynamo.exc import UserError
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    model = build_skeleton(config, named_class(config))
    inputs = _example(model, config)
    buffers = buffer_values(model)
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    as_fake_cpu(model, mode, keep=set(buffers))
    longest = max_positions(config)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # torch and transformers warn about their own internals here.
            warnings.simplefilter("ignore")
            try:
                program = _export(model, inputs, longest)
            except UserError:
                # A model that slices a table of `longest` rows behaves apart where S reaches it.
                if longest is None or longest < 2:
                    raise
                program = _export(model, inputs, longest - 1)
            return functional_program(program)
    except Exception as error:
        raise InputError(
            "HETC-I069",
            "torch.export cannot follow the model's forward",
            at=f"{config.model_type} ({type(model).__name__})",
            found=first_line(error),
            do="export a variant that torch.export accepts and compile its .pt2 or .onnx file",
        ) from error


def _export(
    model: Any, inputs: dict[str, torch.Tensor], longest: int | None
) -> torch.export.ExportedProgram:
    import torch

    axes: dict[int, Any] = {0: torch.export.Dim("B", min=1)}
    if "input_ids" in inputs:
        axes[1] = torch.export.Dim("S", min=1, max=longest)
    shapes = dict.fromkeys(inputs, axes)
    return torch.export.export(model, (), kwargs=inputs, dynamic_shapes=shapes, strict=False)


def _example(model: Any, config: Any) -> dict[str, torch.Tensor]:
    import torch

    takes = inspect.signature(model.forward).parameters
    if model.main_input_name == "input_ids":
        length = min(_LENGTH, max_positions(config) or _LENGTH)
        ones = torch.ones(_BATCH, length, dtype=torch.int64)
        # A table of one row says nothing.
        types = getattr(config.get_text_config(), "type_vocab_size", 0) > 1
        wanted = [name for name in _BESIDE_TOKENS if name in takes]
        return {
            "input_ids": torch.zeros_like(ones),
            **{
                name: torch.zeros_like(ones) if name == "token_type_ids" else ones
                for name in wanted
                if types or name != "token_type_ids"
            },
        }
    if model.main_input_name == "pixel_values" and (size := _image_size(config)) is not None:
        return {"pixel_values": torch.zeros(_BATCH, *size, dtype=config.dtype or torch.float32)}
    raise InputError(
        "HETC-I014",
        "hetc does not know what this class takes",
        at=type(model).__name__,
        expected="a class of tokens (input_ids), or of images (pixel_values) of a known size",
        found=model.main_input_name,
        do="export it with torch.export and compile the .pt2 file",
    )


def _image_size(config: Any) -> tuple[int, int, int] | None:
    """Channels, height and width; None where the config does not say."""
    vision = getattr(config, "vision_config", config)
    size, channels = getattr(vision, "image_size", 224), getattr(vision, "num_channels", None)
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    numbers = [number for number in (channels, *sides) if isinstance(number, int)]
    if len(sides) != 2 or len(numbers) != 3 or not all(0 < number < 2**16 for number in numbers):
        return None
    return numbers[0], numbers[1], numbers[2]
