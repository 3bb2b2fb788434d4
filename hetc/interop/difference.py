"""Whether hetc and PyTorch compute the same, as far as their rounding lets anyone tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# How much further than PyTorch from what f32 gives: on the whole, and anywhere.
_WHOLE, _ANYWHERE = 1.5, 2.0


def differing(
    ours: Sequence[torch.Tensor],
    theirs: Sequence[torch.Tensor],
    in_f32: Callable[[], Sequence[torch.Tensor]],
    tolerance: float,
) -> tuple[int, str] | None:
    """The first of our results that is not PyTorch's, and in what.

    They may be apart by `tolerance`, a part of the largest number. Rounding to 16 bits can add up
    to more: then those who ask PyTorch `in_f32` see whether ours are as near to that as theirs.
    """
    exact: Sequence[torch.Tensor] | None = None
    for index, (own, other) in enumerate(zip(ours, theirs, strict=True)):
        found = difference(own, other, tolerance)
        if not found:
            continue
        if not _is_narrow(own, other):
            return index, found
        try:
            exact = in_f32() if exact is None else exact
        # Some ops take 16 bits alone, and some results have no room twice as large.
        except Exception as error:  # noqa: BLE001
            return index, f"{found}; PyTorch does not run it in f32: {error}"
        if not _is_as_near(own, other, exact[index]):
            return index, f"{found}, and f32 is nearer to PyTorch's"
    return None


def difference(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> str:
    """In what two tensors differ beyond `tolerance`; empty where they do not."""
    import torch

    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return f"{ours.dtype}{list(ours.shape)}, not {theirs.dtype}{list(theirs.shape)}"
    if not ours.dtype.is_floating_point or not ours.numel():
        return "" if torch.equal(ours, theirs) else "other whole numbers"
    finite = theirs[theirs.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    if torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
        return ""
    return f"a difference of {float((ours - theirs).abs().max()):.1e} on values up to {scale:.1e}"


def _is_narrow(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    import torch

    is_alike = (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    return is_alike and ours.dtype in (torch.bfloat16, torch.float16)


def _is_as_near(ours: torch.Tensor, theirs: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether ours are about as far from `exact` as theirs; never where one is not finite."""
    if exact.shape != ours.shape:
        return False
    own, other = (tensor.double() - exact for tensor in (ours, theirs))
    whole = own.square().mean() <= _WHOLE**2 * other.square().mean()
    return bool(whole and own.abs().max() <= _ANYWHERE * other.abs().max())
