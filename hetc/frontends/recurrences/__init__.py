"""Recurrences of torch models as ops that torch.export can carry: what models write as a loop over
the tokens, or in padded chunks, is replaced while a model is exported."""

from hetc.frontends.recurrences.supply import supplied
from hetc.frontends.recurrences.torch_ops import register_ops

__all__ = ["register_ops", "supplied"]
