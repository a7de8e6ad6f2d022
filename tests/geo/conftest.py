"""Rasters and vectors made by seeded functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from rvbuild.geo.grid import Grid

UTM = CRS.from_epsg(32633)
LOCAL = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]')

PLACES: dict[str, tuple[Affine, CRS | None]] = {
    "pixel coordinates": (Affine.identity(), None),
    "north-up": (Affine(0.05, 0, 366000.123, 0, -0.05, 5810000 / 3), UTM),
    "south-up": (Affine(0.05, 0, 366000, 0, 0.05, 5810000), UTM),
    "rotated": (Affine(0.04, 0.03, 366000, 0.03, -0.04, 5810000), UTM),
    "degrees": (Affine(1e-5, 0, 13.1, 0, -1e-5, 52.4), CRS.from_epsg(4326)),
    "world file": (Affine(2, 0, 5, 0, -2, 7), None),
    "local": (Affine(0.5, 0, 100, 0, -0.5, 200), LOCAL),
    "flipped pixels": (Affine(1, 0, 0, 0, -1, 0), None),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> tuple[Affine, CRS | None]:
    return PLACES[request.param]


@pytest.fixture
def classes() -> list[dict[str, Any]]:
    return [
        {"id": 0, "name": "car", "color": "#ffff00"},
        {"id": 1, "name": "tree", "color": "#00ff00"},
        {"id": 2, "name": "ground", "color": "#ff0000"},
        {"id": 3, "name": "null", "color": "#000000"},
    ]


@pytest.fixture
def grid() -> Grid:
    return Grid(100, 120, PLACES["north-up"][0], UTM)


@pytest.fixture(scope="session")
def write_raster() -> Callable[..., Path]:
    def write(path: Path, image: np.ndarray, *, mask: np.ndarray | None = None, **profile: Any) -> Path:
        image = image if image.ndim == 3 else image[np.newaxis]
        shape = {"count": image.shape[0], "height": image.shape[1], "width": image.shape[2], "dtype": image.dtype}
        descriptions = profile.pop("descriptions", ())
        colormap = profile.pop("colormap", None)
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_PAM_ENABLED=False),
            rasterio.open(path, "w", **{"driver": "GTiff", **shape, **profile}) as file,
        ):
            file.write(image)
            if colormap:
                file.write_colormap(1, colormap)
            if mask is not None:
                file.write_mask(mask)
            for band, text in enumerate(descriptions, start=1):
                file.set_band_description(band, text)
        return path

    return write


@pytest.fixture(scope="session")
def write_geojson() -> Callable[..., Path]:
    def write(path: Path, features: Sequence[tuple[Any, dict[str, Any]]], *, crs: str | None = None) -> Path:
        records = [
            {"type": "Feature", "properties": properties, "geometry": geometry} for geometry, properties in features
        ]
        value: dict[str, Any] = {"type": "FeatureCollection", "features": records}
        if crs:
            value["crs"] = {"type": "name", "properties": {"name": crs}}
        path.write_text(json.dumps(value))
        return path

    return write


@pytest.fixture(scope="session")
def square() -> Callable[..., dict[str, Any]]:
    def make(x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
        return {"type": "Polygon", "coordinates": [[(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]]}

    return make
