"""Weights on their way through a compile: converted to the bundle's type, each read once while
memory allows."""

from __future__ import annotations

from hetc.errors import InputError
from hetc.ir.graph import Graph
from hetc.ir.model import Model
from hetc.ir.ops.source import Weight
from hetc.ir.types import Array, TensorType
from hetc.passes.kept_arrays import KeptArrays


class WeightReader:
    """Looks weights up by name in the type that the graph declares; keeps the last ones."""

    def __init__(self, model: Model, graph: Graph) -> None:
        self._model = model
        self.types: dict[str, TensorType] = {
            op.name: op.type for op in graph.ops if isinstance(op, Weight)
        }
        self._kept = KeptArrays()

    def __call__(self, name: str) -> Array:
        """The data of `name`; raises InputError (HETC-I005) for a model without weights."""
        return self._kept.get(name, lambda: self._read(name))

    def _read(self, name: str) -> Array:
        if self._model.weights is None:
            raise InputError(
                "HETC-I005",
                "this step needs the model's weights",
                at=name,
                found="a configuration without weights",
                do="give hetc a directory that holds the weight files too",
            )
        data = self._model.weights[name].load()
        wanted = self.types[name].dtype.numpy if name in self.types else data.dtype
        return data if data.dtype == wanted else data.astype(wanted)
