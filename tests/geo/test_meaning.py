"""What tags of files say of their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from rvbuild.geo.raster.meaning import meaning

SETTINGS = {"image": {"nodata": None}, "channels": None}

Write = Callable[..., Path]


def test_what_files_say(tmp_path: Path, write_raster: Write) -> None:
    noise = np.random.default_rng(0).integers(1, 250, (4, 40, 40)).astype(np.uint8)
    path = write_raster(tmp_path / "a.tif", noise[:3], photometric="rgb")
    assert meaning([path], SETTINGS) == {"colors": ["red", "green", "blue"]}
    assert meaning([path], {**SETTINGS, "channels": [2, 0]}) == {"colors": ["blue", "red"]}
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets, file.units = (0.1, 0.1, 0.2), (0, 0, 1), ("m", "m", "m")
    tags = meaning([path], SETTINGS)
    assert (tags["scaling"], tags["units"]) == ([[0.1, 0.0], [0.2, 1.0]], ["m"])
    assert "scaling" not in meaning([path], {**SETTINGS, "image": {"nodata": None, "scale": True}})
    four = write_raster(tmp_path / "b.tif", noise, photometric="rgb", alpha="yes")
    assert meaning([four], SETTINGS)["alpha"] == {"band": 3, "mask": False}
    assert meaning([four], {**SETTINGS, "image": {"nodata": None, "alpha": True}})["alpha"]["mask"]
    assert "alpha" not in meaning([four], {**SETTINGS, "channels": [3]})
    few = write_raster(tmp_path / "c.tif", noise[:1].astype(np.uint16), nbits=12)
    assert meaning([few], SETTINGS) == {"bits": 12}
    white = write_raster(tmp_path / "d.tif", noise[:1].astype(np.uint16), photometric="miniswhite")
    assert meaning([white], SETTINGS) == {"inverted": True}


@pytest.mark.parametrize(
    ("colors", "reported"),
    [
        ({n: (n * 20, n * 20, n * 20, 255) for n in range(4)}, False),
        ({n: (n * 20, n * 20, 0, 255) for n in range(4)}, True),
        ({n: (80 - n * 20,) * 3 + (255,) for n in range(4)}, True),
    ],
    ids=["greys", "colours", "greys from white to black"],
)
def test_only_tables_that_change_the_meaning_are_told(tmp_path: Path, colors: Any, reported: bool) -> None:
    path = tmp_path / "a.png"
    with rasterio.open(path, "w", driver="PNG", height=8, width=8, count=1, dtype="uint8") as file:
        file.write(np.full((1, 8, 8), 2, np.uint8))
        file.write_colormap(1, colors)
    assert ("palette" in meaning([path], SETTINGS)) is reported
