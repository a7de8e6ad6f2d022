"""The text of a syntax tree: equal for equal code, in every version of Python.

`ast.dump` does not ensure this: Python 3.12 added fields, adds an empty string after the format of a replacement field
and moves the `u` of a literal; 3.13 omits empty fields. With this module, users of different versions of Python have
the same keys.
"""

from __future__ import annotations

import ast
from typing import Any

_MEANINGLESS = {"kind"}  # whether a literal was written with a `u`


def tree_text(tree: ast.AST) -> str:
    """Return `tree` as text without positions, comments and docstrings; `tree` loses its docstrings.

    >>> tree_text(ast.parse("x = 1  # one"))
    "Module(body=[Assign(targets=[Name(ctx=Store(),id='x',),],value=Constant(value=1,),),],)"
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and _is_text(first.value):
                node.body = node.body[1:]
        elif isinstance(node, ast.JoinedStr):
            node.values = [v for v in node.values if not (isinstance(v, ast.Constant) and v.value == "")]
    pieces: list[str] = []
    _write(tree, pieces)
    return "".join(pieces)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _write(value: Any, pieces: list[str]) -> None:
    if isinstance(value, ast.AST):
        pieces += (type(value).__name__, "(")
        for name in sorted(value._fields):
            field = getattr(value, name, None)
            if field is not None and field != [] and name not in _MEANINGLESS:
                pieces += (name, "=")
                _write(field, pieces)
                pieces.append(",")
        pieces.append(")")
    elif isinstance(value, list):
        pieces.append("[")
        for item in value:
            _write(item, pieces)
            pieces.append(",")
        pieces.append("]")
    else:
        pieces.append(repr(value))
