"""Weights on their way through a compile: converted to the bundle's type, each read once while
memory allows."""

from __future__ import annotations

from collections import OrderedDict

from hetc.errors import InputError
from hetc.ir.graph import Graph
from hetc.ir.model import Model
from hetc.ir.ops.source import Weight
from hetc.ir.types import Array, TensorType

CACHE_BYTES = 640 * 2**20


class WeightReader:
    """Looks weights up by name in the type that the graph declares; keeps the last ones, up to
    `CACHE_BYTES`."""

    def __init__(self, model: Model, graph: Graph) -> None:
        self._model = model
        self.types: dict[str, TensorType] = {
            op.name: op.type for op in graph.ops if isinstance(op, Weight)
        }
        self._kept: OrderedDict[str, Array] = OrderedDict()
        self._bytes = 0

    def __call__(self, name: str) -> Array:
        """The data of `name`; raises InputError (HETC-I005) for a model without weights."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
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
        data = data if data.dtype == wanted else data.astype(wanted)
        self._keep(name, data)
        return data

    def _keep(self, name: str, data: Array) -> None:
        self._kept[name] = data
        self._bytes += data.nbytes
        while self._bytes > CACHE_BYTES and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
