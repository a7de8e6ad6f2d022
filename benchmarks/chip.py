"""Chipping against a bare loop of the same plain windowed reads of image and labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.bar import Figure, interleaved, seconds
from benchmarks.scenes import write_raster
from benchmarks.stage import chip_settings, run_stage

SIZE_PX, CHIP_PX = 4500, 300


def run(folder: Path) -> list[Figure]:
    # Imagery is mostly delivered compressed; uncompressed, a read is a copy of memory, and writing the chips shows.
    return [
        _figure(folder / "deflate", "chip, windows/s over bare reads (deflate)", "deflate"),
        _figure(folder / "none", "chip, windows/s over bare reads (uncompressed)", "none"),
    ]


def _figure(folder: Path, name: str, compress: str) -> Figure:
    folder.mkdir(parents=True)
    image = write_raster(folder / "image.tif", SIZE_PX, 4, 256, compress=compress)
    labels = write_raster(folder / "labels.tif", SIZE_PX, 1, 2, compress=compress)
    count = (SIZE_PX // CHIP_PX) ** 2
    chips = folder / "chips"

    def stage() -> float:
        shutil.rmtree(chips, ignore_errors=True)
        inputs = {"image": [image], "labels": [labels]}
        return seconds(lambda: run_stage("chip", inputs, chip_settings(CHIP_PX, CHIP_PX), chips))

    bare, ours = interleaved(3, lambda: seconds(lambda: _read(image, labels)), stage)
    note = f"{count / ours:.0f} against {count / bare:.0f} windows/s, {CHIP_PX} px, 4 bands"
    return Figure(name, bare / ours, 0.7, "", False, note)


def _read(image: Path, labels: Path) -> int:
    total = 0
    with rasterio.open(image) as pixels, rasterio.open(labels) as ids:
        for row in range(0, SIZE_PX, CHIP_PX):
            for col in range(0, SIZE_PX, CHIP_PX):
                window = Window(col, row, CHIP_PX, CHIP_PX)
                total += np.asarray(pixels.read(window=window)).size
                total += np.asarray(ids.read(1, window=window)).size
    return total
