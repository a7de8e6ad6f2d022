"""Values that refer to the user's code as `package.module:name`, or that are a name or such a reference."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, WithJsonSchema

from rvbuild.errors import nearest
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import REFERENCE, expected, wrong


def _reference(value: str) -> str:
    return value if REFERENCE.fullmatch(value) else expected('"package.module:factory"')


Reference: TypeAlias = Annotated[
    str, AfterValidator(_reference), WithJsonSchema({"type": "string", "pattern": f"^{REFERENCE.pattern}$"})
]
"""A reference to a factory in the user's code."""


def named(names: tuple[str, ...], noun: str, reference: str) -> AfterValidator:
    """Return a validator of a value that is one of `names` or a reference to the user's code."""

    def check(value: str) -> str:
        if value in names or REFERENCE.fullmatch(value):
            return value
        hint = nearest(value, names) or f"; known: {', '.join(names)}"
        return wrong(f"unknown {noun} {show(value)}{hint}" + ("" if "did you mean" in hint else f', or "{reference}"'))

    return AfterValidator(check)


def names_schema(names: tuple[str, ...], *prefixes: str) -> WithJsonSchema:
    """Return a JSON Schema that suggests the names to editors, and allows references and names with a prefix."""
    patterns = (f"^{REFERENCE.pattern}$", *(f"^{prefix}" for prefix in prefixes))
    return WithJsonSchema({"anyOf": [{"enum": list(names)}, *({"type": "string", "pattern": p} for p in patterns)]})
