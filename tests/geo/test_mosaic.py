from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from rvbuild.errors import DataError
from rvbuild.geo.classes import NODATA
from rvbuild.geo.grid import Grid
from rvbuild.geo.write.mosaic import arrange
from rvbuild.geo.write.rasters import ClassRasterWriter
from rvbuild.progress import Silent
from rvbuild.stages import mosaic

CLASSES = [{"id": 0, "name": "a & b", "color": "#ffff00"}, {"id": 1, "name": "tree", "color": "#00ff00"}]
UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)
PLACES = {"north up": NORTH_UP, "south up": Affine(0.5, 0, 400_000, 0, 0.5, 5_800_000)}
PLACES["rotated"] = NORTH_UP * Affine.rotation(20)


def write(path: Path, labels: np.ndarray, transform: Affine, crs: CRS | None = UTM) -> Path:
    path.parent.mkdir(parents=True)
    with ClassRasterWriter(path, Grid(*labels.shape, transform, crs), CLASSES, temp=path.parent) as file:
        file.write(0, labels)
    return path


def join(folder: Path, rasters: dict[str, Path], cog: bool = True) -> Path:
    inputs = {f"labels/{name}": [path] for name, path in rasters.items()}
    mosaic.run(inputs, {"classes": CLASSES, "null_id": None, "scenes": sorted(rasters), "cog": cog}, folder, Silent())
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_a_mosaic_equals_one_big_raster(tmp_path: Path, place: str) -> None:
    """Virtual or not; overlapping pieces, one of them without predictions where the others have some."""
    whole = np.random.default_rng(0).integers(0, 2, (700, 90), dtype=np.uint8)
    whole[650:, 70:] = NODATA
    rasters = {}
    for name, (row, col, height, width) in {
        "ü 1": (0, 0, 600, 50),
        "2": (0, 40, 300, 50),
        "3": (280, 30, 420, 60),
        "4": (500, 0, 200, 60),
    }.items():
        piece = whole[row : row + height, col : col + width].copy()
        if name == "4":
            piece[:100, 10:] = NODATA
        rasters[name] = write(tmp_path / name / "labels.tif", piece, PLACES[place] * Affine.translation(col, row))
    join(tmp_path, rasters)
    for name in ("labels.vrt", "labels.tif"):
        with rasterio.open(tmp_path / name) as file:
            np.testing.assert_array_equal(file.read(1), whole)
            assert file.crs == UTM and file.nodata == NODATA
            assert file.transform.almost_equals(PLACES[place], precision=1e-6)
            assert file.colormap(1)[1] == (0, 255, 0, 255)
            assert file.tags(1)["class_0"] == "a & b"
    assert (tmp_path / "labels.qml").exists()


def test_the_same_bytes_wherever_it_is(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        folder = tmp_path / name
        rasters = {}
        for i, scene in enumerate("ab"):
            place = NORTH_UP * Affine.translation(9 * i, 0)
            rasters[scene] = write(folder / scene / "labels.tif", np.full((20, 20), i, np.uint8), place)
        join(folder, rasters)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"labels.vrt", "labels.qml", "labels.tif"}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"crs": CRS.from_epsg(32634)}, "scene b is in EPSG:32634, scene a in EPSG:32633"),
        ({"crs": None}, "scene b is not georeferenced"),
        (
            {"transform": Affine(0.6, 0, 400_000, 0, -0.5, 5_800_000)},
            "its pixels differ in size or orientation from those of scene a",
        ),
        ({"transform": NORTH_UP * Affine.translation(0.5, 0)}, "its pixels are not aligned with those of scene a"),
    ],
)
def test_scenes_that_do_not_fit_are_told(tmp_path: Path, second: dict[str, Any], message: str) -> None:
    labels = np.zeros((20, 20), np.uint8)
    place = {"transform": NORTH_UP, "crs": UTM}
    rasters = {
        "a": write(tmp_path / "a/labels.tif", labels, **place),
        "b": write(tmp_path / "b/labels.tif", labels, **{**place, **second}),
    }
    with pytest.raises(DataError, match=message) as caught:
        arrange(rasters)
    assert str(caught.value).startswith(
        "predict.mosaic: the predicted scenes cannot be joined into one raster: scene b"
    )


def test_one_file_of_scenes_far_apart_is_refused(tmp_path: Path) -> None:
    labels = np.zeros((20, 20), np.uint8)
    rasters = {
        "a": write(tmp_path / "a/labels.tif", labels, NORTH_UP),
        "b": write(tmp_path / "b/labels.tif", labels, NORTH_UP * Affine.translation(50_000, 50_000)),
    }
    with pytest.raises(DataError, match="because the scenes lie far apart; `mosaic = true` writes a virtual raster"):
        join(tmp_path, rasters)
    join(tmp_path, rasters, cog=False)
    with rasterio.open(tmp_path / "labels.vrt") as file:
        assert file.shape == (50_020, 50_020)
        assert (file.read(1, window=((50_000, 50_020), (50_000, 50_020))) == 0).all()
