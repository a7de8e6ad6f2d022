"""Images that no transform places, and vectors in longitude and latitude."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.rpc import RPC

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.vector.files import read_features
from rvbuild.geo.vector.placing import to_pixels

Write = Callable[..., Path]

LINE = [0.0] * 20
COEFFICIENTS = RPC(
    **{"height_off": 0, "height_scale": 100, "lat_off": 48.0, "lat_scale": 0.01, "long_off": 11.0, "long_scale": 0.01},
    **{"line_off": 32, "line_scale": 32, "samp_off": 32, "samp_scale": 32, "err_bias": None, "err_rand": None},
    line_den_coeff=[1.0, *LINE[1:]],
    line_num_coeff=[0, 0, -1.0, *LINE[3:]],
    samp_den_coeff=[1.0, *LINE[1:]],
    samp_num_coeff=[0, 1.0, *LINE[2:]],
)


def vectors(path: Path, *geometries: Any) -> Path:
    features = [{"type": "Feature", "properties": {}, "geometry": geometry} for geometry in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def square(x: float, y: float, size: float) -> dict[str, Any]:
    ring = [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.fixture
def by_rpcs(tmp_path: Path, write_raster: Write) -> Grid:
    path = write_raster(tmp_path / "image.tif", np.ones((1, 64, 64), np.uint8), rpcs=COEFFICIENTS)
    with open_image([path]) as source:
        return source.grid


def test_degrees_on_an_image_with_rpcs_alone(tmp_path: Path, by_rpcs: Grid) -> None:
    assert by_rpcs.describe().startswith("64 x 64 px (width x height), not georeferenced but by RPCs")
    path = vectors(tmp_path / "labels.geojson", square(11.001, 48.002, 0.001), square(11.005, 48.006, 0.002))
    with pytest.raises(DataError, match=r"longitude and latitude \(11\.001, 48\.002 to .* but RPCs: .*gdalwarp -rpc"):
        to_pixels(read_features(path), by_rpcs)
    with pytest.raises(DataError, match="longitude and latitude"):
        open_aoi([path], by_rpcs, None)
    points = [{"type": "Point", "coordinates": [11.0012 + n, 48.0034]} for n in range(3)]
    with pytest.raises(DataError, match="longitude and latitude"):
        to_pixels(read_features(vectors(tmp_path / "points.geojson", *points)), by_rpcs)


def test_pixels_on_an_image_with_rpcs_alone(tmp_path: Path, by_rpcs: Grid) -> None:
    path = vectors(tmp_path / "labels.geojson", square(11, 48, 10), {"type": "Point", "coordinates": [7.5, 8.5]})
    assert to_pixels(read_features(path), by_rpcs)[0].bounds == (11, 48, 21, 58)


def test_degrees_on_an_image_without_a_place(tmp_path: Path) -> None:
    grid = Grid(64, 64, rasterio.Affine.identity(), None)
    path = vectors(tmp_path / "labels.geojson", square(11.001, 48.002, 0.001), square(12, 48, 0.2))
    with pytest.raises(DataError, match=r"but the image has no georeference: in pixels, .*gdal_edit\.py -a_srs"):
        to_pixels(read_features(path), grid)
    # A single point may lie anywhere in a pixel.
    point = vectors(tmp_path / "point.geojson", {"type": "Point", "coordinates": [11.003, 48.002]})
    assert to_pixels(read_features(point), grid)[0].x == pytest.approx(11.003, abs=1e-5)
    small = vectors(tmp_path / "small.geojson", square(1100.001, 48.002, 0.5))
    to_pixels(read_features(small), grid)  # columns that are no degrees


def test_geolocation_arrays_are_named(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.tif", np.ones((1, 8, 8), np.uint8))
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="GEOLOCATION", X_DATASET="lon.tif", Y_DATASET="lat.tif")
    with open_image([path]) as source:
        assert source.grid.placed_by == "geolocation arrays"
