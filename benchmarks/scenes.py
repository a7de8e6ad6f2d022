"""Synthetic scenes for the benchmarks: seeded, quick to write, cheap to compress."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

CLASSES = [
    {"id": 0, "name": "field", "color": "#00aa00"},
    {"id": 1, "name": "road", "color": "#808080"},
    {"id": 2, "name": "null", "color": "#000000"},
]
NULL_ID = 2
TILE_PX = 256


def write_raster(path: Path, size_px: int, bands: int, levels: int, *, seed: int = 0, compress: str = "none") -> Path:
    """Write a tiled uint8 GeoTIFF of noise with values below `levels`, 0.1 m in EPSG:32633; no band is alpha."""
    rng = np.random.default_rng(seed)
    block = rng.integers(0, levels, (bands, 2 * TILE_PX, size_px), dtype=np.uint8)
    profile = {
        "driver": "GTiff",
        "width": size_px,
        "height": size_px,
        "count": bands,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": Affine(0.1, 0, 500000, 0, -0.1, 5800000),
        "tiled": size_px >= TILE_PX,
        "photometric": "minisblack",
        "alpha": "unspecified",
        "compress": compress,
    }
    if profile["tiled"]:
        profile |= {"blockxsize": TILE_PX, "blockysize": TILE_PX}
    with rasterio.open(path, "w", **profile) as file:
        for row in range(0, size_px, block.shape[1]):
            height = min(block.shape[1], size_px - row)
            file.write(np.roll(block, row // 7, axis=2)[:, :height], window=Window(0, row, size_px, height))
    return path


def write_project(folder: Path, scenes: int, size_px: int, *, validation: int, name: str = "bench") -> Path:
    """Write a project of tiny scenes whose whole build takes seconds, and return its path."""
    (folder / "projects").mkdir(parents=True)
    (folder / "data").mkdir()
    ids = [f"s{number:04}" for number in range(scenes)]
    for number, scene in enumerate(ids):
        write_raster(folder / "data" / f"{scene}.tif", size_px, 3, 256, seed=number)
        write_raster(folder / "data" / f"{scene}_label.tif", size_px, 1, 2, seed=number)
    project = folder / "projects" / f"{name}.toml"
    project.write_text(
        f"""
[project]
task = "semantic_segmentation"
[classes]
field = "#00aa00"
road = "#808080"
[scenes]
train = {ids[validation:]}
validation = {ids[:validation]}
[scene]
image = "data/{{id}}.tif"
labels = {{ raster = "data/{{id}}_label.tif", encoding = "id" }}
[chip]
size_px = {size_px}
[train]
model = "unet"
model_args = {{ width = 4, depth = 2 }}
pretrained = false
epochs = 1
batch_size = 8
""",
    )
    return project
