"""One graph as torch.compile captured it, in functional form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hetc.interop.options import Options

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


@dataclass(frozen=True)
class Captured:
    """A functional ATen graph for inference and what is known of its inputs.

    `module` has fake tensors and symbolic sizes in `node.meta["val"]`; writes into inputs stand at
    its end as `copy_`. `examples` are the fake arguments. `names` are the inputs' names in the
    user's program as Dynamo spells them, `parameters` those inputs that are parameters or buffers
    of a module, by name.
    """

    module: GraphModule
    examples: Sequence[Any]
    options: Options
    names: Mapping[Node, str]
    parameters: Mapping[Node, str]

    def with_module(self, module: GraphModule) -> Captured:
        """The same graph in other words, with the inputs in the same order."""
        old, new = (m.graph.find_nodes(op="placeholder") for m in (self.module, module))
        to = dict(zip(old, new, strict=True))
        return replace(
            self,
            module=module,
            names={to[node]: name for node, name in self.names.items()},
            parameters={to[node]: name for node, name in self.parameters.items()},
        )
