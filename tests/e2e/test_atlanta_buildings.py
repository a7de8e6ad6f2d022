"""The georeferenced, 16-bit, one-band project on a made-up tile of its shape: outputs lie where the buildings are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from rasterio.warp import transform_geom

from rvbuild.data.geojson import collection, rectangle

PROJECT = Path(__file__).resolve().parents[2] / "projects" / "atlanta_buildings.toml"
CRS = "urn:ogc:def:crs:EPSG::32616"
WEST_M, NORTH_M, RES_M, SIZE_PX, SPLIT_PX = 733601.0, 3725139.0, 0.5, 320, 192
TRANSFORM = Affine(RES_M, 0, WEST_M, 0, -RES_M, NORTH_M)

QUICK = {
    "chip.size_px": "64",
    "chip.stride_px": "32",
    "train.model_args": "{ width = 4, depth = 3 }",
    "train.epochs": "12",
    "train.batch_size": "4",
    "train.lr": "1e-2",
    "predict.stride_px": "32",
}


def to_map(x, y):
    return [WEST_M + x * RES_M, NORTH_M - y * RES_M]


def footprints(seed=0):
    """Return rings of turned buildings, in metres, on a loose grid over the whole tile."""
    rng = np.random.default_rng(seed)
    rings = []
    for row in range(30, SIZE_PX - 20, 52):
        for col in range(30, SIZE_PX - 20, 52):
            angle, (a, b) = rng.uniform(0, np.pi), rng.uniform(9, 16, 2)
            x, y = col + rng.uniform(-6, 6), row + rng.uniform(-6, 6)
            corners = [(a, b), (-a, b), (-a, -b), (a, -b), (a, b)]
            cos, sin = np.cos(angle), np.sin(angle)
            rings.append([to_map(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in corners])
    return rings


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a workspace in which the project was built."""
    root = tmp_path_factory.mktemp("atlanta")
    data = root / "data" / "atlanta"
    data.mkdir(parents=True)
    (root / "projects").mkdir()
    shutil.copy(PROJECT, root / "projects")

    rings = footprints()
    (data / "geotiff_labels.geojson").write_text(collection([(ring, {"building": "yes"}) for ring in rings], crs=CRS))
    (x0, y0), (x1, _), (x2, y2) = to_map(0, SIZE_PX), to_map(SPLIT_PX, 0), to_map(SIZE_PX, 0)
    (data / "west.geojson").write_text(collection([(rectangle(x0, y0, x1, y2), {})], crs=CRS))
    (data / "east.geojson").write_text(collection([(rectangle(x1, y0, x2, y2), {})], crs=CRS))

    rng = np.random.default_rng(1)
    shapes = [{"type": "Polygon", "coordinates": [ring]} for ring in rings]
    inside = rasterio.features.rasterize(shapes, (SIZE_PX, SIZE_PX), transform=TRANSFORM).astype(bool)
    image = np.where(inside, rng.normal(1500, 200, inside.shape), rng.normal(450, 120, inside.shape))
    image = np.clip(image, 1, 65535).astype(np.uint16)
    image[:, -8:] = 0
    profile = {"driver": "GTiff", "height": SIZE_PX, "width": SIZE_PX, "count": 1, "dtype": "uint16", "nodata": 0}
    with rasterio.open(data / "sample_geotiff.tif", "w", crs="EPSG:32616", transform=TRANSFORM, **profile) as file:
        file.write(image, 1)

    options = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "rvbuild", "build", "projects/atlanta_buildings.toml", "--inline", *options]
    environment = {**os.environ, "RVBUILD_THREADS": "1"}  # the scene is too small for more
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def test_polygons_lie_on_the_buildings(workspace):
    text = (workspace / "cache" / "atlanta_buildings" / "predict" / "east" / "building.geojson").read_text()
    hits = [
        shapely.geometry.shape(transform_geom("EPSG:4326", "EPSG:32616", feature["geometry"]))
        for feature in json.loads(text)["features"]
    ]
    east = shapely.box(*to_map(SPLIT_PX, SIZE_PX), *to_map(SIZE_PX - 8, 0))
    truth = shapely.intersection(shapely.union_all([shapely.Polygon(ring) for ring in footprints()]), east)
    predicted = shapely.union_all(hits)
    assert shapely.contains_properly(shapely.buffer(east, 0.01), predicted)
    assert truth.intersection(predicted).area / truth.union(predicted).area > 0.7


def test_rasters_have_the_grid_of_the_image(workspace):
    folder = workspace / "cache" / "atlanta_buildings" / "predict" / "east"
    assert (folder / "outlines.gpkg").exists() and (folder / "outlines.qml").exists()
    with rasterio.open(folder / "labels.tif") as file:
        labels = file.read(1)
        assert file.transform == TRANSFORM
        assert file.crs.to_epsg() == 32616
    assert (labels[:, :SPLIT_PX] == 255).all(), "the other side is outside the area of interest"
    assert (labels[:, -8:] == 255).all(), "nodata is not predicted"
    assert set(np.unique(labels[:, SPLIT_PX:-8])) == {0, 1}
    with rasterio.open(folder / "scores.tif") as file:
        assert (file.count, file.dtypes[0], file.transform) == (2, "uint8", TRANSFORM)


def test_the_evaluation_counts_the_validation_side_alone(workspace):
    evaluation = json.loads((workspace / "cache" / "atlanta_buildings" / "eval" / "eval.json").read_text())
    assert "east" in json.dumps(evaluation)
    model = json.loads((workspace / "cache" / "atlanta_buildings" / "train" / "model.json").read_text())
    assert model["normalize"]["kind"] == "zscore"
    assert model["bands"] == 1
