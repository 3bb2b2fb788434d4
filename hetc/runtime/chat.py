"""Chat templates, rendered in a sandbox: a bundle's template is text from a stranger."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from hetc.errors import RuntimeFault

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.nodes import Node
    from jinja2.parser import Parser

AT = "tokenizer/config.json, chat_template"
Message = Mapping[str, Any]


def compile_chat_template(source: str) -> Callable[[Sequence[Message], Mapping[str, Any]], str]:
    """A function of messages and variables that renders the template `source`.

    The environment is the one that templates are written for: immutable and sandboxed, blocks
    trimmed, `raise_exception`, `break` and `continue`, `tojson` without HTML escapes. There is no
    `strftime_now`: a prompt must not depend on the day, and templates that know the function test
    for it. Raises RuntimeFault HETC-R033 where the template cannot be compiled or rendered.
    """
    from jinja2 import TemplateError

    try:
        template = _environment_template(source)
    except TemplateError as error:
        raise _failed(error) from error

    def render(messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
        try:
            return template.render(messages=list(messages), **variables)
        # A template may do arithmetic and call methods, so that any of these can come out of it.
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise _failed(error) from error
        except (AttributeError, RecursionError, MemoryError) as error:
            raise _failed(error) from error

    return render


def _environment_template(source: str) -> Template:
    from jinja2.exceptions import TemplateRuntimeError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlock(Extension):
        """`{% generation %}` marks text for training; here its body just renders."""

        tags = {"generation"}  # noqa: RUF012 - the base class declares a mutable attribute

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> NoReturn:
        raise TemplateRuntimeError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[GenerationBlock, "jinja2.ext.loopcontrols"],
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(source)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _failed(error: Exception) -> RuntimeFault:
    return RuntimeFault(
        "HETC-R033",
        "the chat template cannot be rendered",
        at=AT,
        found=f"{type(error).__name__}: {error}",
        do="run without chat, or pass the prompt as the model expects it",
    )
