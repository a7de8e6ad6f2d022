"""Expressions over bands such as `(B4 - B3) / (B4 + B3)`: parsed, checked by an allow list, never run as Python."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rvbuild.errors import nearest

FUNCTIONS: Mapping[str, int] = {
    "abs": 1,
    "sqrt": 1,
    "log": 1,
    "log10": 1,
    "exp": 1,
    "min": 2,
    "max": 2,
    "clip": 3,
    "where": 3,
}
"""The functions of expressions, with their numbers of arguments."""

BAND = re.compile(r"B([1-9][0-9]*)")
"""The name of a band by its position, from 1."""

MAX_LENGTH, MAX_DEPTH = 1000, 40
"""Limits of an expression, in characters and in nesting depth: far beyond any spectral index."""

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ALLOWED = f"numbers, bands, + - * / ** ( ), comparisons, and {', '.join(FUNCTIONS)}"


class ExpressionError(ValueError):
    """An invalid expression; the message gives the reason."""


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Attributes
    ----------
    text : str
        The source text.
    names : tuple of str
        The bands that it uses, without repetition.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr

    def evaluate(
        self,
        bands: Mapping[str, Any],
        functions: Mapping[str, Callable[..., Any]],
        number: Callable[[Any], Any] = float,
    ) -> Any:
        """Return the value of the expression.

        Parameters
        ----------
        bands
            The value of each of `names`, for example an array.
        functions
            Implementations of `FUNCTIONS` for values of that type.
        number
            Converts a number, or the result of a comparison, to that type.
        """

        def value(node: ast.expr) -> Any:
            match node:
                case ast.Constant():
                    return number(node.value)
                case ast.Name():
                    return bands[node.id]
                case ast.UnaryOp():
                    return _UNARY[type(node.op)](value(node.operand))
                case ast.BinOp():
                    return _BINARY[type(node.op)](value(node.left), value(node.right))
                case ast.Compare():
                    return number(_COMPARE[type(node.ops[0])](value(node.left), value(node.comparators[0])))
                case ast.Call(func=ast.Name(id=name)):
                    return functions[name](*map(value, node.args))
            raise AssertionError(ast.dump(node))

        return value(self._tree)


def parse(text: str) -> Expression:
    """Parse an expression.

    Raises
    ------
    ExpressionError
        It is not well-formed, uses something that is not allowed, or uses no band.

    >>> parse("(B4 - B3) / (B4 + B3)").names
    ('B4', 'B3')
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression has {len(text)} characters; expected at most {MAX_LENGTH}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionError(f'"{text}" is not an expression such as "(B4 - B3) / (B4 + B3)"') from None
    names: dict[str, None] = {}
    _check(tree, text, names, 0)
    if not names:
        raise ExpressionError(f'"{text}" does not use a band; B1 is the first')
    return Expression(text, tuple(names), tree)


def _check(node: ast.expr, text: str, names: dict[str, None], depth: int) -> None:
    """Check a part of an expression against the allow list, and collect the bands that it uses."""
    if depth > MAX_DEPTH:
        raise ExpressionError(f"its operations are nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            # Larger whole numbers cannot be converted to float.
            if abs(value) > 1e300:
                raise ExpressionError(f"the number {text[node.col_offset : node.end_col_offset]} is too large")
            return
        case ast.Name(id=name):
            if name in FUNCTIONS:
                raise ExpressionError(f"{name} is a function: write {name}({', '.join('abc'[: FUNCTIONS[name]])})")
            names[name] = None
            return
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            parts = [operand]
        case ast.BinOp(op=binary, left=left, right=right) if type(binary) in _BINARY:
            parts = [left, right]
        case ast.Compare(ops=[compare], left=left, comparators=[right]) if type(compare) in _COMPARE:
            parts = [left, right]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            if len(args) != FUNCTIONS[name]:
                takes = f"{FUNCTIONS[name]} argument" + ("s" if FUNCTIONS[name] > 1 else "")
                raise ExpressionError(f"{name} takes {takes}, found {len(args)}")
            parts = args
        case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
            hint = nearest(name, FUNCTIONS) or f"; known: {', '.join(FUNCTIONS)}"
            raise ExpressionError(f'unknown function "{name}"{hint}')
        case _:
            raise ExpressionError(f'"{_written(node, text)}" is not allowed in an expression; allowed: {_ALLOWED}')
    for part in parts:
        _check(part, text, names, depth + 1)


def _written(node: ast.expr, text: str) -> str:
    """Return the source text of a part of an expression."""
    return ast.get_source_segment(text.strip(), node) or text
