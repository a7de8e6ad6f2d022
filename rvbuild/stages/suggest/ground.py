"""The ground of suggestions: which pixels of an image have no label yet, and may get one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rvbuild import tasks
from rvbuild.geo.area.aoi import Aoi, open_aoi
from rvbuild.geo.classes import NODATA
from rvbuild.geo.windows import Window
from rvbuild.stages.draft.cells import SceneFeatures
from rvbuild.stages.suggest.settings import AreaOfScene, GroundSettings, SuggestSettings
from rvbuild.tasks.protocol import PixelLabels

Bools = npt.NDArray[np.bool_]


class Pixels(NamedTuple):
    """Pixels of a window, (H, W) each."""

    labelled: Bools
    """Those with a label to learn from."""
    free: Bools
    """Those without a label that may get one."""


class Ground:
    """The pixels of an image; a context manager.

    Parameters
    ----------
    inputs
        Those of the stage.
    settings
        Those of the stage.
    ground
        The image.
    features
        Its features.
    whole
        Whether it is known that all of its pixels have a label to learn from.
    """

    def __init__(
        self,
        inputs: Mapping[str, Sequence[Path]],
        settings: SuggestSettings,
        ground: GroundSettings,
        features: SceneFeatures,
        whole: bool,
    ) -> None:
        self._inputs, self._settings, self._ground, self._features = inputs, settings, ground, features
        self._whole = whole
        self._without = (NODATA,) if settings["background"] else (NODATA, settings["null_id"])
        self._training: list[tuple[PixelLabels, Aoi | None]] = []
        self._files = ExitStack()

    def __enter__(self) -> Ground:
        """Open the labels and areas."""
        if self._whole:
            return self
        self._evaluated = [self._area(scene) for scene in self._ground["evaluated"]]
        self._unlabelled = [self._area(scene) for scene in self._ground["unlabelled"]]
        task, null_id = tasks.get(self._settings["task"]), self._settings["null_id"]
        for scene in self._ground["training"]:
            files = self._inputs[f"labels/{scene['scene']}"]
            labels = task.pixel_labels(files, scene["labels"], self._features.grid, scene["classes"], null_id)
            self._training.append((self._files.enter_context(closing(labels)), self._area(scene)))
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the labels."""
        self._files.close()

    def read(self, window: Window) -> Pixels:
        """Return the pixels of a window inside the scene."""
        shape = (window.height, window.width)
        if self._whole:
            return Pixels(np.ones(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_))
        labelled = np.zeros(shape, dtype=np.bool_)
        for labels, area in self._training:
            labelled |= _inside(area, window) & ~np.isin(labels.read(window), list(self._without))
        free = np.full(shape, bool(self._training))
        for area in self._unlabelled:
            free |= _inside(area, window)
        for area in self._evaluated:
            free &= ~_inside(area, window)
        valid = self._features.valid(window)
        if valid is not None:
            labelled, free = labelled & valid, free & valid
        return Pixels(labelled, free & ~labelled)

    def _area(self, scene: AreaOfScene) -> Aoi | None:
        files = self._inputs.get(f"aoi/{scene['scene']}", ())
        return open_aoi(files, self._features.grid, scene.get("area"))


def _inside(area: Aoi | None, window: Window) -> Bools:
    """Return which pixels of a window lie in an area."""
    if area is None or area.contains(window):
        return np.ones((window.height, window.width), dtype=np.bool_)
    return area.mask(window)


def in_cells(pixels: Bools, stride_px: int, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return how many pixels (h, w) are set in each of the cells (rows, cols) of `shape`, which may reach further."""
    down, right = (cells * stride_px - length for cells, length in zip(shape, pixels.shape, strict=True))
    padded = np.pad(pixels, ((0, down), (0, right)))
    counts: npt.NDArray[np.int64] = padded.reshape(shape[0], stride_px, shape[1], stride_px).sum(
        axis=(1, 3), dtype=np.int64
    )
    return counts
