"""The reference page of the op library, `docs/ir-reference.md`, made from the op classes."""

from __future__ import annotations

import inspect
import sys
from dataclasses import MISSING

from hetc.ir.examples import example
from hetc.ir.op import OPS, FieldSpec, Op
from hetc.ir.text import format_attribute, print_graph

_PREFACE = """# The ops

Made from the op classes by `hetc.ir.document`; `make docs` writes it anew.
[docs/ir.md](ir.md) explains types, sizes, stages and the text form.

Each op is shown with its signature, its meaning, an example in the text form, and the cost of that
example. In a signature, `x: Scalar` may be a tensor or a literal, `name?` may be left out, and
`[...]` is any number of tensors. Costs are floating-point operations and the bytes read from and
written to memory; a view costs nothing, and a weight is paid for by its reader.
"""


def document() -> str:
    """The whole page as Markdown."""
    parts = [_PREFACE]
    families: dict[str, list[type[Op]]] = {}
    for cls in OPS.values():
        families.setdefault(cls.__module__, []).append(cls)
    for name, classes in sorted(families.items()):
        heading = inspect.cleandoc(sys.modules[name].__doc__ or name).split("\n")[0]
        parts.append(f"## {heading.rstrip('.')}\n")
        parts += map(_op, classes)
    return "\n".join(parts)


def _op(cls: type[Op]) -> str:
    graph = example(cls.kind)
    cost = graph.ops[-1].cost()
    meaning = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    # A dataclass without a docstring gets one that repeats its signature.
    said = "" if meaning.startswith(f"{cls.__name__}(") else f"\n{meaning}\n"
    numbers = f"flops {cost.flops} · bytes read {cost.bytes_read} · written {cost.bytes_written}"
    text = f"```\n{print_graph(graph)}```\n"
    return f"### {cls.kind}\n\n`{signature(cls)}`\n{said}\n{text}\n{numbers}\n"


def signature(cls: type[Op]) -> str:
    """`rms_norm x, weight? {eps = 1e-06, offset = 0.0}`: operands, then attributes and defaults."""
    shapes = {"operand": "{}", "optional": "{}?", "variadic": "[{}...]", "scalar": "{}: Scalar"}
    operands = [shapes[s.role].format(s.name) for s in cls.signature if s.role != "attribute"]
    attributes = [_attribute(s) for s in cls.signature if s.role == "attribute"]
    line = f"{cls.kind} {', '.join(operands)}".rstrip()
    return f"{line} {{{', '.join(attributes)}}}" if attributes else line


def _attribute(spec: FieldSpec) -> str:
    if spec.default is MISSING:
        return spec.name
    return f"{spec.name} = {format_attribute(spec.default)}"
