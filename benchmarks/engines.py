"""Prediction by OpenVINO and onnxruntime, end to end, against a bare loop of eager torch; and whether classes agree.

On one thread, in CPU seconds, which other processes on the machine disturb less than the clock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import rasterio
import torch

from benchmarks.bar import Cost, Figure, cpu_seconds, interleaved
from benchmarks.scenes import write_raster
from benchmarks.stage import as_trained, classes, predict_settings, random_model, run_stage

CHIP_PX, BATCH, CLASS_COUNT = 256, 8, 7

#: Model, its arguments, windows of a side of the scene, and the least speed relative to the bare loop.
MODELS: tuple[tuple[str, dict[str, Any], int, float], ...] = (
    ("lraspp_mobilenet_v3_large", {}, 16, 1.6),
    ("unet", {"width": 16}, 10, 1.5),
    ("deeplabv3_resnet50", {}, 3, 1.1),
)

ENGINES = ("openvino", "onnxruntime")


def run(folder: Path) -> list[Figure]:
    with mock.patch.dict(os.environ, RVBUILD_THREADS="1"):
        return [figure for model in MODELS for figure in _figures(folder / model[0], *model)]


def _figures(folder: Path, name: str, args: dict[str, Any], side: int, bar: float) -> list[Figure]:
    folder.mkdir(parents=True)
    files = random_model(folder / "model", "semantic_segmentation", name, CHIP_PX, args, CLASS_COUNT)
    image = write_raster(folder / "image.tif", side * CHIP_PX, 3, 256)
    stats = [folder / "stats.json"]
    stats[0].write_text('{"bands": [], "dtype": "uint8"}\n')
    exported = run_stage("export", {"model": files, "stats": stats}, {"engine": ENGINES[0]}, folder / "export")
    inputs = {"image": [image], "model": files, "network": [exported / "model.onnx"]}
    settings = predict_settings(CHIP_PX, CHIP_PX, "none")
    settings |= {"classes": classes(CLASS_COUNT), "null_id": CLASS_COUNT - 1}

    def stage(engine: str) -> Path:
        own = settings if engine == "torch" else {**settings, "engine": engine}
        return run_stage("infer", inputs, own, folder / f"out-{engine}") / "raw_labels.tif"

    bare, batches = as_trained(files), _batches(image, side)

    def loop() -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            for batch in batches:
                bare(batch)

    timed: list[Callable[[], float]] = [lambda: cpu_seconds(loop)]
    timed += [lambda engine=engine: cpu_seconds(lambda: stage(engine)) for engine in ENGINES]  # type: ignore[misc]
    of_bare, *of_engines = interleaved(2, *timed)
    rates = ", ".join(f"{of_bare / spent:.2f} by {engine}" for engine, spent in zip(ENGINES, of_engines, strict=True))
    note = f"{rates}; {side**2} windows of {CHIP_PX} px, batch {BATCH}, loading, reading and writing included"
    cost = Cost("window", of_engines[0] / side**2, of_bare / side**2)
    expected = _labels(stage("torch"))
    same = min(float(np.mean(_labels(folder / f"out-{engine}/raw_labels.tif") == expected)) for engine in ENGINES)
    return [
        Figure(f"engines, {name}, speed over bare eager torch", of_bare / of_engines[0], bar, "", False, note, cost),
        Figure(f"engines, {name}, pixels of the same class", 100 * same, 99.99, "%", False, "torch and both engines"),
    ]


def _labels(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        labels: np.ndarray = file.read(1)
    return labels


def _batches(image: Path, side: int) -> list[torch.Tensor]:
    """Return the windows of a scene as a script would hold them: in memory, normalised, channels last."""
    with rasterio.open(image) as file:
        pixels = file.read()
    windows = pixels.reshape(3, side, CHIP_PX, side, CHIP_PX).transpose(1, 3, 0, 2, 4).reshape(-1, 3, CHIP_PX, CHIP_PX)
    return [
        (torch.from_numpy(np.ascontiguousarray(windows[start : start + BATCH])).float() / 255).contiguous(
            memory_format=torch.channels_last
        )
        for start in range(0, len(windows), BATCH)
    ]
