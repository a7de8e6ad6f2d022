"""Chipping against a bare loop of the same plain windowed reads of image and labels, which writes what it has read.

Two kinds of imagery, both of the shape of ISPRS Potsdam, with four bands and colour-coded labels: compressed, as most
imagery is, and uncompressed, as ISPRS delivers it, where a read is a copy of memory. Both in new processes, as a script
and a worker are: what a process allocates again costs less than what it allocates first.
"""

from __future__ import annotations

import importlib
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from benchmarks.bar import Cost, Figure, cpu_seconds
from benchmarks.command import in_child
from benchmarks.stage import chip_settings, run_stage
from rvbuild.data.samples import make_potsdam

SIZE_PX, CHIP_PX, TURNS = 6000, 300, 5
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
        _figure("chip, CPU over bare reads and writes (deflate)", folder, image, labels, 1.25),
        _figure("chip, CPU over bare reads and writes (uncompressed)", folder, *plain, 1.4),
    ]


def _figure(name: str, folder: Path, image: Path, labels: Path, bar: float) -> Figure:
    turns = [
        {kind: in_child(__name__, kind, *map(str, (folder, image, labels))) for kind in ("reads", "loop", "stage")}
        for _ in range(TURNS)
    ]

    def window(kind: str, call: str) -> float:
        return statistics.median(turn[kind][call] for turn in turns) / (SIZE_PX // CHIP_PX) ** 2

    bare, ours = window("loop", "first"), window("stage", "first")
    again = window("stage", "second") / window("loop", "second")
    note = f"{CHIP_PX} px, 4 bands; reads alone {1000 * window('reads', 'first'):.3g} ms; {again:.2f} in warm memory"
    return Figure(name, ours / bare, bar, "", True, note, Cost("window", ours, bare))


def _main(kind: str, folder: Path, image: Path, labels: Path) -> None:
    importlib.import_module("rvbuild.stages.chip.stage")
    importlib.import_module("rvbuild.geo.labels.raster")
    importlib.import_module("PIL.ImageFont")

    def call() -> None:
        if kind == "stage":
            run_stage("chip.stage", {"image": [image], "labels": [labels]}, _settings(), folder / "chips")
        else:
            _loop(image, labels, folder / "raw" if kind == "loop" else None)

    times = {}
    for name in ("first", "second"):
        shutil.rmtree(folder / "chips", ignore_errors=True)
        times[name] = cpu_seconds(call)
    print(json.dumps(times))


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


if __name__ == "__main__":
    _main(sys.argv[1], *map(Path, sys.argv[2:]))
