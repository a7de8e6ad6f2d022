"""`rvbuild check` of 1 000 scenes with vector labels and areas of interest, none of them looked at before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from benchmarks.bar import Cost, Figure, spent
from benchmarks.command import rvbuild

SCENES = 1000
FEATURES = 20
PX = 512

PROJECT = """\
[project]
task = "semantic_segmentation"
[classes]
building = "#ff0000"
ground = "#00ff00"
[scenes]
train = {train}
validation = {validation}
[scene]
image = "{{id}}.tif"
labels = {{ vector = "{{id}}.geojson", class = "building", background = "ground" }}
aoi = "{{id}}_area.geojson"
[chip]
size_px = 128
"""


def run(folder: Path) -> list[Figure]:
    project = _write(folder)
    first, cpu = spent(lambda: rvbuild("check", project.name, cwd=folder))
    again, _ = spent(lambda: rvbuild("check", project.name, cwd=folder))
    note = f"{PX} px, {FEATURES} polygons and an area each; looked at once more: {again:.2f} s"
    return [Figure(f"check, {SCENES} scenes", first, 10, "s", True, note, Cost("scene", cpu / SCENES))]


def _write(folder: Path) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(SCENES):
        transform = Affine(0.5, 0, 500_000 + number * PX, 0, -0.5, 5_800_000)
        profile = {"driver": "GTiff", "width": PX, "height": PX, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
        # Only headers are looked at: a file without written blocks has one like any other.
        with rasterio.open(folder / f"{number}.tif", "w", sparse_ok=True, tiled=True, transform=transform, **profile):
            pass
        corners = rng.uniform(0, PX - 40, (FEATURES, 2))
        _boxes(folder / f"{number}.geojson", transform, [(x, y, x + 30, y + 20) for x, y in corners])
        _boxes(folder / f"{number}_area.geojson", transform, [(10, 10, PX - 10, PX - 10)])
    ids = [str(number) for number in range(SCENES)]
    text = PROJECT.format(train=json.dumps(ids[: SCENES * 4 // 5]), validation=json.dumps(ids[SCENES * 4 // 5 :]))
    (folder / "p.toml").write_text(text)
    return folder / "p.toml"


def _boxes(path: Path, transform: Affine, boxes: list[tuple[float, float, float, float]]) -> None:
    rings = [[transform * corner for corner in ((a, b), (c, b), (c, d), (a, d), (a, b))] for a, b, c, d in boxes]
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}} for ring in rings
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
