"""Maps of scenes by linear models that have not seen the labels of the place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.windows import Window
from rvbuild.learn.linear.head import Head, rounded
from rvbuild.learn.linear.solve import solve
from rvbuild.progress import Progress
from rvbuild.review.finding.maps import LARGEST, ScoreMap, Strip, log_odds, make_map
from rvbuild.settings.classes import ClassName
from rvbuild.stages.draft.cells import SceneFeatures
from rvbuild.stages.draft.sample import read_unlabelled
from rvbuild.stages.draft.stored import Description, fold_of, read_totals, require_alike
from rvbuild.tasks.pixel_scores import ScoresOf, open_scores
from rvbuild.tasks.protocol import PixelLabels


class Models(NamedTuple):
    """Models of all scenes that leave out one part of their blocks."""

    without: Sequence[Head]
    """By fold."""
    first_folds: Mapping[str, int]
    """Scene → fold of its first block."""

    def of_block(self, scene: str, row: int, col: int) -> Head:
        """Return a model that has not seen the labels of a block."""
        return self.without[fold_of(row, col, self.first_folds[scene], len(self.without))]

    def known(self) -> frozenset[int]:
        """Return the ids of the classes that every model has learned: others are judged nowhere."""
        return frozenset.intersection(*(frozenset(head.class_ids) for head in self.without))


def read_models(
    sums: Mapping[str, Sequence[Path]], classes: Sequence[ClassName], null_id: int, background: bool
) -> Models:
    """Solve the models from the sums of scenes.

    Raises
    ------
    DataError
        No scene has a label, or scenes have different bands.
    """
    described: dict[str, Description] = {}
    total: npt.NDArray[np.int64] | None = None
    for scene in sorted(sums):
        described[scene], of_scene = read_totals(sums[scene])
        total = of_scene if total is None else total + of_scene
    if total is None or not total[:, :, 0].any():
        raise DataError("no pixel of a scene has a label: there is nothing to compare labels with")
    require_alike(described)
    ids = tuple(int(c["id"]) for c in classes if background or c["id"] != null_id)
    content = next(iter(described.values()))
    features, cell_pixels = len(content["features"]), content["cells"]["stride_px"] ** 2
    total, unlabelled = total[:, list(ids)], read_unlabelled(sums)

    def head(sums_of_folds: npt.NDArray[np.int64]) -> Head:
        return rounded(solve(sums_of_folds, features, cell_pixels, unlabelled), ids)

    without = list[Head]()
    for fold in range(len(total)):
        rest = total.copy()
        rest[fold] = 0
        # With all labels in one fold, nothing is left to learn from; then no block has seen itself left out.
        without.append(head(rest if rest[:, :, 0].any() else total))
    return Models(without, {scene: content["first_fold"] for scene, content in described.items()})


def map_of(
    scene: str,
    features: SceneFeatures,
    models: Models,
    labels: PixelLabels,
    aoi: Aoi | None,
    classes: Sequence[ClassName],
    folder: Path,
    trained: Path | None,
    progress: Progress,
) -> ScoreMap:
    """Return the map of a scene, memory-mapped in a folder, a row of blocks after the other.

    `trained` is the file of the scores of a trained model that has not seen the scene, if they count: as much as the
    others, where there are some.
    """
    cells, count = features.cells, len(classes)
    stride, side = cells.stride_px, cells.side
    rows, cols = -(-cells.height // stride), -(-cells.width // stride)
    trained_scores = None if trained is None else open_scores(trained, classes)

    def strip(row: int) -> Strip:
        odds = np.concatenate(
            [
                log_odds(models.of_block(scene, row, col), block, count).T.reshape(count, side, side)
                for col, block in enumerate(features.row(row))
            ],
            axis=2,
        )[:, : rows - row * side, :cols]
        window = Window(row * cells.block_px, 0, cells.block_px, cells.width).clip(cells.height, cells.width)
        if trained_scores is not None:
            others = _trained(trained_scores, window, stride, count)
            odds = np.where(np.isfinite(others), (odds + others) / 2, odds).astype(np.float32)
        ids = labels.read(window)
        counts = np.ones(ids.shape, dtype=np.bool_) if aoi is None else aoi.mask(window)
        valid = features.valid(window)
        if valid is not None:
            counts = counts & valid
        labelled = np.stack([_shares(ids == class_id, stride) for class_id in range(count)])
        progress.advance()
        return Strip(odds, labelled, _shares(counts, stride))

    return make_map(folder, (count, rows, cols), stride, range(0, rows, side), strip)


def _trained(scores: ScoresOf, window: Window, stride: int, classes: int) -> npt.NDArray[np.float32]:
    """Return the log-odds (K, rows, cols) of cells by the scores of a prediction; nan where it has none."""
    rows, cols = -(-window.height // stride), -(-window.width // stride)
    odds = np.full((classes, rows, cols), np.nan, dtype=np.float32)
    for class_id, values in scores(window).items():
        known = _means(np.isfinite(values), stride)
        share = np.clip(_means(np.nan_to_num(values), stride) / np.maximum(known, 1e-9), 1e-6, 1 - 1e-6)
        value = np.clip(np.log(share) - np.log1p(-share), -LARGEST, LARGEST)
        odds[class_id] = np.where(known > 0.5, value, np.nan)
    return odds


def _means(pixels: npt.NDArray[np.generic], stride: int) -> npt.NDArray[np.float64]:
    """Return the mean of each cell (rows, cols); pixels beyond the scene count as 0."""
    down, right = (-length % stride for length in pixels.shape)
    padded = np.pad(pixels.astype(np.float64), ((0, down), (0, right)))
    rows, cols = padded.shape[0] // stride, padded.shape[1] // stride
    means: npt.NDArray[np.float64] = padded.reshape(rows, stride, cols, stride).mean(axis=(1, 3))
    return means


def _shares(pixels: npt.NDArray[np.bool_], stride: int) -> npt.NDArray[np.uint8]:
    """Return the share of each cell (rows, cols) whose pixels (h, w) are set, 0 to 255."""
    return np.asarray(np.rint(_means(pixels, stride) * 255).astype(np.uint8))
