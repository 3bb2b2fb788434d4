"""Checks of the text in an exported program that PyTorch evaluates or looks up while it loads it.

Size expressions go through sympy's `sympify`, which is Python's `eval`; op names are looked up
attribute by attribute from the `torch` module; tree specifications may import modules. Each is held
against a short grammar or list first. A check returns the problem, or an empty string.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

_TARGET = re.compile(
    r"torch\.ops\.[a-z]\w*\.\w+(\.[a-zA-Z]\w*)?"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|getitem|index)"
    r"|_operator\.(eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt|pow)"
    r"|torch\.(sym_max|sym_min|sym_int|sym_float|sym_not|sym_ite|sym_sum|sym_sqrt|_sym_sqrt)"
)
_SYMBOL = re.compile(r"[a-z]{1,4}\d+|int_oo|oo")
_FUNCTIONS = re.findall(
    r"\w+",
    "Symbol Integer Float Rational Add Mul Pow Max Min Mod PythonMod FloorDiv CleanDiv CeilToInt"
    " FloorToInt TruncToInt TruncToFloat RoundToInt ToFloat IntTrueDiv FloatTrueDiv PowByNatural"
    " FloatPow ModularIndexing Where Identity And Or Not Eq Ne Lt Le Gt Ge Equality Unequality"
    " StrictLessThan LessThan StrictGreaterThan GreaterThan floor ceiling Abs true false Infinity"
    " NegativeInfinity OpaqueUnaryFn_sqrt Piecewise",
)
_NODES = (
    *(ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv),
    *(ast.Mod, ast.Pow, ast.USub, ast.UAdd, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
)
_TREE_TYPES = re.compile(
    r"builtins\.(tuple|list|dict)|collections\.OrderedDict|torch\.Size"
    r"|transformers\.[\w.]*modeling_outputs\.\w+"
)


def check_model(content: Any) -> str:
    """The whole program, depth first."""
    for key, item in _entries(content):
        problem = ""
        if key == "expr_str":
            problem = check_expression(item)
        elif key in ("target", "as_operator"):
            problem = check_target(item)
        elif key in ("in_spec", "out_spec") and item is not None:
            problem = check_tree(item)
        elif key == "as_custom_obj":
            problem = f"an object of the class {item}"
        if problem:
            return problem
    return ""


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    stack = [content]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield from item.items()
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def check_expression(text: Any) -> str:
    """A size expression: arithmetic over symbols and sympy's functions."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return f"the size {text!r} is no expression"
    quoted = {id(_quoted_name(node)) for node in ast.walk(tree)}
    for node in ast.walk(tree):
        fine = isinstance(node, _NODES)
        if isinstance(node, ast.Call):
            fine = isinstance(node.func, ast.Name)
        elif isinstance(node, ast.Name):
            fine = node.id in _FUNCTIONS or _SYMBOL.fullmatch(node.id) is not None
        elif isinstance(node, ast.Constant):
            fine = isinstance(node.value, bool | int | float) or id(node) in quoted
        if not fine:
            return f"the size {text!r} is more than arithmetic"
    return ""


def _quoted_name(node: ast.AST) -> ast.AST | None:
    """The string of `Symbol('s0')`, the one place where a string may stand."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
        return None
    first = node.args[0]
    if node.func.id != "Symbol" or not isinstance(first, ast.Constant):
        return None
    return first if isinstance(first.value, str) and _SYMBOL.fullmatch(first.value) else None


def check_target(text: Any) -> str:
    """The name of an op. (Names of parameters and buffers stand under the same key and are not
    looked up.)"""
    if not isinstance(text, str) or _TARGET.fullmatch(text):
        return ""
    looked_up = text.startswith(("torch", "_operator", "math", "#"))
    return f"{text} is no op" if looked_up else ""


def check_tree(text: Any) -> str:
    """The structure of inputs or outputs: nested tuples, lists, dicts and transformers' model
    outputs."""
    _, root = json.loads(text)
    stack = [root]
    while stack:
        node = stack.pop()
        kind, context = node["type"], node["context"]
        if kind is not None and not _TREE_TYPES.fullmatch(kind):
            return f"an input or output of the type {kind}"
        if context is not None and "__enum__" in json.dumps(context):
            return f"the type {kind} brings a class of its own"
        stack.extend(node["children_spec"])
    return ""
