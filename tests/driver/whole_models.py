"""Small random models that are no language models: functions of tensors, with what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

_TEXT = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_IMAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}


class Block(nn.Module):
    """Two convolutions around a shortcut (He et al. 2015, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem with max pooling, two stages, mean pooling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2))
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.stages(self.pool(torch.relu(self.norm(self.stem(image)))))
        pooled: Tensor = self.head(nn.functional.adaptive_avg_pool2d(hidden, 1).flatten(1))
        return pooled


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = nn.Linear(16, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 4)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A module, inputs for a batch of n, and the axes of each that vary."""

    make: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    axes: Mapping[int, str]

    def module(self) -> nn.Module:
        torch.manual_seed(0)
        module = self.make().eval()
        for part in module.modules():
            # Statistics of a trained one: zeros and ones would hide a mistake.
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 2)
        return module

    def expected(self, module: nn.Module, inputs: Inputs) -> list[Any]:
        """All tensors that the module returns, as arrays."""
        with torch.no_grad():
            result = module(**inputs)
        leaves = [result] if isinstance(result, Tensor) else list(result.values())
        return [leaf.numpy() for leaf in leaves if isinstance(leaf, Tensor)]

    def dims(self) -> dict[int, Any]:
        return {
            axis: Dim(name, min=1, max=64) if axis else Dim(name, min=1)
            for axis, name in self.axes.items()
        }

    def export(self, module: nn.Module) -> ExportedProgram:
        inputs = self.inputs(3)
        shapes = dict.fromkeys(inputs, self.dims())
        return torch.export.export(module, (), inputs, dynamic_shapes=shapes, strict=False)

    def onnx(self, module: nn.Module, path: Path) -> Path:
        torch.onnx.export(
            module,
            (),
            str(path),
            kwargs=self.inputs(3),
            dynamic_shapes=dict.fromkeys(self.inputs(3), self.dims()),
            dynamo=True,
            verbose=False,
        )
        return path


def _text(batch: int, *more: str) -> Inputs:
    """Tokens, a mask that hides the end of every sequence but the first, and token types."""
    generator = torch.Generator().manual_seed(batch)
    ids = torch.randint(2, 90, (batch, 7), generator=generator)
    mask = torch.ones_like(ids)
    mask[1:, 5:] = 0
    kinds = torch.randint(0, 2, ids.shape, generator=generator)
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
    return {name: given[name] for name in ("input_ids", "attention_mask", *more)}


def _bert(batch: int) -> Inputs:
    return _text(batch, "token_type_ids")


def _normal(name: str, *shape: int) -> Callable[[int], Inputs]:
    def inputs(batch: int) -> Inputs:
        generator = torch.Generator().manual_seed(batch)
        return {name: torch.randn(batch, *shape, generator=generator)}

    return inputs


_SEQUENCES = {0: "batch", 1: "sequence"}
_BATCHES = {0: "batch"}
_CLIP = transformers.CLIPTextConfig(**_TEXT, bos_token_id=94, eos_token_id=95, projection_dim=16)
_BERT = transformers.BertConfig(**_TEXT, num_labels=5)
CASES = {
    "mlp": Case(MLP, _normal("x", 16), _BATCHES),
    "resnet": Case(ResNet, _normal("image", 3, 32, 32), _BATCHES),
    "bert": Case(lambda: transformers.BertModel(_BERT), _bert, _SEQUENCES),
    "clip_text": Case(lambda: transformers.CLIPTextModel(_CLIP), _text, _SEQUENCES),
}
# Saved as Hugging Face directories, by transformers' own classes.
DIRECTORIES = {
    "bert": CASES["bert"],
    "bert_classifier": Case(
        lambda: transformers.BertForSequenceClassification(_BERT), _bert, _SEQUENCES
    ),
    "bert_masked": Case(lambda: transformers.BertForMaskedLM(_BERT), _bert, _SEQUENCES),
    "clip_text": CASES["clip_text"],
    "vit": Case(
        lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**_IMAGE)),
        _normal("pixel_values", 3, 32, 32),
        _BATCHES,
    ),
    "resnet": Case(
        lambda: transformers.ResNetForImageClassification(
            transformers.ResNetConfig(
                embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
            )
        ),
        _normal("pixel_values", 3, 224, 224),
        _BATCHES,
    ),
}
