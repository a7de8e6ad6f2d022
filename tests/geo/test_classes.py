from __future__ import annotations

import doctest
from typing import Any

import pytest

from rvbuild.errors import DataError
from rvbuild.geo import classes as module
from rvbuild.geo.classes import id_of, names, palette


def test_names_are_in_id_order(classes: list[dict[str, Any]]) -> None:
    assert names(classes) == ["car", "tree", "ground", "null"]


def test_an_unknown_name_is_told_with_its_neighbour(classes: list[dict[str, Any]]) -> None:
    assert id_of(classes, "tree", "labels.class") == 1
    with pytest.raises(DataError, match=r'labels\.class: there is no class "tre"; did you mean "tree"\?.*ground'):
        id_of(classes, "tre", "labels.class")


def test_the_palette_is_black_beyond_the_classes(classes: list[dict[str, Any]]) -> None:
    colors = palette(classes)
    assert colors.shape == (256, 3)
    assert colors[0].tolist() == [255, 255, 0]
    assert colors[4:].max() == 0


def test_doctests() -> None:
    assert doctest.testmod(module).failed == 0
