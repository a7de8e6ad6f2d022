"""Data sets for simulations of labelling: windows whose labels are revealed one after the other, and unseen scenes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import rvbuild
from benchmarks.command import ENVIRONMENT
from benchmarks.command import rvbuild as command
from rvbuild.data.samples import make_potsdam
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.learn.encoders.encoder import Features
from rvbuild.learn.linear.head import Head, rounded
from rvbuild.learn.linear.moments import moments
from rvbuild.learn.linear.solve import Unlabelled, solve
from rvbuild.review.suggest.measure import Measured, expectations
from rvbuild.review.suggest.space import means
from rvbuild.rules import common
from rvbuild.stages.draft.cells import SceneFeatures
from rvbuild.stages.draft.sample import MOST
from rvbuild.stages.draft.stored import fold_of

ROOT = Path(__file__).parent.parent

FOLDS = 5

ENCODER = '\n[draft]\nencoder = "mobilenet_v2"\nweights = "data/encoders/mobilenet_v2.safetensors"\n'

Integers = npt.NDArray[np.int64]


class DataSet(NamedTuple):
    """An example project."""

    name: str
    project: str
    judged: tuple[int, ...]
    """The ids of the classes whose IoU counts."""


CROWNS = DataSet("Yellowstone crowns", "yellowstone_crowns", (0,))
ATLANTA = DataSet("Atlanta buildings", "atlanta_buildings", (0,))
POTSDAM = DataSet("Potsdam, invented", "potsdam", tuple(range(6)))


class Pool(NamedTuple):
    """The windows of the training scenes, and the cells of the validation scenes."""

    judged: tuple[int, ...]
    sums: Integers
    """(windows, K, size(F)): what labels reveal."""
    folds: Integers
    """(windows,)."""
    features: Features
    """(windows, cells of a window, F): of its cells with data inside the area; others are 0."""
    pixels: Integers
    """(windows, cells of a window): those with data inside the area."""
    means: Integers
    """(windows, F), see `rvbuild.review.suggest.space.means`."""
    unseen: Features
    """(cells, F)."""
    truth: Integers
    """(cells, K): pixels of each class."""
    cell_pixels: int

    def solved(self, chosen: Sequence[int]) -> tuple[Head, Integers]:
        """Return the model of the labels of some windows, and their pixels of each class (K,)."""
        totals = np.zeros((FOLDS, *self.sums.shape[1:]), dtype=np.int64)
        for window in chosen:
            totals[self.folds[window]] += self.sums[window]
        classes = tuple(range(self.sums.shape[1]))
        head = rounded(solve(totals, self.unseen.shape[1], self.cell_pixels, self.unlabelled(chosen)), classes)
        return head, totals[:, :, 0].sum(axis=0)

    def unlabelled(self, chosen: Sequence[int]) -> Unlabelled | None:
        """Return a sample of the cells of the other windows; None if there are none."""
        windows, cells = self.pixels.shape
        every = windows * cells
        numbers = np.random.default_rng(0).permutation(every)[:MOST]
        pixels = self.pixels.ravel()[numbers] * ~np.isin(numbers // cells, list(chosen))
        some = np.flatnonzero(pixels)
        features = self.features.reshape(every, -1)[numbers[some]]
        return Unlabelled(features, pixels[some] * (every / len(numbers))) if len(some) else None

    def quality(self, head: Head) -> float:
        """Return the mean IoU of the judged classes in the validation scenes, cell by cell."""
        decided = (head.scores(self.unseen) + (head.offsets * head.unit).astype(np.float32)).argmax(axis=1)
        confusion = np.zeros((self.truth.shape[1],) * 2)
        for place, class_id in enumerate(head.class_ids):
            confusion[:, class_id] = self.truth[decided == place].sum(axis=0)
        hits = np.diagonal(confusion)
        union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
        return float(np.mean([hits[k] / union[k] for k in self.judged]))

    def measured(self, chosen: Sequence[int], head: Head | None) -> Measured:
        """Return what is known of some windows before they are labelled."""
        windows = list(chosen)
        pixels = self.pixels[windows]
        return Measured(pixels.sum(axis=1), self.means[windows], *expectations(self.features[windows], pixels, head))


def load(data: DataSet, folder: Path, window_px: int) -> Pool:
    """Make the features of a data set in the directory `folder`, and return its windows."""
    path = folder / "projects" / f"{data.project}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (folder / "data").exists():
        (folder / "data").symlink_to(ROOT / "data")
    text = (ROOT / "projects" / path.name).read_text()
    path.write_text(text if "[draft]" in text else text + ENCODER)
    if data is POTSDAM and not (folder / "potsdam").exists():
        make_potsdam(folder / "potsdam", size_px=600)
    os.environ["POTSDAM"] = ENVIRONMENT["POTSDAM"] = str(folder / "potsdam")
    command("draft", f"projects/{path.name}", "-q", cwd=folder)
    project = rvbuild.open(path)
    classes = [each.id for each in project.classes if each.name != "null"]
    windows: list[tuple[int, Features, Integers]] = []
    unseen: list[tuple[Features, Integers]] = []
    for name, scene in project.scenes.items():
        files = sorted((folder / "cache" / data.project / "features" / scene._scene.base).iterdir())
        features = SceneFeatures(files)
        cells = features.cells
        maps, counts = _maps(features), _counts(features, scene, project._loaded, classes)
        if scene.split == "train":
            side = window_px // cells.stride_px
            windows += [
                (fold_of(row // side, col // side, len(name), FOLDS), *(each[row : row + side, col : col + side]
                 .reshape(side * side, -1) for each in (maps, counts)))
                for row in range(0, maps.shape[0] - side + 1, side)
                for col in range(0, maps.shape[1] - side + 1, side)
            ]  # fmt: skip
        else:
            unseen.append((maps.reshape(-1, maps.shape[2]), counts.reshape(-1, len(classes))))
    shutil.rmtree(folder / "cache" / data.project)
    windows = [each for each in windows if each[2].sum() >= window_px**2 / 2]
    sums = [[moments(each[1], each[2][:, k]) for k in range(len(classes))] for each in windows]
    labelled = [counts.any(axis=1) for _, counts in unseen]
    return Pool(
        data.judged,
        np.array(sums),
        np.array([fold for fold, _, _ in windows]),
        np.stack([features for _, features, _ in windows]),
        np.stack([counts.sum(axis=1) for _, _, counts in windows]),
        np.concatenate(
            [means(features[np.newaxis], counts.sum(axis=1)[np.newaxis]) for _, features, counts in windows]
        ),
        np.concatenate([maps[some] for (maps, _), some in zip(unseen, labelled, strict=True)]),
        np.concatenate([counts[some] for (_, counts), some in zip(unseen, labelled, strict=True)]),
        cells.stride_px**2,
    )


def _maps(features: SceneFeatures) -> Features:
    """Return the features (rows, cols, F) of the cells of a scene."""
    cells = features.cells
    rows = [
        np.concatenate(
            [features.block(row, col).reshape(cells.side, cells.side, -1) for col in range(cells.cols)], axis=1
        )
        for row in range(cells.rows)
    ]
    return np.concatenate(rows)


def _counts(features: SceneFeatures, scene: rvbuild.Scene, project: common.Project, classes: Sequence[int]) -> Integers:
    """Return the labelled pixels (rows, cols, K) of each class in the cells of a scene, inside its area."""
    cells, whole = features.cells, features.grid.window
    found = scene.labels()
    assert found is not None
    labels = found["labels"]
    files = [common.resolve(project, path) for path in scene._scene.aoi]
    area = open_aoi([Path(str(path)) for path in files], features.grid)
    valid = features.valid(whole)
    for mask in (None if area is None else area.mask(whole), valid):
        labels = labels if mask is None else np.where(mask, labels, np.uint8(255))
    stride = cells.stride_px
    shape = (cells.rows * cells.side, cells.cols * cells.side)
    padded = np.full((shape[0] * stride, shape[1] * stride), 255, dtype=np.uint8)
    padded[: cells.height, : cells.width] = labels
    split = padded.reshape(shape[0], stride, shape[1], stride)
    return np.stack([(split == k).sum(axis=(1, 3), dtype=np.int64) for k in classes], axis=-1)
