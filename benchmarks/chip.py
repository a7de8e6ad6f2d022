"""Chipping against a bare loop of the same plain windowed reads of image and labels.

Two kinds of imagery, both of the shape of ISPRS Potsdam: four bands, colour-coded labels. Compressed, as most imagery
is, the loop only reads. Uncompressed, as ISPRS delivers it, a read is a copy of memory, faster than anything can be
written; there the loop also writes the pixels that it has read, as every program must that cuts chips.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from benchmarks.bar import Figure, interleaved, seconds
from benchmarks.stage import chip_settings, run_stage
from rvbuild.data.samples import make_potsdam

SIZE_PX, CHIP_PX = 6000, 300
COLORS = {
    "car": "#ffff00",
    "building": "#0000ff",
    "low_vegetation": "#00ffff",
    "tree": "#00ff00",
    "impervious": "#ffffff",
    "clutter": "#ff0000",
    "null": "#000000",
}


def run(folder: Path) -> list[Figure]:
    ((image, labels),) = make_potsdam(folder / "potsdam", size_px=SIZE_PX, scenes=["2_10"])
    plain = [_uncompressed(path, folder / path.name) for path in (image, labels)]
    return [
        _figure("chip, windows/s over bare reads (deflate)", image, labels, folder / "chips", None),
        _figure("chip, windows/s over bare reads and writes (uncompressed)", *plain, folder / "chips", folder / "raw"),
    ]


def _figure(name: str, image: Path, labels: Path, chips: Path, raw: Path | None) -> Figure:
    count = (SIZE_PX // CHIP_PX) ** 2
    inputs = {"image": [image], "labels": [labels]}

    def stage() -> float:
        shutil.rmtree(chips, ignore_errors=True)
        return seconds(lambda: run_stage("chip.stage", inputs, _settings(), chips))

    def reads() -> float:
        return seconds(lambda: _loop(image, labels, None))

    def loop() -> float:
        return seconds(lambda: _loop(image, labels, raw))

    read, bare, ours = interleaved(5, reads, loop, stage)
    note = f"{count / ours:.0f} against {count / bare:.0f} windows/s, {CHIP_PX} px, 4 bands"
    if raw is not None:
        note += f"; reads alone {count / read:.0f}"
    return Figure(name, bare / ours, 0.7, "", False, note)


def _settings() -> dict[str, Any]:
    settings = chip_settings(CHIP_PX, CHIP_PX)
    settings["classes"] = [{"id": i, "name": name, "color": color} for i, (name, color) in enumerate(COLORS.items())]
    settings["null_id"] = len(COLORS) - 1
    settings["labels"] = {**settings["labels"], "encoding": "rgb"}
    return settings


def _loop(image: Path, labels: Path, raw: Path | None) -> None:
    """Read all windows of image and labels; with `raw`, write each image and a class per pixel to one file."""
    with rasterio.open(image) as pixels, rasterio.open(labels) as colors, (raw or Path("/dev/null")).open("wb") as file:
        for row in range(0, SIZE_PX, CHIP_PX):
            for col in range(0, SIZE_PX, CHIP_PX):
                window = Window(col, row, CHIP_PX, CHIP_PX)
                values = np.asarray(pixels.read(window=window))
                codes = np.asarray(colors.read(window=window))
                if raw is not None:
                    file.write(values.data)
                    file.write(codes[0].data)


def _uncompressed(source: Path, target: Path) -> Path:
    rasterio.shutil.copy(source, target, driver="GTiff", compress="none", tiled="yes", photometric="minisblack")
    return target
