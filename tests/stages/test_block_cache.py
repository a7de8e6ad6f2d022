from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.stages.threads import block_cache as module
from rvbuild.stages.threads.block_cache import block_cache
from tests.stages.sample_scenes import write_raster

FOUR_BANDS = {"photometric": "minisblack", "alpha": "unspecified"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    return write_raster(tmp_path / "image.tif", np.zeros((4, 100, 200), dtype=np.uint16), **FOUR_BANDS, **tiles)


@pytest.mark.parametrize(
    ("layout", "pixel_bytes"),
    [({}, 8), ({"labels": True}, 8), ({"readers": 3}, 24), ({"readers": 2, "labels": True}, 16)],
)
def test_holds_what_a_row_of_windows_touches(
    image: Path, monkeypatch: pytest.MonkeyPatch, layout: dict[str, int], pixel_bytes: int
) -> None:
    labels = (30 + 2 * 256) * 200 * 3 * layout.get("readers", 1) * layout.get("labels", 0)
    monkeypatch.setattr(module, "MIN_BYTES", 0)
    with open_image([image], channels=[0]) as source:
        env = block_cache(source, 30, **layout)  # type: ignore[arg-type]
    assert env.options["GDAL_CACHEMAX"] == (30 + 2 * 64) * 200 * pixel_bytes + labels


def test_is_bounded(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_image([image]) as source:
        assert block_cache(source, 30).options["GDAL_CACHEMAX"] == module.MIN_BYTES
        monkeypatch.setattr(module, "MIN_BYTES", 1)
        monkeypatch.setattr(module, "MAX_BYTES", 1000)
        assert block_cache(source, 30).options["GDAL_CACHEMAX"] == 1000
