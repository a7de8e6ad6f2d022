"""The infer stage: applies a trained model to all windows of one scene, and merges the results into the raw result.

The task says which windows, all of one global grid. The last ones may overhang the scene, and a scene smaller than a
window has one that overhangs: what lies outside is padding that is 0 after normalisation, as nodata is, and as both are
in training. Windows without any valid pixel, and those that have no pixel of the area of interest, are not predicted.
Windows of another size than chips are resampled to it, as chips are.

Windows are read ahead by threads and merged behind by another; batches are formed, and merged, in the order of the
windows, and end with each group of rows of windows (`rvbuild.stages.window_rows`): results depend on nothing else.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, Protocol

import numpy as np
import numpy.typing as npt

from rvbuild import tasks
from rvbuild.cores import CARD_VARIABLE, cores, thread_count
from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.open import SceneImage, open_scene_image
from rvbuild.geo.raster.resample import resample
from rvbuild.geo.windows import Window
from rvbuild.learn.model_files import DESCRIPTION, ONNX, WEIGHTS, ModelInfo, read_info
from rvbuild.process.memory import Growth
from rvbuild.progress import Progress
from rvbuild.settings.area import OfArea
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.train import TrainedSettings
from rvbuild.stages.augmented import Augmented
from rvbuild.stages.engines.exported import load_exported
from rvbuild.stages.names import ExportedEngine
from rvbuild.stages.predictor import Predictor, load_predictor
from rvbuild.stages.reduced import reduced
from rvbuild.stages.threads.block_cache import block_cache, readers_of
from rvbuild.stages.threads.read_ahead import read_ahead
from rvbuild.stages.threads.write_behind import WriteBehind
from rvbuild.stages.window_rows import WindowRows
from rvbuild.tasks.merger import Merger
from rvbuild.tasks.settings import InferSettings
from rvbuild.tasks.strips import Strips

if TYPE_CHECKING:
    from rvbuild.geo.area.aoi import Aoi


class Area(Protocol):
    """Where pixels count, on the grid of a scene: an `Aoi`, or what is known of it in a strip."""

    def contains(self, window: Window) -> bool:
        """Tell whether the window's part inside the scene lies entirely in the area; False if that is not known."""

    def mask(self, window: Window) -> npt.NDArray[np.bool_]:
        """Return which pixels lie in the area: (H, W) bool, False outside the scene."""


class StripRows(NamedTuple):
    """The rows of a scene that are predicted, of several strips."""

    first: int
    stop: int
    area: Area | None
    """Which pixels of them count; None: all."""


class _Read(NamedTuple):
    """A window that was read."""

    window: Window
    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None
    """Both (C, chip_px, chip_px); None: every value is valid."""
    seen: npt.NDArray[np.bool_]
    """(H, W) at the size of the window: where any band is valid."""


class _Ready(NamedTuple):
    """A window that is to be predicted."""

    read: _Read
    keep: npt.NDArray[np.bool_]
    """(H, W) the pixels that get a prediction."""


class SceneInferSettings(InferSettings, SceneImageSettings):
    """The settings to run a model over the image of a scene."""


class InferStageSettings(SceneInferSettings, OfArea):
    """The settings of the stage: of `predict`, what windows and their merging depend on."""

    engine: NotRequired[ExportedEngine]
    """What computes the exported network; omitted for torch and for training backends."""
    trained: NotRequired[TrainedSettings]
    """The model that the project names. In no key."""


def run(inputs: Mapping[str, Sequence[Path]], settings: InferStageSettings, outputs: Path, progress: Progress) -> None:
    """Run the model over one scene.

    Parameters
    ----------
    inputs
        `image`: the files of the scene; `aoi`: none or more; `model`: `model.safetensors` and `model.json`. With an
        engine `model.json` alone, and `network`: the `model.onnx`, with its weights if they have a file of their own.
    settings
        See `InferStageSettings`.
    outputs
        Receives the files of the task's merger: for segmentation `raw_labels.tif`, and `scores.tif` on request.
    progress
        Receives progress, in windows.

    Raises
    ------
    DataError
        The image does not have the bands and the dtype that the model was trained on, or cannot be read.
    ModelError
        The model cannot be loaded, or is not the one that the project names.
    """
    from rvbuild.geo.area.aoi import open_aoi  # imported late: images that bundles predict have no area, nor fiona

    predictor = load(inputs, settings)
    aoi_files, area = inputs.get("aoi", ()), settings.get("area")
    infer_scene(predictor, inputs["image"], settings, outputs, progress, lambda grid: open_aoi(aoi_files, grid, area))


def load(inputs: Mapping[str, Sequence[Path]], settings: InferStageSettings) -> Predictor:
    """Load the model of the stage's inputs; see `run`.

    A built-in network of torch stays loaded for the next scene of this process. Models of users may have a state.
    """
    files = {path.name: path for path in inputs["model"]}
    device = settings["predict"]["device"]
    info = read_info(files[DESCRIPTION])
    if engine := settings.get("engine"):
        network = {path.name: path for path in inputs["network"]}
        return load_exported(network[ONNX], info, engine, device)
    named = info.backend or ":" in info.model
    card, trained = os.environ.get(CARD_VARIABLE), settings.get("trained")
    identity = (device, card, str(trained), *_state(files[WEIGHTS]), *_state(files[DESCRIPTION]))
    if identity in _LOADED and not named:
        return _LOADED[identity]
    _LOADED.clear()  # first: two models at the same time may be too large
    predictor = load_predictor(files[WEIGHTS], files[DESCRIPTION], device, trained=trained)
    if not named:
        _LOADED[identity] = predictor
    return predictor


_LOADED: dict[tuple[object, ...], Predictor] = {}
"""The network that this process loaded last."""


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes with the content of a file."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _everything(grid: Grid) -> None:
    """Return None, which is no area of interest: all of the scene counts."""


def infer_scene(
    predictor: Predictor,
    image: Sequence[Path],
    settings: SceneInferSettings,
    outputs: Path,
    progress: Progress,
    aoi_of: Callable[[Grid], Aoi | None] = _everything,
) -> None:
    """Run a loaded model over one scene; see `infer_image`."""
    channels = settings["channels"]
    infer_image(predictor, lambda: open_scene_image(image, settings), channels, settings, outputs, progress, aoi_of)


def infer_image(
    predictor: Predictor,
    open_source: Callable[[], SceneImage],
    channels: Sequence[int] | None,
    settings: InferSettings,
    outputs: Path,
    progress: Progress,
    aoi_of: Callable[[Grid], Aoi | None] = _everything,
    strip: StripRows | None = None,
) -> None:
    """Run a loaded model over an image.

    Parameters
    ----------
    predictor
        The model.
    open_source
        Opens the image, once for each thread that reads.
    channels
        The bands that it was asked for, for messages.
    settings
        How the windows are predicted.
    outputs
        Receives the files of the task's merger.
    progress
        Receives progress, in windows.
    aoi_of
        Returns the area of interest on the grid of the image, or None if all of it counts.
    strip
        The rows, if not all are predicted; see `rvbuild.stages.strips`. The files then also hold rows above and below,
        which may be incomplete.
    """
    task, predict = tasks.get(settings["task"]), settings["predict"]
    if tta := predict.get("tta"):
        predictor = Augmented(predictor, tta)
    predictor = reduced(predictor, task.reduction(settings))
    with open_source() as source:
        _require_like_training(source, predictor.info, channels)
        grid, top = source.grid, 0
        rows = WindowRows.of(grid.width, task.placing(settings), predict["batch_size"])
        area: Area | None
        if strip is None:
            area = aoi = aoi_of(grid)
            windows = task.windows(grid, aoi, settings)
            merger = task.merger(grid, outputs, settings)
        else:
            area, groups = strip.area, groups_of(task.STRIPS, rows, strip.first, strip.stop)
            windows = [
                window
                for window in task.windows(grid, None, settings)
                if rows.group(window) in groups and (area is None or area.mask(window).any())
            ]
            top, bottom = rows.pixels(groups, grid.height)
            merger = task.STRIPS.merger(grid.crop(Window(top, 0, bottom - top, grid.width)), outputs, settings)
        tallest = max((window.height for window in windows), default=settings["chip_px"])
        # One is enough beside a model that computes on two cores; a GPU is faster than one thread reads.
        threads = readers_of(source, tallest, max(1, min(4, thread_count() // 2)))
        cache = block_cache(source, tallest, readers=threads)
    progress.start("predict", len(windows), "windows")
    # Merging takes little beside the model, but it runs on one core while most of a model runs on all. If there is but
    # one, the predictions of two batches would be in memory for nothing.
    waiting = 0 if predictor.on_cpu and cores() == 1 else 1
    with cache, predictor.computing(), WriteBehind(depth=waiting) as behind:
        depth = 2 * predict["batch_size"]
        read = functools.partial(_read, size_px=settings["chip_px"])
        reads = read_ahead(open_source, read, windows, threads=threads, depth=depth)
        for batch in _batches(_to_predict(reads, area, progress), predict["batch_size"], rows):
            images = np.stack([ready.read.image for ready in batch])
            valid = _stacked([ready.read for ready in batch])
            predictions = predictor(images, valid)
            places = [ready.read.window._replace(row=ready.read.window.row - top) for ready in batch]
            behind.call(_merge, merger, list(zip(places, (ready.keep for ready in batch), strict=True)), predictions)
            progress.advance(len(batch))
            # Free its memory before the next ones are read.
            del batch, images, valid, predictions
        behind.call(merger.finish)


def groups_of(strips: Strips, rows: WindowRows, first: int, stop: int) -> range:
    """Return the groups of rows of windows that a strip predicts, from row `first` to the one before `stop`."""
    return rows.needed(first, stop) if strips.repeats else rows.own(first, stop)


def _merge(merger: Merger, windows: Sequence[tuple[Window, npt.NDArray[np.bool_]]], predictions: Any) -> None:
    for (window, keep), prediction in zip(windows, predictions, strict=True):
        merger.add(window, prediction, keep)


def _read(source: SceneImage, window: Window, size_px: int) -> _Read:
    image, valid = source.read_data(window)
    seen: npt.NDArray[np.bool_]
    seen = np.ones(image.shape[1:], dtype=bool) if valid is None else np.logical_or.reduce(valid)
    if valid is not None and (valid == seen).all():
        # Windows at an edge wait by the row: one mask for all bands.
        valid = np.broadcast_to(seen, valid.shape)
    if (window.height, window.width) != (size_px, size_px):
        image, valid = resample(image, valid, size_px)
    return _Read(window, image, valid, seen)


def _stacked(reads: Sequence[_Read]) -> npt.NDArray[np.bool_] | None:
    """Return the validity of a batch, (N, C, H, W); None if every value is valid."""
    if all(read.valid is None for read in reads):
        return None
    valid = [np.ones(read.image.shape, dtype=bool) if read.valid is None else read.valid for read in reads]
    return np.stack(valid)


def _to_predict(reads: Iterable[_Read], aoi: Area | None, progress: Progress) -> Iterator[_Ready]:
    """Yield the windows that have a pixel to predict."""
    for read in reads:
        keep = read.seen
        if aoi is not None and not aoi.contains(read.window):
            keep = keep & aoi.mask(read.window)
        if keep.any():
            yield _Ready(read, keep)
        else:
            progress.advance()


def _batches(items: Iterable[_Ready], size: int, rows: WindowRows) -> Iterator[list[_Ready]]:
    """Yield batches of at most `size` windows of one group of rows."""
    growth = Growth()
    for _, group in itertools.groupby(items, lambda item: rows.group(item.read.window)):
        while batch := list(itertools.islice(group, size)):
            yield batch
        del batch
        growth.limit()


def _require_like_training(source: SceneImage, info: ModelInfo, channels: Sequence[int] | None) -> None:
    """Raise a DataError unless the image has the bands and the dtype of the model."""
    if (source.count, source.dtype.name) == (info.bands, info.dtype):
        return
    files = ", ".join(str(path) for path in source.files[:3]) + (", …" if len(source.files) > 3 else "")
    chosen = "every band that is not alpha" if channels is None else f"the channels {list(channels)}"
    raise DataError(
        f"{files}: expected {info.bands} {'band' if info.bands == 1 else 'bands'} of type {info.dtype}, as in the "
        f"training of the model; found {source.count} of type {source.dtype.name} ({', '.join(source.descriptions)}), "
        f"with {chosen}"
    )
