"""Labels of cells: one class for a window of a scene, from a label raster or polygons.

A cell is judged by its part inside the scene. Three rules, the `rule` of the labels:

* A raster: the class that most of the cell's labelled pixels have.
* "area", for vectors: the class that covers most of the cell; areas of one class count once where they overlap. With a
  background, what no feature covers is background and competes.
* "ioa", for vectors: of the features whose intersection with the cell is at least `ioa_thresh` of the area that
  `ioa_over` names, the class of the one with the largest share, or the smallest class id (`pick`). Features below the
  threshold have no say. Without one that reaches it, the cell is background.

Of classes that are equal, the one of the lowest id is taken. Without a background, a cell of which nothing is known has
the null class: it is unlabelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.geo.classes import NamedClasses, id_of
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.open import LabelSource, open_labels
from rvbuild.geo.labels.vector import read_areas, read_tables
from rvbuild.geo.vector.digest import digest_areas
from rvbuild.geo.windows import Window, sliding
from rvbuild.settings.labels import CellLabelSettings, CellSettings

MATCH_IOU = 0.5
"""A polygon means the cell of the grid with which it shares more than this, intersection over union: at most one."""

_SAME = 1e-9
"""Shares of a cell that differ by less are equal: the noise of summing areas."""


class CellLabels(Protocol):
    """The classes of cells of a scene; a context manager. Not thread-safe: open one for each thread."""

    grid: Grid
    notes: Sequence[str]
    """Repairs and omissions when the labels were read, a line each, for users."""

    def classify(self, window: Window) -> int:
        """Return the class id of a window as a chip: of the cell that is this window, or by the rule."""

    def cell(self, window: Window) -> int:
        """Return the class id of a cell of the grid, which may overhang the scene."""

    def digest(self, window: Window) -> str | None:
        """Return a digest of the labels in and around a window: equal digests mean equal classes; None if unknown."""

    def close(self) -> None:
        """Close all files."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def open_cells(
    files: Sequence[Path], settings_labels: CellLabelSettings, *, grid: Grid, classes: NamedClasses, null_id: int
) -> CellLabels:
    """Open the labels of a scene as classes of cells.

    Parameters
    ----------
    files, grid, classes, null_id
        As for `rvbuild.geo.labels.open.open_labels`.
    settings_labels
        The same settings, with `cells`.

    Raises
    ------
    DataError
        The files do not fit the image or the classes.
    """
    if settings_labels["kind"] == "raster":
        pixels = open_labels(files, settings_labels, grid=grid, classes=classes, null_id=null_id)
        return RasterCells(pixels, len(classes), null_id)
    tables = read_tables(files, settings_labels, grid, classes)
    shapes = [shape for table in tables for shape in table.shapes]
    ids = [class_id for table in tables for class_id in table.class_ids]
    background = settings_labels.get("background")
    otherwise = null_id if background is None else id_of(classes, background, "labels.background")
    kind = PolygonCells if settings_labels["cells"]["cells"] == "polygons" else VectorCells
    cells = kind(shapes, ids, settings_labels["cells"], grid, null_id, otherwise)
    cells.notes = tuple(note for table in tables for note in table.notes)
    return cells


def cell_windows(
    files: Sequence[Path],
    settings_labels: CellLabelSettings,
    *,
    grid: Grid,
    classes: NamedClasses,
    stride_px: int | Sequence[int],
) -> list[Window]:
    """Return the cells of a scene that may become chips.

    Parameters
    ----------
    files, settings_labels, grid, classes
        As for `open_cells`.
    stride_px
        Distance of the cells of a grid.

    Returns
    -------
    list of Window
        The cells of the grid in row-major order; or with `cells = "polygons"` the bounds of each polygon that shares
        something with the scene, to whole pixels, in file order, each once.
    """
    if settings_labels["kind"] == "vector" and settings_labels["cells"]["cells"] == "polygons":
        shapes, _ = read_areas(files, settings_labels, grid, classes)
        inside = [box for box in map(_bounds, shapes) if _share(box, grid)]
        return list(dict.fromkeys(inside))
    return sliding(grid.height, grid.width, settings_labels["cells"]["cell_px"], stride_px)


class RasterCells:
    """Cells by the class of most of their labelled pixels."""

    notes: Sequence[str] = ()

    def __init__(self, pixels: LabelSource, classes: int, null_id: int) -> None:
        self.grid = pixels.grid
        self._pixels, self._classes, self._null_id = pixels, classes, null_id

    def classify(self, window: Window) -> int:
        """Return the class id of a window."""
        part = window.clip(self.grid.height, self.grid.width)
        if not (part.height and part.width):
            return self._null_id
        counts = np.bincount(self._pixels.read(part).ravel(), minlength=self._classes)
        counts[self._null_id] = 0
        return int(counts.argmax()) if counts.any() else self._null_id

    def cell(self, window: Window) -> int:
        """Return the class id of a cell of the grid."""
        return self.classify(window)

    def digest(self, window: Window) -> str | None:
        """Return the digest of the pixels, if they have one."""
        return self._pixels.digest(window)

    def close(self) -> None:
        """Close all files."""
        self._pixels.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class VectorCells:
    """Cells by the features in them.

    Parameters
    ----------
    shapes, ids
        Areas in pixel coordinates, and their class ids.
    cells
        The rule, see `open_cells`.
    grid
        Of the scene.
    null_id, otherwise
        The null class, and the class of cells without a feature: the background, or null if there is none.
    """

    notes: Sequence[str] = ()

    def __init__(
        self,
        shapes: Sequence[Any],
        ids: Sequence[int],
        cells: CellSettings,
        grid: Grid,
        null_id: int,
        otherwise: int,
    ) -> None:
        self.grid = grid
        self._shapes = np.empty(len(shapes), dtype=object)
        self._shapes[:] = list(shapes)
        self._ids = np.array(ids, dtype=np.int64)
        self._cells, self._null_id, self._otherwise = cells, null_id, otherwise
        self._tree = shapely.STRtree(self._shapes)

    def classify(self, window: Window) -> int:
        """Return the class id of a window."""
        part = window.clip(self.grid.height, self.grid.width)
        if not (part.height and part.width):
            return self._null_id
        box = shapely.box(part.col, part.row, part.col_stop, part.row_stop)
        indices = np.sort(self._tree.query(box))
        pieces = shapely.intersection(self._shapes[indices], box)
        solid = shapely.area(pieces) > 0
        indices, pieces = indices[solid], pieces[solid]
        if not len(indices):
            return self._otherwise
        area = part.height * part.width
        if self._cells["rule"] == "ioa":
            return self._by_share(indices, shapely.area(pieces), area)
        return self._by_area(self._ids[indices], pieces, area)

    def cell(self, window: Window) -> int:
        """Return the class id of a cell of the grid."""
        return self.classify(window)

    def digest(self, window: Window) -> str:
        """Return a digest of the features in and around a window: equal ones, equal classes of cells."""
        return digest_areas(self._tree, self._ids[:, None], window)

    def close(self) -> None:
        """Do nothing: no file is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _by_area(self, ids: NDArray[np.int64], pieces: NDArray[np.object_], area: float) -> int:
        """Return the class that covers most of a cell."""
        covered = {int(k): _union_area(pieces[ids == k]) / area for k in np.unique(ids)}
        if self._otherwise != self._null_id:
            free = max(0.0, 1.0 - _union_area(pieces) / area)
            covered[self._otherwise] = covered.get(self._otherwise, 0.0) + free
        # Features of the null class mark unknown areas.
        covered.pop(self._null_id, None)
        return _largest(covered) if covered else self._null_id

    def _by_share(self, indices: NDArray[np.intp], shared: NDArray[np.float64], area: float) -> int:
        """Return the class of the features that cover enough of the cell."""
        wholes = {
            "cell": np.full(len(indices), float(area)),
            "polygon": shapely.area(self._shapes[indices]),
        }
        over = self._cells["ioa_over"]
        whole = np.minimum(wholes["cell"], wholes["polygon"]) if over == "smaller" else wholes[over]
        share = shared / whole
        enough = share >= self._cells["ioa_thresh"] - _SAME
        known = enough & (self._ids[indices] != self._null_id)
        if enough.any() and not known.any():
            # Features of the null class mark unknown areas.
            return self._null_id
        enough = known
        if not enough.any():
            return self._otherwise
        ids = self._ids[indices][enough]
        if self._cells["pick"] == "min_id":
            return int(ids.min())
        return _largest({int(k): float(share[enough][ids == k].max()) for k in np.unique(ids)})


class PolygonCells(VectorCells):
    """Cells that are the bounds of polygons, each with the class of its polygon; a later polygon replaces an earlier.

    Windows that are not such cells, for example random chips, are classified by the rule.
    """

    def __init__(
        self,
        shapes: Sequence[Any],
        ids: Sequence[int],
        cells: CellSettings,
        grid: Grid,
        null_id: int,
        otherwise: int,
    ) -> None:
        super().__init__(shapes, ids, cells, grid, null_id, otherwise)
        self._own = {_bounds(shape): class_id for shape, class_id in zip(shapes, ids, strict=True)}
        self._boxes = shapely.box(*shapely.bounds(self._shapes).T) if len(shapes) else self._shapes
        self._box_tree = shapely.STRtree(self._boxes)

    def classify(self, window: Window) -> int:
        """Return the class id of a window."""
        return self._own[window] if window in self._own else super().classify(window)

    def cell(self, window: Window) -> int:
        """Return the class of the polygon whose bounds are this cell of the grid, null if there is none.

        They are the same if they share more than half of what both cover; at the edge of the scene the cell's part
        inside may be meant as well as all of it.
        """
        part = window.clip(self.grid.height, self.grid.width)
        best, class_id = MATCH_IOU, self._null_id
        for place in (window, part):
            box = shapely.box(place.col, place.row, place.col_stop, place.row_stop)
            for index in np.sort(self._box_tree.query(box)):
                shared = shapely.intersection(self._boxes[index], box).area
                iou = shared / (self._boxes[index].area + box.area - shared)
                if iou > best or (iou == best and class_id != self._null_id):
                    best, class_id = iou, int(self._ids[index])
        return class_id


def _bounds(shape: Any) -> Window:
    """Return the bounds of a shape to whole pixels, at least one each way."""
    x0, y0, x1, y1 = (round(float(value)) for value in shape.bounds)
    return Window(y0, x0, max(1, y1 - y0), max(1, x1 - x0))


def _share(window: Window, grid: Grid) -> bool:
    part = window.clip(grid.height, grid.width)
    return bool(part.height and part.width)


def _union_area(pieces: NDArray[np.object_]) -> float:
    return float(pieces[0].area if len(pieces) == 1 else shapely.union_all(pieces).area)


def _largest(shares: Mapping[int, float]) -> int:
    """Return the class with the largest share, the lowest id of equals."""
    most = max(shares.values())
    return min(class_id for class_id, share in shares.items() if share >= most - _SAME)
