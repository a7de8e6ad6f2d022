"""Chip classification: a class for every cell of a scene.

Cells are the squares of a grid, or with `cells = "polygons"` the bounds of polygons for training. A cell belongs to an
area of interest if its centre, the centre of its part inside the scene, lies in the area. A cell of the null class is
unlabelled: it is neither trained on nor scored.

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
from rvbuild.project.tasks.classification import SPEC
from rvbuild.settings.chip import ChipSettings
from rvbuild.settings.evaluation import EvalSettings
from rvbuild.settings.labels import CellLabelSettings
from rvbuild.settings.predict import CellPredictSettings
from rvbuild.settings.train import LossSettings
from rvbuild.tasks.classification.settings import CellDeriveSettings, CellInferSettings
from rvbuild.tasks.classification.strips import CellStrips
from rvbuild.tasks.evaluation import Evaluation
from rvbuild.tasks.merger import Merger
from rvbuild.tasks.orientations import Oriented, mean
from rvbuild.tasks.portable import Exported, Probabilities
from rvbuild.tasks.protocol import ClassList, Draw, Labels, Panels, PixelLabels

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rvbuild.geo.area.aoi import Aoi
    from rvbuild.geo.classes import NamedClasses
    from rvbuild.geo.grid import Grid
    from rvbuild.geo.labels.cells import CellLabels
    from rvbuild.geo.windows import Window
    from rvbuild.tasks.classification.report import CellSummary
    from rvbuild.tasks.classification.score import CellCounts
    from rvbuild.tasks.metrics.places import WorstPlaces
    from rvbuild.tasks.metrics.score_histogram import ScoreHistogram

COUNTED = "cells"

PREDICT_SETTINGS = CellPredictSettings

RAW = SPEC.raw

STRIPS = CellStrips()
RASTER_STRIPS = None

PORTABLE = Probabilities(per_pixel=False)


class _Cells:
    """Labels of cells, with the null class."""

    def __init__(self, cells: CellLabels, null_id: int) -> None:
        self.cells, self.null_id = cells, null_id
        self.notes = cells.notes

    def __enter__(self) -> _Cells:
        return self

    def __exit__(self, *exception: object) -> None:
        self.cells.close()


def labels(
    files: Sequence[Path], settings: CellLabelSettings, grid: Grid, classes: NamedClasses, null_id: int
) -> Labels:
    """Open a scene's labels; see `rvbuild.geo.labels.cells.open_cells`."""
    from rvbuild.geo.labels.cells import open_cells  # rasterio: training does without

    return _Cells(open_cells(files, settings, grid=grid, classes=classes, null_id=null_id), null_id)


def pixel_labels(
    files: Sequence[Path], settings: CellLabelSettings, grid: Grid, classes: NamedClasses, null_id: int
) -> PixelLabels:
    """Open a scene's cells as pixels; see `rvbuild.tasks.classification.pixels`."""
    from rvbuild.tasks.classification.pixels import CellPixels

    return CellPixels(files, settings, grid, classes, null_id)


def chip_windows(
    files: Sequence[Path], settings: CellLabelSettings, grid: Grid, classes: NamedClasses, chip: ChipSettings
) -> list[Window]:
    """Return the cells: of the grid, or of the polygons."""
    from rvbuild.geo.labels.cells import cell_windows

    return cell_windows(files, settings, grid=grid, classes=classes, stride_px=chip["stride_px"])


def aim(source: _Cells, chip: ChipSettings, draw: Draw) -> None:
    """Return None: chips lie where the chip settings say."""


def target(source: _Cells, window: Window, chip: ChipSettings) -> Target | None:
    """Return `{"classes": () uint8 class id}` of a window; None if it is unlabelled."""
    class_id = source.cells.classify(window)
    return None if class_id == source.null_id else {"classes": np.array(class_id, dtype=np.uint8)}


def label_digest(source: _Cells, window: Window) -> str | None:
    """Return a digest of the labels in a window; None for rasters."""
    return source.cells.digest(window)


def mask(target: Target, keep: np.ndarray, null_id: int) -> Target:
    """Return a target without its class if no pixel of the chip may be used for training."""
    return target if keep.any() else {"classes": np.array(null_id, dtype=np.uint8)}


def resize(target: Target, shape: tuple[int, int], size_px: int) -> Target:
    """Return the target: the class of a chip does not depend on its size."""
    return target


def draw(target: Target, picture: np.ndarray, classes: ClassList) -> np.ndarray:
    """Return a pixel of the colour of the class, `(1, 1, 3)` uint8."""
    from rvbuild.geo.write.picture import colourize

    return colourize(target["classes"].reshape(1, 1), classes)


def class_counts(target: Target, n_classes: int) -> np.ndarray:
    """Return 1 for the class of the chip, `(n_classes,)` int64."""
    return np.bincount(target["classes"].reshape(1), minlength=n_classes).astype(np.int64)


def pack(targets: Sequence[Target]) -> dict[str, np.ndarray]:
    """Return a shard's tensors: `{"classes": (n,) uint8}`."""
    return {"classes": np.stack([target["classes"] for target in targets])}


def unpack(shard: Mapping[str, np.ndarray], index: int) -> Target:
    """Return the target of one chip of a shard."""
    return {"classes": np.asarray(shard["classes"][index])}


def orient(target: Target, mirror: bool, quarter_turns: int, size_px: int) -> Target:
    """Return the target: the class of a chip does not depend on where its north is."""
    return target


def window(target: Target, row: int, col: int, side: int, size_px: int, null_id: int, shown: object) -> Target:
    """Return the target: a part of a chip has its class."""
    return target


def paste(target: Target, other: Target, rows: slice, cols: slice) -> None:
    """Return None: a chip has one class, wherever its pixels are from."""


def collate(targets: Sequence[Target]) -> Targets:
    """Return `{"classes": (N,) uint8 tensor}`."""
    import torch

    return {"classes": torch.from_numpy(np.stack([target["classes"] for target in targets]))}


def objective(
    train: LossSettings, outputs: Sequence[str], output_ids: Sequence[int], class_counts: np.ndarray
) -> PartObjective:
    """Return the objective of the train settings; see `rvbuild.tasks.protocol.Task.objective`."""
    from rvbuild.tasks.classification.model import objective as make

    return make(train, outputs, output_ids, class_counts)


def placing(settings: CellInferSettings) -> tuple[int, int]:
    """Return the size and the stride of windows, in pixels."""
    return settings["predict"]["cell_px"], settings["predict"]["cell_px"]


def windows(grid: Grid, aoi: Aoi | None, settings: CellInferSettings) -> list[Window]:
    """Return the cells of the grid whose centre is in the area of interest."""
    from rvbuild.geo.windows import sliding

    cells = sliding(grid.height, grid.width, *placing(settings))
    return [window for window in cells if aoi is None or aoi.contains_centre(window)]


def forward(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Return the probabilities of the outputs, `(N, K)` float32."""
    from rvbuild.tasks.classification.model import forward as compute

    return compute(model, images)


def exported(model: nn.Module, info: ModelInfo) -> Exported:
    """Return the network of the probabilities; see `rvbuild.tasks.protocol.Task.exported`."""
    from rvbuild.tasks.class_objective import WithProbabilities
    from rvbuild.tasks.classification.model import logits

    return Exported(WithProbabilities(model, logits), {}, {})


def averaged(predictions: Oriented, side_px: int) -> np.ndarray:
    """Return the mean of the probabilities, `(N, K)` float32."""
    return mean(np.asarray(prediction) for _, prediction in predictions)


def reduction(settings: CellInferSettings) -> None:
    """Return None: the merger needs all of a prediction."""


def merger(grid: Grid, outputs: Path, settings: CellInferSettings) -> Merger:
    """Return a merger of cells into `cells.json`."""
    from rvbuild.tasks.classification.cells import merger as make

    return make(grid, outputs, settings)


def derive(raw: Mapping[str, Path], settings: CellDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Write the cells as vectors, and as rasters with a pixel for each cell."""
    from rvbuild.tasks.classification.outputs import derive as write

    write(raw, settings, outputs, progress)


def join(parts: Sequence[Mapping[str, Path]], settings: CellDeriveSettings, outputs: Path, progress: Progress) -> None:
    """Write the cells of all parts as one raw result; see `rvbuild.tasks.protocol.Task.join`."""
    from rvbuild.tasks.classification.join import join as write

    write(parts, outputs, progress)


def arrays(raw: Mapping[str, Path], settings: CellDeriveSettings) -> dict[str, np.ndarray]:
    """Return the classes of cells and their scores; see `rvbuild.tasks.protocol.Task.arrays`."""
    from rvbuild.tasks.classification.outputs import arrays as read

    return read(raw, settings)


def scene_grid(predictions: Path) -> Grid:
    """Return the grid of the scene, as `cells.json` describes it."""
    from rvbuild.tasks.classification.cells import read_cells

    return read_cells(predictions).grid


def overlay(predictions: Path, grid: Grid, step: int, classes: ClassList) -> np.ndarray:
    """Return the predicted classes in their colours; see `rvbuild.tasks.protocol.Task.overlay`."""
    from rvbuild.tasks.classification.outputs import overlay as draw

    return draw(predictions, grid, step, classes)


def score(
    predictions: Path,
    source: _Cells,
    aoi: Aoi | None,
    classes: NamedClasses,
    null_id: int,
    progress: Progress,
    settings: EvalSettings,
    worst: WorstPlaces,
    scores: Path | None = None,
) -> CellCounts:
    """Return the confusion matrix and the scores of the labelled cells of a scene as JSON data."""
    from rvbuild.tasks.classification.score import score as count

    return count(predictions, source.cells, aoi, classes, null_id, progress, worst)


def score_histogram(counts: CellCounts, classes: ClassList, null_id: int) -> ScoreHistogram | None:
    """Return the scores of right and of wrong predictions; see `rvbuild.tasks.protocol.Task.score_histogram`."""
    from rvbuild.tasks.classification.score import histogram

    return histogram(counts, classes, null_id)


def panels(
    predictions: Path, source: _Cells, aoi: Aoi | None, classes: ClassList, null_id: int, settings: EvalSettings
) -> Panels:
    """Return a function that draws labels, predictions and errors; see `rvbuild.tasks.protocol.Task.panels`."""
    from rvbuild.tasks.classification.places import panels as make

    return make(predictions, source.cells, classes)


def report(
    counts: Mapping[str, CellCounts], classes: ClassList, null_id: int
) -> tuple[Evaluation[CellSummary], dict[str, str]]:
    """Return the content of `eval.json`, and of the files beside it by name."""
    from rvbuild.tasks.classification.report import report as make

    return make(counts, classes, null_id)


def survey(
    source: _Cells, windows: Sequence[Window] | None, aoi: Aoi | None, step: int, classes: ClassList
) -> tuple[np.ndarray, np.ndarray, Mapping[str, int]]:
    """Return the labels of a scene counted and drawn; see `rvbuild.tasks.protocol.Task.survey`."""
    from rvbuild.tasks.classification.survey import survey as count

    return count(source.cells, windows, aoi, step, classes)


def own_chips(
    relative: Sequence[str], files: Sequence[Path], classes: ClassList, null_id: int
) -> list[tuple[Path, Callable[[tuple[int, int]], Target]]]:
    """Return the chips in a user's files; see `rvbuild.tasks.own_chips.by_class_folder`."""
    from rvbuild.tasks.own_chips import by_class_folder

    return by_class_folder(relative, files, classes, null_id)
