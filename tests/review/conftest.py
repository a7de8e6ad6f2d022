"""Scenes with labels in several formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import fiona
import numpy as np
import pytest
import rasterio
import shapely
import shapely.geometry
from affine import Affine
from rasterio.crs import CRS

from rvbuild.geo.grid import Grid

GRID = Grid(40, 60, Affine(0.5, 0, 500_000, 0, -0.5, 5_800_000), CRS.from_epsg(32633))

CLASSES = [
    {"id": 0, "name": "tree", "color": "#00ff00"},
    {"id": 1, "name": "car", "color": "#ff0000"},
    {"id": 2, "name": "null", "color": "#000000"},
]
NULL = 2

VECTOR: dict[str, Any] = {
    "kind": "vector",
    "layer": None,
    "class": None,
    "class_attribute": "kind",
    "class_map": None,
    "all_touched": False,
    "buffer_px": {"Point": 1.0, "LineString": 1.0},
    "unknown": "error",
    "background": None,
}


def on_map(*shapes: Any) -> list[Any]:
    """Return shapes in pixels of GRID in map coordinates."""
    return [
        shapely.transform(shape, lambda points: np.stack(GRID.to_map(points[:, 0], points[:, 1]), axis=1))
        for shape in shapes
    ]


@pytest.fixture
def write_vector(tmp_path: Path) -> Callable[..., Path]:
    """Write features: shapes in pixels, each with properties."""

    def write(name: str, features: list[tuple[Any, dict[str, Any]]], driver: str = "GPKG", **options: Any) -> Path:
        path = tmp_path / name
        types = {str: "str", int: "int", float: "float", bool: "bool", date: "date"}
        schema = {
            "geometry": ("3D " if features[0][0].has_z else "") + features[0][0].geom_type,
            "properties": {key: types[type(value)] for key, value in features[0][1].items()},
        }
        with fiona.open(path, "w", driver=driver, schema=schema, crs_wkt=GRID.crs.to_wkt(), **options) as layer:
            for (own, properties), placed in zip(features, on_map(*(shape for shape, _ in features)), strict=True):
                shape = shapely.force_3d(placed, 2.0) if own.has_z else placed
                layer.write({"type": "Feature", "properties": properties, "geometry": shapely.geometry.mapping(shape)})
        return path

    return write


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, content: Any, **options: Any) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(content, **options), encoding="utf-8")
        return path

    return write


def geojson(*features: tuple[Any, dict[str, Any], Any]) -> dict[str, Any]:
    """Return a collection in the CRS of GRID; an id of None is left out."""
    return {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
        "features": [
            {
                "type": "Feature",
                **({} if id_ is None else {"id": id_}),
                "properties": properties,
                "geometry": shapely.geometry.mapping(shape),
            }
            for (_, properties, id_), shape in zip(features, on_map(*(f[0] for f in features)), strict=True)
        ],
    }


@pytest.fixture
def write_raster(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, pixels: np.ndarray, **profile: Any) -> Path:
        path = tmp_path / name
        bands = pixels if pixels.ndim == 3 else pixels[np.newaxis]
        shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
        colormap = profile.pop("colormap", None)
        with rasterio.open(
            path, "w", **{"driver": "GTiff", "crs": GRID.crs, "transform": GRID.transform, **shape, **profile}
        ) as file:
            file.write(bands)
            if colormap:
                file.write_colormap(1, colormap)
        return path

    return write
