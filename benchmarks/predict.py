"""Prediction against a bare forward loop over the same windows, and how peak memory grows with the scene."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import rasterio
import torch

from benchmarks.bar import Figure, interleaved, seconds
from benchmarks.command import in_child, peak_rss_mb
from benchmarks.scenes import write_raster
from benchmarks.stage import model_of, predict_settings, run_stage

CHIP_PX, BATCH = 300, 8
SPEED_PX = 12 * CHIP_PX
SMALL_PX, LARGE_PX, TINY_CHIP_PX = 2000, 12000, 512


def run(folder: Path) -> list[Figure]:
    return [_speed(folder / "speed"), _memory(folder / "memory")]


def _speed(folder: Path) -> Figure:
    from rvbuild.learn.checkpoint import load_model
    from rvbuild.learn.device import set_threads

    folder.mkdir(parents=True)
    model_files = model_of(folder / "model", "lraspp_mobilenet_v3_large", CHIP_PX)
    image = write_raster(folder / "image.tif", SPEED_PX, 3, 256)
    with rasterio.open(image) as file:
        pixels = file.read()
    steps = SPEED_PX // CHIP_PX
    windows = (
        pixels.reshape(3, steps, CHIP_PX, steps, CHIP_PX).transpose(1, 3, 0, 2, 4).reshape(-1, 3, CHIP_PX, CHIP_PX)
    )
    batches = [
        (torch.from_numpy(np.ascontiguousarray(windows[start : start + BATCH])).float() / 255).contiguous(
            memory_format=torch.channels_last,
        )
        for start in range(0, len(windows), BATCH)
    ]
    model, _ = load_model(*model_files, device="cpu")
    set_threads()

    def forward() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(batch)

    def stage() -> float:
        inputs = {"image": [image], "model": model_files}
        return seconds(lambda: run_stage("infer", inputs, predict_settings(CHIP_PX, CHIP_PX, "none"), folder / "out"))

    bare, ours = interleaved(5, lambda: seconds(forward), stage)
    rates = [SPEED_PX**2 / spent / 1e6 for spent in (ours, bare)]
    note = (
        f"{rates[0]:.2f} against {rates[1]:.2f} Mpx/s, lraspp, {CHIP_PX} px, batch {BATCH}; reads and writes included"
    )
    return Figure("predict, pixels/s over bare forward passes", bare / ours, 0.85, "", False, note)


def _memory(folder: Path) -> Figure:
    tiny = {"model_args": {"width": 2, "depth": 2}}
    model_files = model_of(folder / "model", "unet", TINY_CHIP_PX, **tiny)
    peaks = {}
    for size_px in (SMALL_PX, LARGE_PX):
        scene = folder / str(size_px)
        scene.mkdir(parents=True)
        write_raster(scene / "image.tif", size_px, 3, 256)
        peaks[size_px] = in_child(__name__, str(scene), *map(str, model_files))["rss_mb"]
        (scene / "image.tif").unlink()
    growth = peaks[LARGE_PX] - peaks[SMALL_PX]
    note = f"{peaks[SMALL_PX]:.0f} to {peaks[LARGE_PX]:.0f} MB, {SMALL_PX} to {LARGE_PX} pixels square, stride half"
    return Figure("predict, growth of peak RSS", growth, 150, "MB", True, note)


def _main(scene: Path, *model_files: Path) -> None:
    inputs = {"image": [scene / "image.tif"], "model": list(model_files)}
    run_stage("infer", inputs, predict_settings(TINY_CHIP_PX, TINY_CHIP_PX // 2, "mean"), scene / "out")
    print(json.dumps({"rss_mb": peak_rss_mb()}))


if __name__ == "__main__":
    _main(*map(Path, sys.argv[1:]))
