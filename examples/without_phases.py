"""Compile a model that has nothing to split: an image classifier, called as one function."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import hetc


def classifier() -> nn.Module:
    """A small convolutional network for images of 32 x 32, with random weights."""
    torch.manual_seed(0)
    features = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()
    pooled = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    return nn.Sequential(*features, *pooled).eval()


def main() -> None:
    """Export, compile, and compare with the network itself."""
    module, images = classifier(), torch.randn(4, 3, 32, 32)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(module, (images,), dynamic_shapes=shapes)
    with tempfile.TemporaryDirectory() as folder:
        bundle = hetc.compile(program, output=Path(folder) / "classifier")
        print("\n".join(bundle.manifest.summary))
        (scores,) = bundle.run(images.numpy()).values()
        with torch.no_grad():
            expected = module(images).numpy()
        print(f"scores {scores.shape}, max error {np.max(np.abs(scores - expected)):.0e}")
        bundle.close()


if __name__ == "__main__":
    main()
