"""docs/plan-format.md: every class and field of the schema, with a meaning."""

from __future__ import annotations

import re

import msgspec

from hetc.backends.dataflow import schema, steps
from hetc.backends.dataflow.document import document, type_text
from hetc.backends.dataflow.field_meanings import MEANINGS
from hetc.backends.dataflow.part import Part


def test_every_field_has_one_meaning() -> None:
    kinds = [
        kind
        for kind in (vars(schema) | vars(steps)).values()
        if isinstance(kind, type) and issubclass(kind, Part) and kind is not Part
    ]
    fields = {kind.__name__: list(kind.__struct_fields__) for kind in kinds}
    assert {name: list(known) for name, known in MEANINGS.items()} == {
        name: fields[name] for name in MEANINGS
    }
    assert MEANINGS.keys() == fields.keys()


def test_the_page_has_every_class_and_field() -> None:
    page = document()
    parts = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", page, re.MULTILINE | re.DOTALL))
    assert parts.keys() == MEANINGS.keys()
    for name, known in MEANINGS.items():
        rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", parts[name], re.MULTILINE)
        assert [row for row in rows if row != "type"] == list(known)
    assert "docs/plan-format.md" not in page, "a page does not send its reader to itself"


def test_types_as_json_has_them() -> None:
    hints = msgspec.structs.fields(schema.Section)
    shown = {field.name: type_text(field.type) for field in hints}
    assert shown["wirelength"] == "integer"
    assert type_text(tuple[str, ...] | None) == "list of text or null"
    assert type_text(dict[str, tuple[int, int]]) == "object of [integer, integer]"
    assert type_text(schema.Form) == '`axpy`, `dot`, `""`'
    assert type_text(schema.TargetRef) == "[TargetRef](#targetref)"
