"""Semantic segmentation: a class for every pixel.

torch and rasterio are imported where they are used: cutting chips does not need torch, nor training rasterio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rvbuild.learn.chips.geometry import orient as turned
from rvbuild.learn.hooks import PartObjective, Target, Targets
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Progress
from rvbuild.project.tasks.segmentation import SPEC
from rvbuild.settings.chip import ChipSettings
from rvbuild.settings.evaluation import EvalSettings
from rvbuild.settings.labels import LabelSettings
from rvbuild.settings.predict import PredictSettings
from rvbuild.settings.train import LossSettings
from rvbuild.tasks.evaluation import Evaluation
from rvbuild.tasks.merger import Merger
from rvbuild.tasks.orientations import Oriented, mean, turned_back
from rvbuild.tasks.portable import Exported, Probabilities
from rvbuild.tasks.protocol import ClassList, Draw, Panels, PixelLabels
from rvbuild.tasks.segmentation.settings import SegmentationDeriveSettings, SegmentationInferSettings
from rvbuild.tasks.segmentation.strips import RowStrips
from rvbuild.tasks.segmentation.target import draw as draw
from rvbuild.tasks.segmentation.target import mask as mask
from rvbuild.tasks.segmentation.target import paste as paste
from rvbuild.tasks.segmentation.target import resize as resize
from rvbuild.tasks.segmentation.target import window as window

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rvbuild.geo.area.aoi import Aoi
    from rvbuild.geo.classes import NamedClasses
    from rvbuild.geo.grid import Grid
    from rvbuild.geo.labels.open import LabelSource
    from rvbuild.geo.windows import Window
    from rvbuild.tasks.metrics.places import WorstPlaces
    from rvbuild.tasks.metrics.score_histogram import ScoreHistogram
    from rvbuild.tasks.segmentation.report import SegmentationSummary
    from rvbuild.tasks.segmentation.score import PixelCounts

COUNTED = "pixels"

PREDICT_SETTINGS = PredictSettings

RAW = SPEC.raw

STRIPS = RASTER_STRIPS = RowStrips()

PORTABLE = Probabilities(per_pixel=True)

_FEW_CLASSES = 16
"""Up to here a comparison per class is faster than a histogram."""


def labels(
    files: Sequence[Path], settings: LabelSettings, grid: Grid, classes: NamedClasses, null_id: int
) -> LabelSource:
    """Open a scene's labels; see `rvbuild.geo.labels.open.open_labels`."""
    from rvbuild.geo.labels.open import open_labels  # rasterio: training does without

    return open_labels(files, settings, grid=grid, classes=classes, null_id=null_id)


def pixel_labels(
    files: Sequence[Path], settings: LabelSettings, grid: Grid, classes: NamedClasses, null_id: int
) -> PixelLabels:
    """Open a scene's labels; see `rvbuild.geo.labels.open.open_labels`."""
    return labels(files, settings, grid, classes, null_id)


def chip_windows(
    files: Sequence[Path], settings: LabelSettings, grid: Grid, classes: NamedClasses, chip: ChipSettings
) -> None:
    """Return None: chips lie where the chip settings say."""


def aim(source: LabelSource, chip: ChipSettings, draw: Draw) -> None:
    """Return None: chips lie where the chip settings say."""


def target(source: LabelSource, window: Window, chip: ChipSettings) -> Target:
    """Return `{"labels": (H, W) uint8 class ids}` of a window."""
    return {"labels": source.read(window)}


def label_digest(source: LabelSource, window: Window) -> str | None:
    """Return a digest of the labels in a window; None for rasters."""
    return source.digest(window)


def class_counts(target: Target, n_classes: int) -> np.ndarray:
    """Return the pixels of each class id, `(n_classes,)` int64."""
    ids = target["labels"]
    if n_classes > _FEW_CLASSES:
        histogram: np.ndarray = np.bincount(ids.ravel(), minlength=n_classes)
        return histogram.astype(np.int64)
    counts, left = np.zeros(n_classes, dtype=np.int64), ids.size
    for class_id in range(n_classes):
        if not left:
            break
        counts[class_id] = np.count_nonzero(ids == class_id)
        left -= int(counts[class_id])
    return counts


def pack(targets: Sequence[Target]) -> dict[str, np.ndarray]:
    """Return a shard's tensors: `{"labels": (n, H, W) uint8}`."""
    return {"labels": np.stack([target["labels"] for target in targets])}


def unpack(shard: Mapping[str, np.ndarray], index: int) -> Target:
    """Return the target of one chip of a shard, as a view."""
    return {"labels": shard["labels"][index]}


def orient(target: Target, mirror: bool, quarter_turns: int, size_px: int) -> Target:
    """Return a target mirrored and turned as its image, as a view."""
    return {"labels": turned(target["labels"], mirror, quarter_turns)}


def collate(targets: Sequence[Target]) -> Targets:
    """Return `{"labels": (N, H, W) uint8 tensor}`."""
    import torch

    return {"labels": torch.from_numpy(np.stack([target["labels"] for target in targets]))}


def objective(
    train: LossSettings, outputs: Sequence[str], output_ids: Sequence[int], class_counts: np.ndarray
) -> PartObjective:
    """Return the objective of the train settings; see `rvbuild.tasks.protocol.Task.objective`."""
    from rvbuild.tasks.segmentation.model import objective as make

    return make(train, outputs, output_ids, class_counts)


def placing(settings: SegmentationInferSettings) -> tuple[int, int]:
    """Return the size and the stride of windows, in pixels."""
    return settings["chip_px"], settings["predict"]["stride_px"]


def windows(grid: Grid, aoi: Aoi | None, settings: SegmentationInferSettings) -> list[Window]:
    """Return the windows of the sliding grid that overlap the area of interest."""
    from rvbuild.geo.windows import sliding

    grid_windows = sliding(grid.height, grid.width, *placing(settings))
    return [window for window in grid_windows if aoi is None or aoi.intersects(window)]


def forward(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Return the probabilities of the outputs, `(N, K, H, W)` float32, at the size of `images`."""
    from rvbuild.tasks.segmentation.model import forward as compute

    return compute(model, images)


def exported(model: nn.Module, info: ModelInfo) -> Exported:
    """Return the network of the probabilities; see `rvbuild.tasks.protocol.Task.exported`."""
    from rvbuild.tasks.class_objective import WithProbabilities
    from rvbuild.tasks.segmentation.model import logits

    return Exported(WithProbabilities(model, logits), {}, {})


def averaged(predictions: Oriented, side_px: int) -> np.ndarray:
    """Return the mean of the probabilities, turned back, `(N, K, H, W)` float32."""
    return mean(turned_back(predictions))


def reduction(settings: SegmentationInferSettings) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return what chooses the most likely class of each pixel, if no other window counts and no scores are written."""
    from rvbuild.tasks.segmentation.merge import one_decides, outputs_of

    return outputs_of if one_decides(settings) else None


def merger(grid: Grid, outputs: Path, settings: SegmentationInferSettings) -> Merger:
    """Return a merger of windows into `raw_labels.tif`, and on request `scores.tif`."""
    from rvbuild.tasks.segmentation.merge import merger as make

    return make(grid, outputs, settings)


def derive(raw: Mapping[str, Path], settings: SegmentationDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Write `labels.tif` with its style, and on request colours and polygons."""
    from rvbuild.tasks.segmentation.outputs import derive as write

    write(raw, settings, outputs, progress)


def join(
    parts: Sequence[Mapping[str, Path]], settings: SegmentationDeriveSettings, outputs: Path, progress: Progress
) -> None:
    """Write the pixels of all parts as one raw result; see `rvbuild.tasks.protocol.Task.join`."""
    from rvbuild.tasks.segmentation.join import join as write

    write(parts, settings, outputs, progress)


def arrays(raw: Mapping[str, Path], settings: SegmentationDeriveSettings) -> dict[str, np.ndarray]:
    """Return the classes of pixels, and on request their scores; see `rvbuild.tasks.protocol.Task.arrays`."""
    from rvbuild.tasks.segmentation.outputs import arrays as read

    return read(raw, settings)


def scene_grid(predictions: Path) -> Grid:
    """Return the grid of `raw_labels.tif`, which is that of the scene."""
    from rvbuild.geo.raster.mosaic_source import open_image

    with open_image([predictions]) as source:
        return source.grid


def overlay(predictions: Path, grid: Grid, step: int, classes: ClassList) -> np.ndarray:
    """Return the predicted classes in their colours; see `rvbuild.tasks.protocol.Task.overlay`."""
    from rvbuild.tasks.segmentation.outputs import overlay as draw

    return draw(predictions, grid, step, classes)


def score(
    predictions: Path,
    source: LabelSource,
    aoi: Aoi | None,
    classes: NamedClasses,
    null_id: int,
    progress: Progress,
    settings: EvalSettings,
    worst: WorstPlaces,
    scores: Path | None = None,
) -> PixelCounts:
    """Return the confusion matrix of a scene as JSON data."""
    from rvbuild.tasks.segmentation.score import score as count

    return count(predictions, source, aoi, classes, null_id, progress, worst, scores)


def score_histogram(counts: PixelCounts, classes: ClassList, null_id: int) -> ScoreHistogram | None:
    """Return the scores of right and of wrong predictions; see `rvbuild.tasks.protocol.Task.score_histogram`."""
    return counts.get("score_histogram")


def panels(
    predictions: Path, source: LabelSource, aoi: Aoi | None, classes: ClassList, null_id: int, settings: EvalSettings
) -> Panels:
    """Return a function that draws labels, predictions and errors; see `rvbuild.tasks.protocol.Task.panels`."""
    from rvbuild.tasks.segmentation.places import panels as make

    return make(predictions, source, aoi, classes, null_id)


def report(
    counts: Mapping[str, PixelCounts], classes: ClassList, null_id: int
) -> tuple[Evaluation[SegmentationSummary], dict[str, str]]:
    """Return the content of `eval.json`, and of the files beside it by name."""
    from rvbuild.tasks.segmentation.report import report as make

    return make(counts, classes, null_id)


def survey(
    source: LabelSource, windows: Sequence[Window] | None, aoi: Aoi | None, step: int, classes: ClassList
) -> tuple[np.ndarray, np.ndarray, Mapping[str, int]]:
    """Return the labels of a scene counted and drawn; see `rvbuild.tasks.protocol.Task.survey`."""
    from rvbuild.tasks.segmentation.survey import survey as count

    return count(source, windows, aoi, step, classes)


def own_chips(
    relative: Sequence[str], files: Sequence[Path], classes: ClassList, null_id: int
) -> list[tuple[Path, Callable[[tuple[int, int]], Target]]]:
    """Return the chips in a user's files; see `rvbuild.tasks.own_chips.by_label_image`."""
    from rvbuild.tasks.own_chips import by_label_image

    return by_label_image(relative, files, classes, null_id)
