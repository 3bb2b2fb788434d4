"""How far bf16 may be from f32."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Of the norm of what is compared.
TOLERANCE = 1e-2
# Thirty layers of a real model add up more rounding than that, in PyTorch's own bf16 too. Sums in
# another order round elsewhere: what comes of one token, as the logits of one prompt, can be much
# further off than PyTorch's, which differ by up to 2.1 among its own ways to compute them, and
# those of states by less than 1.5 (`python -m tests.gpu.pytorch`). All results of a prompt together
# are about as far as PyTorch's.
_ALONE, _ALONE_OF_ONE_TOKEN, _TOGETHER = 1.5, 3.0, 1.25


def too_far(
    found: Mapping[str, float],
    tokens: NDArray[np.int64],
    by_pytorch: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Those of the errors `found`, by name, of the prompts `tokens` [B,S], that are larger than
    rounding to bf16 explains, and their root mean square `together` if that is; `by_pytorch` are
    those of PyTorch's own bf16, none where a model is shallow."""
    theirs = by_pytorch or dict.fromkeys(found, 0.0)
    too_large = {}
    for name, each in found.items():
        rows = len(tokens) if name == "logits" else tokens.size
        times = _ALONE if rows > 1 else _ALONE_OF_ONE_TOKEN
        if each >= max(TOLERANCE, times * theirs[name]):
            too_large[name] = each
    together = root_mean_square(found.values())
    if together >= max(TOLERANCE, _TOGETHER * root_mean_square(theirs.values())):
        too_large["together"] = together
    return too_large


def error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The norm of the difference, as a part of that of `expected`."""
    difference = found.astype(np.float64) - expected
    return float(np.linalg.norm(difference) / np.linalg.norm(expected))


def root_mean_square(errors: Iterable[float]) -> float:
    """The one error that stands for all `errors`."""
    return float(np.sqrt(np.mean(np.square(list(errors)))))
