"""Keys and values as people see them."""

from __future__ import annotations

import doctest

import pytest

from rvbuild.project import schema
from rvbuild.project.tables import classes
from rvbuild.project.toml import keys, lines, names, overrides
from rvbuild.project.toml.keys import dotted, is_under, show


@pytest.mark.parametrize("module", [classes, keys, lines, names, overrides, schema])
def test_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_dotted() -> None:
    assert dotted(("predict", "vectors", 0, "class")) == "predict.vectors[0].class"
    assert dotted(("classes", 'a "b" é')) == 'classes."a \\"b\\" é"'
    assert dotted(()) == ""


def test_is_under() -> None:
    assert is_under(("a", "b"), ("a",))
    assert is_under(("a",), ("a",))
    assert not is_under(("a",), ("a", "b"))


def test_show_is_short() -> None:
    assert show("x" * 100) == '"' + "x" * 55 + '…"'
    assert show(["x" * 20] * 5) == "a list of 5"
    assert show({}) == "an empty table"
    assert len(show(10**100)) == 60
