"""Prediction against a bare forward loop over the same windows, and how peak memory grows with the scene."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

from benchmarks.bar import Cost, Figure, cpu_seconds, interleaved
from benchmarks.command import in_child, peak_rss_mb
from benchmarks.scenes import write_raster
from benchmarks.stage import as_trained, classes, model_of, predict_settings, random_model, run_stage

CHIP_PX, BATCH = 300, 8
SPEED_PX = 12 * CHIP_PX
CELL_PX = 200
CELLS_PX = 18 * CELL_PX
SMALL_PX, LARGE_PX, TINY_CHIP_PX = 2000, 12000, 512
#: With null; the row band of a scene holds the scores of all but that one.
CLASS_COUNTS = (3, 7)


def run(folder: Path) -> list[Figure]:
    return [
        _pixels(folder / "pixels"),
        _cells(folder / "cells"),
        *(_memory(folder / f"memory{count}", count) for count in CLASS_COUNTS),
    ]


def _pixels(folder: Path) -> Figure:
    folder.mkdir(parents=True)
    model_files = model_of(folder / "model", "lraspp_mobilenet_v3_large", CHIP_PX)
    settings = predict_settings(CHIP_PX, CHIP_PX, "none")
    bare, folded, ours = _speed(folder, SPEED_PX, CHIP_PX, model_files, settings)
    rates = [SPEED_PX**2 / spent / 1e6 for spent in (ours, bare)]
    note = (
        f"{rates[0]:.2f} against {rates[1]:.2f} Mpx/s, lraspp, {CHIP_PX} px, batch {BATCH}; reads and writes included; "
        f"{ours / folded:.2f} of forward passes with folded batch normalisation, which ours have"
    )
    cost = Cost("Mpx", 1 / rates[0], 1 / rates[1])
    return Figure("predict, CPU over bare forward passes", ours / bare, 1.15, "", True, note, cost)


def _cells(folder: Path) -> Figure:
    folder.mkdir(parents=True)
    model_files = random_model(folder / "model", "chip_classification", "resnet18", CELL_PX)
    settings = predict_settings(CELL_PX, CELL_PX, "none", cell_px=CELL_PX, cells="geojson")
    settings["task"] = "chip_classification"
    bare, folded, ours = _speed(folder, CELLS_PX, CELL_PX, model_files, settings)
    rates = [(CELLS_PX // CELL_PX) ** 2 / spent for spent in (ours, bare)]
    note = (
        f"{rates[0]:.0f} against {rates[1]:.0f} cells/s, resnet18, {CELL_PX} px, batch {BATCH}; reads and writes "
        f"included; {ours / folded:.2f} of forward passes with folded batch normalisation"
    )
    cost = Cost("cell", 1 / rates[0], 1 / rates[1])
    return Figure("predict, CPU of cells over bare forward passes", ours / bare, 1.05, "", True, note, cost)


def _speed(
    folder: Path, size_px: int, window_px: int, model_files: Sequence[Path], settings: Mapping[str, Any]
) -> list[float]:
    """Return the seconds of bare forward passes over the windows of a scene, of folded ones, and of the stage.

    Bare is what a script would do that has all windows in memory, normalised: channels last, in inference mode.
    """
    from rvbuild.cores import thread_count
    from rvbuild.learn.checkpoint import load_model

    image = write_raster(folder / "image.tif", size_px, 3, 256)
    with rasterio.open(image) as file:
        pixels = file.read()
    steps = size_px // window_px
    windows = (
        pixels.reshape(3, steps, window_px, steps, window_px)
        .transpose(1, 3, 0, 2, 4)
        .reshape(-1, 3, window_px, window_px)
    )
    batches = [
        (torch.from_numpy(np.ascontiguousarray(windows[start : start + BATCH])).float() / 255).contiguous(
            memory_format=torch.channels_last,
        )
        for start in range(0, len(windows), BATCH)
    ]
    bare = as_trained(model_files)
    folded, _ = load_model(*model_files, device="cpu")

    def forward(model: torch.nn.Module) -> float:
        torch.set_num_threads(thread_count())
        with torch.inference_mode():
            return cpu_seconds(lambda: [model(batch) for batch in batches])

    def stage() -> float:
        inputs = {"image": [image], "model": model_files}
        return cpu_seconds(lambda: run_stage("infer", inputs, settings, folder / "out"))

    return interleaved(5, lambda: forward(bare), lambda: forward(folded), stage)


def _memory(folder: Path, class_count: int) -> Figure:
    args = {"width": 2, "depth": 2}
    model_files = random_model(folder / "model", "semantic_segmentation", "unet", TINY_CHIP_PX, args, class_count)
    peaks = {}
    for size_px in (SMALL_PX, LARGE_PX):
        scene = folder / str(size_px)
        scene.mkdir(parents=True)
        write_raster(scene / "image.tif", size_px, 3, 256)
        peaks[size_px] = in_child(__name__, str(scene), str(class_count), *map(str, model_files))["rss_mb"]
        (scene / "image.tif").unlink()
    growth = peaks[LARGE_PX] - peaks[SMALL_PX]
    note = f"{peaks[SMALL_PX]:.0f} to {peaks[LARGE_PX]:.0f} MB, {SMALL_PX} to {LARGE_PX} pixels square, stride half"
    return Figure(f"predict, growth of peak RSS, {class_count - 1} classes", growth, 100, "MB", True, note)


def _main(scene: Path, class_count: int, *model_files: Path) -> None:
    inputs = {"image": [scene / "image.tif"], "model": list(model_files)}
    settings = predict_settings(TINY_CHIP_PX, TINY_CHIP_PX // 2, "mean")
    settings |= {"classes": classes(class_count), "null_id": class_count - 1}
    run_stage("infer", inputs, settings, scene / "out")
    print(json.dumps({"rss_mb": peak_rss_mb()}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
