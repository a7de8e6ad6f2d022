"""The predict stage: a trained model over all windows of one scene, merged as it goes.

Windows come from the global grid of `stride_px`. The last ones may overhang the scene, and a scene smaller than a
window has one that overhangs: what lies outside is padding that is 0 after normalisation, as nodata is, and as both are
in training. Windows without any valid pixel, and those that do not intersect the area of interest, are not predicted.
Every other window is, so each pixel of the area gets the prediction that it would get without one; pixels outside, and
nodata pixels, get none.

Windows are read ahead by threads, and batches are formed in the order of the windows: results depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from torch import nn

from rvbuild import tasks
from rvbuild.errors import DataError
from rvbuild.geo.aoi import Aoi, open_aoi
from rvbuild.geo.raster import RasterSource, open_image
from rvbuild.geo.rasterfile import open_dataset
from rvbuild.geo.windows import Window, sliding
from rvbuild.learn.checkpoint import ModelInfo, load_model
from rvbuild.learn.device import reproducible, select_device, thread_count
from rvbuild.learn.model_files import DESCRIPTION, WEIGHTS
from rvbuild.learn.normalize import Normalizer
from rvbuild.progress import Progress
from rvbuild.stages.read_ahead import read_ahead

MIN_CACHE_BYTES, MAX_CACHE_BYTES = 16 << 20, 512 << 20
"""Bounds of GDAL's cache of decoded blocks, which by default takes 5 % of the memory of the machine."""


class _Read(NamedTuple):
    """A window that was read."""

    window: Window
    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


class _Ready(NamedTuple):
    """A window that is to be predicted."""

    read: _Read
    keep: npt.NDArray[np.bool_]
    """(H, W) the pixels that get a prediction."""


def run(inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any], outputs: Path, progress: Progress) -> None:
    """Predict one scene.

    Parameters
    ----------
    inputs
        `image`: the files of the scene; `aoi`: none or more; `model`: `model.safetensors` and `model.json`.
    settings
        task, image, channels, classes, null_id, chip_px, predict.
    outputs
        Receives what the task's merger writes, for segmentation `labels.tif` and what `predict` asks for beside it.
    progress
        Receives the windows as they are predicted.

    Raises
    ------
    DataError
        The image does not have the bands and the dtype that the model was trained on, or cannot be read.
    ModelError
        The model cannot be loaded.
    """
    files = {path.name: path for path in inputs["model"]}
    model, info = load_model(files[WEIGHTS], files[DESCRIPTION], settings["predict"]["device"])
    predict_scene(model, info, inputs["image"], inputs.get("aoi", ()), settings, outputs, progress)


def predict_scene(
    model: nn.Module,
    info: ModelInfo,
    image: Sequence[Path],
    aoi_files: Sequence[Path],
    settings: Mapping[str, Any],
    outputs: Path,
    progress: Progress,
) -> None:
    """Predict one scene with a loaded model; see `run`."""
    task, predict = tasks.get(settings["task"]), settings["predict"]
    device = select_device(predict["device"], "predict.device")
    normalizer = Normalizer(info)

    def open_source() -> RasterSource:
        return open_image(image, nodata=settings["image"]["nodata"], channels=settings["channels"])

    with open_source() as source:
        _require_like_training(source, info, settings["channels"])
        grid = source.grid
        # One is enough beside a model that computes on two cores; a GPU is faster than one thread reads.
        threads = max(1, min(4, thread_count() // 2))
        cache_bytes = _cache_bytes(source, settings["chip_px"], threads)
    aoi = open_aoi(aoi_files, grid)
    windows = sliding(grid.height, grid.width, settings["chip_px"], predict["stride_px"])
    windows = [window for window in windows if aoi is None or aoi.intersects(window)]
    progress.start("predict", len(windows), "windows")
    with rasterio.Env(GDAL_CACHEMAX=cache_bytes), reproducible(0, device), torch.inference_mode():
        merger = task.merger(grid, outputs, settings)
        depth = 2 * predict["batch_size"]
        reads = read_ahead(open_source, _read, windows, threads=threads, depth=depth)
        for batch in _batches(_to_predict(reads, aoi, progress), predict["batch_size"]):
            images = np.stack([ready.read.image for ready in batch])
            valid = np.stack([ready.read.valid for ready in batch])
            predictions = task.forward(model, normalizer(images, None if valid.all() else valid, device))
            for ready, prediction in zip(batch, predictions, strict=True):
                merger.add(ready.read.window, prediction, ready.keep)
            progress.advance(len(batch))
            # Not to be held while the next ones are made.
            del images, valid, predictions
        merger.finish()


def _read(source: RasterSource, window: Window) -> _Read:
    return _Read(window, *source.read(window))


def _to_predict(reads: Iterable[_Read], aoi: Aoi | None, progress: Progress) -> Iterator[_Ready]:
    """Yield the windows that have a pixel to predict."""
    for read in reads:
        keep: npt.NDArray[np.bool_] = np.any(read.valid, axis=0)
        if aoi is not None and not aoi.contains(read.window):
            keep &= aoi.mask(read.window)
        if keep.any():
            yield _Ready(read, keep)
        else:
            progress.advance()


def _batches(items: Iterable[_Ready], size: int) -> Iterator[list[_Ready]]:
    batch: list[_Ready] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _require_like_training(source: RasterSource, info: ModelInfo, channels: Sequence[int] | None) -> None:
    """Raise a DataError unless the image has the bands and the dtype that the model knows."""
    if (source.count, source.dtype.name) == (info.bands, info.dtype):
        return
    files = ", ".join(str(path) for path in source.files[:3]) + (", …" if len(source.files) > 3 else "")
    chosen = "every band that is not alpha" if channels is None else f"the channels {list(channels)}"
    raise DataError(
        f"{files}: expected {info.bands} {'band' if info.bands == 1 else 'bands'} of type {info.dtype}, as the model "
        f"was trained on; found {source.count} of type {source.dtype.name} ({', '.join(source.descriptions)}), "
        f"with {chosen}"
    )


def _cache_bytes(source: RasterSource, size: int, threads: int) -> int:
    """Return what GDAL may cache: the blocks that one row of windows touches, for each thread's own dataset.

    With less, blocks that several windows share would be decoded for each of them.
    """
    with open_dataset(source.files[0]) as dataset:
        # GDAL decodes all bands of a block, chosen or not, if the file interleaves them by pixel.
        bands, block_rows = int(dataset.count), int(dataset.block_shapes[0][0])
    needed = (size + 2 * block_rows) * source.grid.width * bands * source.dtype.itemsize * threads
    return max(MIN_CACHE_BYTES, min(MAX_CACHE_BYTES, needed))
