"""Methods of a model's modules that torch.export cannot follow are replaced while it is exported.

The replacement computes the same, and is compared with the original before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError

if TYPE_CHECKING:
    import torch

Method = Callable[..., Any]
# What a trial and its replacement may differ by, where values are near 1.
_TOLERANCE = 1e-4
_agreed: set[type] = set()


@dataclass(frozen=True)
class Replacement:
    """What stands in for methods of a class of modules.

    `build` makes a small module of the class, and `run` gives from a module what a model uses of
    it: both are for the comparison of the replacement with the original. `longest` is the longest
    sequence for which they are the same, where there is one.
    """

    methods: Mapping[str, Method]
    build: Callable[[type], Any]
    run: Callable[[Any], Any]
    longest: Callable[[Any], int] | None = None


def replace_methods(model: torch.nn.Module, table: Mapping[str, Replacement]) -> int | None:
    """Give every module of `model` whose class `table` names the methods of its replacement; the
    longest sequence for which they are the same, None where all are.

    Only the instances change. Raises InputError (HETC-I072) where this version of transformers
    computes something else than what hetc replaces.
    """
    bounds: list[int] = []
    for module in model.modules():
        found = table.get(type(module).__name__)
        if found is not None:
            _check(type(module), found)
            _replace(module, found)
            if found.longest is not None:
                bounds.append(found.longest(module))
    return min(bounds, default=None)


def _replace(module: Any, replacement: Replacement) -> None:
    for name, method in replacement.methods.items():
        setattr(module, name, MethodType(method, module))


def _check(cls: type, replacement: Replacement) -> None:
    """Compare the replacement with the original on random numbers, once."""
    import torch

    if cls in _agreed:
        return
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
        torch.manual_seed(0)
        module = replacement.build(cls).float().eval()
        for parameter in module.parameters():
            parameter.normal_()
        expected = replacement.run(module)
        _replace(module, replacement)
        found = replacement.run(module)
    if expected.shape != found.shape or not torch.allclose(expected, found, atol=_TOLERANCE):
        raise InputError(
            "HETC-I072",
            "this version of transformers computes a module in another way than hetc knows",
            at=f"{cls.__module__}.{cls.__name__}",
            expected=f"what {replacement.build.__module__} computes",
            do="install the version of transformers that hetc was tested with",
        )
    _agreed.add(cls)
