"""Labels of boxes: the rectangles around objects of a scene, from vector files or from box files in pixels.

The box of a feature is its bounds in the image, to the sub-pixel. Boxes are clipped to the image; those that share
nothing with it are left out. How much of a box a window shows is measured by the area of the whole box, also of what
lies beyond the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import shapely
import xxhash
from numpy.typing import NDArray

from rvbuild.geo import box_files
from rvbuild.geo.boxes import Boxes, BoxTree, areas, clipped
from rvbuild.geo.classes import Classes
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels_vector import class_ids, read_tables
from rvbuild.geo.vectors import Features
from rvbuild.geo.windows import Window

THINNEST_PX = 0.01
"""A box with a shorter side shows nothing: it is left out."""


class Seen(NamedTuple):
    """The boxes that a window shows a part of, in label order."""

    boxes: Boxes
    """(N, 4) float64 in pixels of the window; not clipped to it."""
    classes: NDArray[np.int64]
    """(N,) class ids."""
    share: NDArray[np.float64]
    """(N,) how much of the whole box the window shows: intersection over area of the box."""


class BoxLabels:
    """The boxes of a scene; a context manager.

    Attributes
    ----------
    grid
        The pixels of the scene.
    boxes
        (N, 4) float64 x0, y0, x1, y1 in pixels of the scene, clipped to it.
    classes
        (N,) int64 class ids.
    inside
        (N,) float64: how much of the whole box lies in the image.
    """

    def __init__(self, boxes: Boxes, classes: NDArray[np.int64], grid: Grid, notes: Sequence[str] = ()) -> None:
        self.grid = grid
        self.notes: Sequence[str] = tuple(notes)
        inside = clipped(boxes, grid.window)
        kept = (inside[:, 2:] - inside[:, :2] >= THINNEST_PX).all(axis=1)
        self.boxes, self.classes = inside[kept], classes[kept]
        self._areas = areas(boxes[kept])
        self.inside = areas(self.boxes) / self._areas
        self._tree = BoxTree(self.boxes)

    def read(self, window: Window) -> Seen:
        """Return the boxes of which the window shows a part."""
        near = self._tree.touching(window)
        part = clipped(self.boxes[near], window)
        solid = (part[:, 2:] - part[:, :2] >= THINNEST_PX).all(axis=1)
        near, part = near[solid], part[solid]
        origin = np.array([window.col, window.row] * 2, dtype=np.float64)
        return Seen(self.boxes[near] - origin, self.classes[near], areas(part) / self._areas[near])

    def digest(self, window: Window) -> str:
        """Return a digest of the boxes that touch a window, exactly and in label order: equal ones, equal `read`."""
        near = self._tree.touching(window)
        state = xxhash.xxh3_128(self.boxes[near].tobytes())
        state.update(self.classes[near].tobytes())
        state.update(self._areas[near].tobytes())
        return str(state.hexdigest())

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_boxes(
    files: Sequence[Path], settings_labels: Mapping[str, Any], *, grid: Grid, classes: Classes, null_id: int
) -> BoxLabels:
    """Read the boxes of a scene.

    Parameters
    ----------
    files, grid, classes
        As for `rvbuild.geo.labels.open_labels`.
    settings_labels
        The labels slice of the project: of kind `vector`; or `coco`, `voc` or `csv` with `class`, `class_map`,
        `unknown`, and `image` or `scene_image`, see `rvbuild.geo.box_files.read_box_file`; `origin_px`, the column
        and row at which the scene begins in the image whose pixels they count, if it is a part of it.
    null_id
        Boxes of the null class are left out.

    Raises
    ------
    DataError
        The files do not fit the image or the classes.
    """
    if settings_labels["kind"] == "vector":
        tables = read_tables(files, settings_labels, grid, classes)
        shapes = np.array([shape for table in tables for shape in table.shapes], dtype=object)
        boxes = shapely.bounds(shapes).reshape(-1, 4)
        ids = [class_id for table in tables for class_id in table.class_ids]
        notes = [note for table in tables for note in table.notes]
    else:
        boxes, ids = _from_box_files(files, settings_labels, classes)
        notes = []
    found = np.array(ids, dtype=np.int64)
    known = found != null_id
    return BoxLabels(boxes[known], found[known], grid, notes)


def _from_box_files(
    files: Sequence[Path], settings: Mapping[str, Any], classes: Classes
) -> tuple[NDArray[np.float64], list[int]]:
    """Return the boxes (N, 4) of all files that have a class, and their class ids."""
    parts, ids = [np.empty((0, 4))], []
    for path in files:
        found = box_files.read_box_file(path, settings)
        # As features with the label for their only attribute, so that all vector labels have one idea of classes.
        features = Features(
            path=path,
            geometries=np.empty(0, dtype=object),
            attributes=tuple({"label": label} for label in found.labels),
            numbers=tuple(found.numbers),
            crs=None,
            implied_crs=False,
            passed=(None,) * len(found.labels),
        )
        of_file = class_ids(features, {**settings, "class_attribute": "label"}, classes)
        known = [class_id is not None for class_id in of_file]
        parts.append(found.boxes[known])
        ids += [class_id for class_id in of_file if class_id is not None]
    x, y = settings.get("origin_px", (0, 0))
    return np.concatenate(parts) - np.array([x, y, x, y], dtype=np.float64), ids
