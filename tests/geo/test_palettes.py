"""Tables of colours of several files: one, or an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rvbuild.errors import DataError
from rvbuild.geo.raster.palettes import shared

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
Write = Callable[..., Path]


@pytest.fixture
def png(tmp_path: Path, write_raster: Write) -> Callable[..., Path]:
    def write(name: str, *colors: tuple[int, int, int]) -> Path:
        table = {index: (*color, 255) for index, color in enumerate(colors)}
        return write_raster(tmp_path / name, np.zeros((4, 4), "uint8"), driver="PNG", colormap=table)

    return write


def test_a_shorter_table_is_no_other_one(png: Callable[..., Path]) -> None:
    files = [png("a.png", RED), png("b.png", RED, GREEN, BLUE), png("c.png", RED, GREEN)]
    table = shared(files, {RED, GREEN, (0, 0, 0)})
    assert table is not None
    np.testing.assert_array_equal(table[:3], [RED, GREEN, BLUE])


def test_only_colours_of_classes_must_agree(png: Callable[..., Path]) -> None:
    files = [png("a.png", RED, BLUE), png("b.png", RED, GREEN)]
    assert shared(files, {RED}) is not None
    with pytest.raises(DataError, match=r"b.png: index 1 of its colour table is #00ff00, but #0000ff in .*a.png"):
        shared(files, {RED, GREEN})
