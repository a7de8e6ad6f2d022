"""Object detection: boxes around the objects of a scene, each with a class and a score.

A box is trained on in the chips that show enough of it. Predicted boxes belong to an area of interest if their centre
lies in it; in an evaluation, labels whose centre lies outside are neither wanted nor wrong.

torch and rasterio are imported where they are used: cutting chips does not need torch, nor training rasterio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rvbuild.learn.hooks import PartObjective, Target, Targets
from rvbuild.learn.model_files import ModelInfo
from rvbuild.progress import Progress
from rvbuild.project.tasks.detection import SPEC
from rvbuild.settings.chip import ChipSettings, ShownBoxes
from rvbuild.settings.evaluation import BoxEvalSettings
from rvbuild.settings.labels import AnyVectorSettings, BoxFileSettings, LabelSettings
from rvbuild.settings.predict import BoxPredictSettings
from rvbuild.settings.train import LossSettings
from rvbuild.tasks.detection.candidates import Candidates, Detected
from rvbuild.tasks.detection.settings import BoxDeriveSettings, BoxInferSettings
from rvbuild.tasks.detection.strips import BoxStrips
from rvbuild.tasks.evaluation import Evaluation
from rvbuild.tasks.merger import Merger
from rvbuild.tasks.orientations import Orientation, Oriented
from rvbuild.tasks.portable import Exported
from rvbuild.tasks.protocol import Aim, ClassList, Draw, Labels, Panels, PixelLabels

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rvbuild.geo.area.aoi import Aoi
    from rvbuild.geo.classes import NamedClasses
    from rvbuild.geo.grid import Grid
    from rvbuild.geo.labels.boxes import BoxLabels
    from rvbuild.geo.windows import Window
    from rvbuild.tasks.detection.report import BoxSummary
    from rvbuild.tasks.detection.score import BoxCounts
    from rvbuild.tasks.metrics.places import WorstPlaces
    from rvbuild.tasks.metrics.score_histogram import ScoreHistogram

COUNTED = "boxes"

PREDICT_SETTINGS = BoxPredictSettings

RAW = SPEC.raw

STRIPS = BoxStrips()
RASTER_STRIPS = None

PORTABLE = Candidates()


def labels(
    files: Sequence[Path],
    settings: AnyVectorSettings | BoxFileSettings,
    grid: Grid,
    classes: NamedClasses,
    null_id: int,
) -> Labels:
    """Open a scene's labels; see `rvbuild.geo.labels.boxes.open_boxes`."""
    from rvbuild.geo.labels.boxes import open_boxes  # rasterio: training does without

    return open_boxes(files, settings, grid=grid, classes=classes, null_id=null_id)


def pixel_labels(
    files: Sequence[Path],
    settings: AnyVectorSettings | BoxFileSettings,
    grid: Grid,
    classes: NamedClasses,
    null_id: int,
) -> PixelLabels:
    """Open a scene's boxes as pixels; see `rvbuild.tasks.detection.pixels`."""
    from rvbuild.tasks.detection.pixels import BoxPixels

    return BoxPixels(files, settings, grid, classes, null_id)


def chip_windows(
    files: Sequence[Path], settings: LabelSettings, grid: Grid, classes: NamedClasses, chip: ChipSettings
) -> None:
    """Return None: chips lie where the chip settings say."""


def aim(source: BoxLabels, chip: ChipSettings, draw: Draw) -> Aim | None:
    """Return a chooser of positive chips and background, if `neg_ratio` is set."""
    from rvbuild.tasks.detection.chips import BoxAim

    return None if chip["neg_ratio"] is None else BoxAim(source, chip, draw)


def target(source: BoxLabels, window: Window, chip: ChipSettings) -> Target:
    """Return `{"boxes": (n, 4) float32 x0, y0, x1, y1, "classes": (n,) uint8}`: the boxes that the chip is to teach."""
    from rvbuild.tasks.detection.chips import target as find

    return find(source, window, chip)


def label_digest(source: BoxLabels, window: Window) -> str:
    """Return a digest of the boxes in a window."""
    return source.digest(window)


def mask(target: Target, keep: np.ndarray, null_id: int) -> Target:
    """Return a target without the boxes whose centre lies outside the training area."""
    boxes = target["boxes"]
    height, width = keep.shape
    columns = np.clip((boxes[:, 0] + boxes[:, 2]) / 2, 0, width - 1).astype(np.intp)
    rows = np.clip((boxes[:, 1] + boxes[:, 3]) / 2, 0, height - 1).astype(np.intp)
    inside = keep[rows, columns]
    return {"boxes": boxes[inside], "classes": target["classes"][inside]}


def resize(target: Target, shape: tuple[int, int], size_px: int) -> Target:
    """Return a target with the boxes at their place in the resampled chip."""
    height, width = shape
    scale = np.array([size_px / width, size_px / height] * 2)
    return {"boxes": (target["boxes"] * scale).astype(np.float32), "classes": target["classes"]}


def draw(target: Target, picture: np.ndarray, classes: ClassList) -> np.ndarray:
    """Return the picture of the chip with its boxes in the colours of their classes."""
    from rvbuild.geo.write.picture import draw_boxes

    return draw_boxes(picture, target["boxes"], target["classes"], classes)


def class_counts(target: Target, n_classes: int) -> np.ndarray:
    """Return the boxes of each class id, `(n_classes,)` int64."""
    counts: np.ndarray = np.bincount(target["classes"], minlength=n_classes)
    return counts.astype(np.int64)


def pack(targets: Sequence[Target]) -> dict[str, np.ndarray]:
    """Return a shard's tensors: `boxes` (M, 4), `classes` (M,), and `offsets` (n + 1,): where each chip's begin."""
    counts = [len(target["classes"]) for target in targets]
    return {
        "boxes": np.concatenate([target["boxes"] for target in targets]).reshape(-1, 4),
        "classes": np.concatenate([target["classes"] for target in targets]),
        "offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    }


def unpack(shard: Mapping[str, np.ndarray], index: int) -> Target:
    """Return the target of one chip of a shard, as views."""
    start, stop = shard["offsets"][index : index + 2]
    return {"boxes": shard["boxes"][start:stop], "classes": shard["classes"][start:stop]}


def orient(target: Target, mirror: bool, quarter_turns: int, size_px: int) -> Target:
    """Return a target mirrored and turned as its image."""
    from rvbuild.tasks.detection.fuse import turned

    boxes = turned(target["boxes"], Orientation(mirror, quarter_turns), size_px)
    return {"boxes": boxes, "classes": target["classes"]}


def window(
    target: Target, row: int, col: int, side: int, size_px: int, null_id: int, shown: ShownBoxes | None
) -> Target:
    """Return the boxes that a square window of a chip shows, at their place in it; see `shown.shown_in`."""
    from rvbuild.geo.windows import Window
    from rvbuild.tasks.detection.shown import shown_in

    assert shown is not None
    part = shown_in(target, Window(row, col, side, side), shown)
    return resize(part, (side, side), size_px)


def paste(target: Target, other: Target, rows: slice, cols: slice) -> None:
    """Return None: half a box is no box."""


def collate(targets: Sequence[Target]) -> Targets:
    """Return `{"boxes": [(n, 4) float32 tensor, …], "classes": [(n,) uint8 tensor, …]}`, one for each chip."""
    import torch

    return {key: [torch.from_numpy(np.array(target[key])) for target in targets] for key in ("boxes", "classes")}


def objective(
    train: LossSettings, outputs: Sequence[str], output_ids: Sequence[int], class_counts: np.ndarray
) -> PartObjective:
    """Return the objective of the train settings; see `rvbuild.tasks.protocol.Task.objective`."""
    from rvbuild.tasks.detection.model import objective as make

    return make(train, outputs, output_ids, class_counts)


def placing(settings: BoxInferSettings) -> tuple[int, int]:
    """Return the size and the stride of windows, in pixels."""
    return settings["chip_px"], settings["predict"]["stride_px"]


def windows(grid: Grid, aoi: Aoi | None, settings: BoxInferSettings) -> list[Window]:
    """Return the windows of the sliding grid that overlap the area of interest."""
    from rvbuild.geo.windows import sliding

    grid_windows = sliding(grid.height, grid.width, *placing(settings))
    return [window for window in grid_windows if aoi is None or aoi.intersects(window)]


def forward(model: nn.Module, images: torch.Tensor) -> list[Detected]:
    """Return the boxes in each image."""
    from rvbuild.tasks.detection.model import detect

    return detect(model, images)


def exported(model: nn.Module, info: ModelInfo) -> Exported:
    """Return the network of all candidates; see `rvbuild.tasks.protocol.Task.exported`."""
    from rvbuild.learn.export.detectors import candidates_of, translations

    network, reading = candidates_of(model, info.model, info.bands, info.chip_px)
    return Exported(network, reading, translations())


def averaged(predictions: Oriented, side_px: int) -> list[Detected]:
    """Return the boxes of each image, fused over the orientations; see `rvbuild.tasks.detection.fuse`."""
    from rvbuild.tasks.detection.fuse import fused

    turns = list(predictions)
    images = range(len(turns[0][1]))
    return [fused([(orientation, chips[image]) for orientation, chips in turns], side_px) for image in images]


def reduction(settings: BoxInferSettings) -> None:
    """Return None: the merger needs all of a prediction."""


def merger(grid: Grid, outputs: Path, settings: BoxInferSettings) -> Merger:
    """Return a merger of boxes of windows into `raw_boxes.safetensors`."""
    from rvbuild.tasks.detection.boxes import BoxMerger

    return BoxMerger(grid, outputs, settings)


def derive(raw: Mapping[str, Path], settings: BoxDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Merge the boxes of windows and write the result."""
    from rvbuild.tasks.detection.outputs import derive as write

    write(raw, settings, outputs, progress)


def join(parts: Sequence[Mapping[str, Path]], settings: BoxDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Write the boxes of all parts as one raw result; see `rvbuild.tasks.protocol.Task.join`."""
    from rvbuild.tasks.detection.merge import join as write

    write(parts, settings, outputs, progress)


def arrays(raw: Mapping[str, Path], settings: BoxDeriveSettings) -> dict[str, np.ndarray]:
    """Return the boxes with a sufficient score; see `rvbuild.tasks.protocol.Task.arrays`."""
    from rvbuild.tasks.detection.outputs import arrays as read

    return read(raw, settings)


def scene_grid(predictions: Path) -> Grid:
    """Return the grid of the scene, as `detections.json` describes it."""
    from rvbuild.tasks.detection.boxes import read_detections

    return read_detections(predictions).grid


def overlay(predictions: Path, grid: Grid, step: int, classes: ClassList) -> np.ndarray:
    """Return the outlines of the boxes in their colours; see `rvbuild.tasks.protocol.Task.overlay`."""
    from rvbuild.tasks.detection.outputs import overlay as draw

    return draw(predictions, grid, step, classes)


def score(
    predictions: Path,
    source: BoxLabels,
    aoi: Aoi | None,
    classes: NamedClasses,
    null_id: int,
    progress: Progress,
    settings: BoxEvalSettings,
    worst: WorstPlaces,
    scores: Path | None = None,
) -> BoxCounts:
    """Return the matches of a scene as JSON data."""
    from rvbuild.tasks.detection.score import score as count

    return count(predictions, source, aoi, classes, null_id, progress, settings, worst)


def score_histogram(counts: BoxCounts, classes: ClassList, null_id: int) -> ScoreHistogram | None:
    """Return the scores of right and of wrong predictions; see `rvbuild.tasks.protocol.Task.score_histogram`."""
    from rvbuild.tasks.detection.score import histogram

    return histogram(counts)


def panels(
    predictions: Path, source: BoxLabels, aoi: Aoi | None, classes: ClassList, null_id: int, settings: BoxEvalSettings
) -> Panels:
    """Return a function that draws labels, predictions and errors; see `rvbuild.tasks.protocol.Task.panels`."""
    from rvbuild.tasks.detection.places import panels as make

    return make(predictions, source, aoi, classes, null_id, settings)


def report(
    counts: Mapping[str, BoxCounts], classes: ClassList, null_id: int
) -> tuple[Evaluation[BoxSummary], dict[str, str]]:
    """Return the content of `eval.json`, and of the files beside it by name."""
    from rvbuild.tasks.detection.report import report as make

    return make(counts, classes, null_id)


def survey(
    source: BoxLabels, windows: Sequence[Window] | None, aoi: Aoi | None, step: int, classes: ClassList
) -> tuple[np.ndarray, np.ndarray, Mapping[str, int]]:
    """Return the labels of a scene counted and drawn; see `rvbuild.tasks.protocol.Task.survey`."""
    from rvbuild.tasks.detection.survey import survey as count

    return count(source, windows, aoi, step, classes)


def own_chips(
    relative: Sequence[str], files: Sequence[Path], classes: ClassList, null_id: int
) -> list[tuple[Path, Callable[[tuple[int, int]], Target]]]:
    """Return the chips in a user's files; see `rvbuild.tasks.own_chips.by_coco`."""
    from rvbuild.tasks.own_chips import by_coco

    return by_coco(relative, files, classes, null_id)
