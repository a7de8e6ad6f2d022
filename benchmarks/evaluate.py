"""Evaluation of a scene: pixels per second, and how peak memory grows with the scene."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import rasterio

from benchmarks.bar import Cost, Figure, cpu_seconds
from benchmarks.command import in_child, peak_rss_mb
from benchmarks.scenes import CLASSES, write_raster
from benchmarks.stage import evaluate_settings, run_stage

SMALL_PX, LARGE_PX = 2000, 12000


def run(folder: Path) -> list[Figure]:
    results = {}
    for size_px in (SMALL_PX, LARGE_PX):
        scene = folder / str(size_px)
        scene.mkdir(parents=True)
        write_raster(scene / "truth.tif", size_px, 1, 2, seed=1)
        _write_predictions(scene / "labels.tif", size_px)
        results[size_px] = in_child(__name__, str(scene))
    rate = LARGE_PX**2 / results[LARGE_PX]["seconds"] / 1e6
    growth = results[LARGE_PX]["rss_mb"] - results[SMALL_PX]["rss_mb"]
    return [
        Figure("eval, pixels/s", rate, 40, "Mpx/s", False, f"{LARGE_PX} x {LARGE_PX} pixels", Cost("Mpx", 1 / rate)),
        Figure("eval, growth of peak RSS", growth, 100, "MB", True, f"{SMALL_PX} to {LARGE_PX} pixels square"),
    ]


def _write_predictions(path: Path, size_px: int) -> None:
    """Write predictions of large patches through the writer that the infer stage uses."""
    from rvbuild.geo.grid import Grid
    from rvbuild.geo.write.rasters import ClassRasterWriter

    with rasterio.open(path.parent / "truth.tif") as file:
        grid = Grid(file.height, file.width, file.transform, file.crs)
    rows = (np.arange(size_px, dtype=np.uint32)[None, :] // 97 % 2).astype(np.uint8)
    writer = ClassRasterWriter(path, grid, CLASSES, temp=path.parent)
    for row in range(0, size_px, 500):
        writer.write(row, np.ascontiguousarray(np.repeat(rows, min(500, size_px - row), axis=0)))
    writer.close()


def _main(scene: Path) -> None:
    inputs = {"predictions": [scene / "labels.tif"], "labels": [scene / "truth.tif"]}
    spent = cpu_seconds(lambda: run_stage("evaluate.scene", inputs, evaluate_settings(), scene / "eval"))
    print(json.dumps({"seconds": spent, "rss_mb": peak_rss_mb()}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
