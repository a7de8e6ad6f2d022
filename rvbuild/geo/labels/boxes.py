"""Labels of boxes: the rectangles around objects of a scene, from vector files or from box files in pixels.

The box of a feature is its bounds in the image, to the sub-pixel. Boxes are clipped to the image; those that share
nothing with it are left out. How much of a box a window shows is measured by the area of the whole box, also of what
lies beyond the image.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import shapely
import xxhash
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.geo.classes import NamedClasses
from rvbuild.geo.grid import Grid, crs_name
from rvbuild.geo.labels.vector import class_ids, read_tables
from rvbuild.geo.vector import box_files
from rvbuild.geo.vector.box_images import Listed
from rvbuild.geo.vector.boxes import Boxes, BoxTree, areas, clipped
from rvbuild.geo.vector.files import Features
from rvbuild.geo.vector.records import Origin, features_have
from rvbuild.geo.windows import Window
from rvbuild.settings.labels import AnyVectorSettings, BoxFileSettings

THINNEST_PX = 0.01
"""Boxes with a shorter side are dropped."""


class Seen(NamedTuple):
    """The boxes that overlap a window, in label order."""

    boxes: Boxes
    """(N, 4) float64 in pixels of the window; not clipped to it."""
    classes: NDArray[np.int64]
    """(N,) class ids."""
    share: NDArray[np.float64]
    """(N,) the share of the whole box inside the window: intersection over area of the box."""


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
        (N,) float64: the share of the whole box inside the image.
    images
        Each box file, with its description of the image; none for vector files.
    origins
        (N,) where each box comes from.
    """

    def __init__(
        self,
        boxes: Boxes,
        classes: NDArray[np.int64],
        grid: Grid,
        notes: Sequence[str] = (),
        images: Sequence[tuple[Path, Listed]] = (),
        origins: Sequence[Origin] = (),
    ) -> None:
        self.grid, self.images = grid, tuple(images)
        self.notes: Sequence[str] = tuple(notes)
        kept = _on(boxes, grid)
        self.boxes, self.classes = clipped(boxes[kept], grid.window), classes[kept]
        self.origins = list(itertools.compress(origins, kept))
        self._areas = areas(boxes[kept])
        self.inside = areas(self.boxes) / self._areas
        self._tree = BoxTree(self.boxes)

    def read(self, window: Window) -> Seen:
        """Return the boxes that overlap the window."""
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
        """Do nothing: no file is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_boxes(
    files: Sequence[Path],
    settings_labels: AnyVectorSettings | BoxFileSettings,
    *,
    grid: Grid,
    classes: NamedClasses,
    null_id: int,
) -> BoxLabels:
    """Read the boxes of a scene.

    Parameters
    ----------
    files, grid, classes
        As for `rvbuild.geo.labels.open.open_labels`.
    settings_labels
        The label settings of the project: of kind `vector`; or `coco`, `voc` or `csv` with `class`, `class_map`,
        `unknown`, and `image` or `scene_image`, see `rvbuild.geo.vector.box_files.read_box_file`; `origin_px`, the
        column and row at which the scene begins in the image whose pixels they count, if it is a part of it.
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
        origins = [origin for table in tables for origin in table.origins]
        images: list[tuple[Path, Listed]] = []
    else:
        boxes, ids, notes, images, origins = _from_box_files(files, settings_labels, grid, classes)
    class_ids = np.array(ids, dtype=np.int64)
    known = class_ids != null_id
    return BoxLabels(boxes[known], class_ids[known], grid, notes, images, list(itertools.compress(origins, known)))


def _from_box_files(
    files: Sequence[Path], settings: BoxFileSettings, grid: Grid, classes: NamedClasses
) -> tuple[NDArray[np.float64], list[int], list[str], list[tuple[Path, Listed]], list[Origin]]:
    """Return the boxes (N, 4) of all files that have a class, their class ids, notes, the images in files, origins."""
    parts, ids, notes = [np.empty((0, 4))], [], []
    images: list[tuple[Path, Listed]] = []
    origins: list[Origin] = []
    x, y = settings.get("origin_px", (0, 0))
    for file, path in enumerate(files):
        content = box_files.read_box_file(path, settings)
        of_file = _class_ids(content, settings, classes)
        known = [class_id is not None for class_id in of_file]
        boxes = content.boxes[known] - np.array([x, y, x, y], dtype=np.float64)
        if dropped := [number for number, kept in zip(content.numbers, known, strict=True) if not kept]:
            notes.append(f"{path}: {features_have(dropped, 'box')} no class of the project and was left out")
        notes += _made_for_another_image(content, grid, settings.get("origin_px"))
        notes += _off_the_image(path, boxes, grid, part="origin_px" in settings)
        parts.append(boxes)
        ids += [class_id for class_id in of_file if class_id is not None]
        images += [] if content.image is None else [(path, content.image)]
        every = zip(content.entries, content.given_ids, strict=True)
        places = [Origin(file, place, entry, None, given_id) for place, (entry, given_id) in enumerate(every)]
        origins += itertools.compress(places, known)
    return np.concatenate(parts), ids, notes, images, origins


def _class_ids(content: box_files.FileBoxes, settings: BoxFileSettings, classes: NamedClasses) -> list[int | None]:
    """Return the class id of each box; None for one to drop."""
    mapped = settings.get("class_map") is not None
    pairs = zip(content.labels, content.ids, strict=True)
    named = [id_ if mapped and label is None else label for label, id_ in pairs]
    if settings.get("class") is None and settings.get("unknown", "error") == "error" and None in named:
        place = named.index(None)
        where = f"{content.path}: box {content.numbers[place]} (from 0)"
        if (category := content.ids[place]) is not None:
            problem, mapping = f"has the category {category}, which has no name in `categories`", True
        else:
            missing = {"coco": "`category_id`", "voc": "<name>"}.get(settings["kind"], "`label`")
            problem, mapping = f"has no {missing}", False
        advice = 'Give all boxes one class with `class`, or set `unknown = "drop"` or a class, in `labels`'
        if mapping:
            advice = f'Map it to a class with `class_map = {{ {category} = "…" }}` in `labels`. {advice}'
        raise DataError(f"{where} {problem}, so its class is not known. {advice}")
    # As features with the label for their only attribute, so that all vector labels have one idea of classes.
    features = Features(
        path=content.path,
        geometries=np.empty(0, dtype=object),
        attributes=tuple({"label": label} for label in named),
        numbers=tuple(content.numbers),
        crs=None,
        implied_crs=False,
        passed=(None,) * len(named),
    )
    return class_ids(features, settings, classes)


def _made_for_another_image(content: box_files.FileBoxes, grid: Grid, origin: Sequence[int] | None) -> list[str]:
    """Return a note if a box file declares an image size that differs from that of the scene."""
    if content.image is None or content.image.size is None:
        return []
    width, height = content.image.size
    right, lower = (0, 0) if origin is None else origin
    inside = right + grid.width <= width and lower + grid.height <= height
    if (width, height) == (grid.width, grid.height) or (origin is not None and inside):
        return []
    text = (
        f"{content.path}: its boxes were drawn on an image of {width} x {height} px (width x height), but the image of "
        f"the scene has {grid.width} x {grid.height} px"
    )
    if origin is None and width * grid.height == height * grid.width:
        text += f", {grid.width / width:.4g} times as many in each direction; boxes are not scaled"
    return [f"{text}. Does the file belong to this image, at this resolution?"]


def _off_the_image(path: Path, boxes: Boxes, grid: Grid, *, part: bool) -> list[str]:
    """Return a note if boxes lie outside the scene; for a part of an image, only if all do."""
    off = ~_on(boxes, grid)
    if not off.any() or (part and not off.all()):
        return []
    low, high = boxes[off].min(axis=0), boxes[off].max(axis=0)
    there = (
        f"which has columns 0 to {grid.width} and rows 0 to {grid.height}; they have columns {low[0]:.10g} to "
        f"{high[2]:.10g} and rows {low[1]:.10g} to {high[3]:.10g}"
    )
    if not off.all():
        return [f"{path}: {int(off.sum())} of {len(boxes)} boxes lie outside the image, {there}. They are left out"]
    text = f"{path}: no box lies on the image, {there}. "
    corners = boxes.astype(np.float64).reshape(-1, 2, 2)
    x, y = grid.to_pixel(corners[..., 0].reshape(-1), corners[..., 1].reshape(-1))
    placed = np.stack([x, y], axis=1).reshape(-1, 2, 2)
    if _on(np.concatenate([placed.min(axis=1), placed.max(axis=1)], axis=1), grid).any():
        return [
            f"{text}They seem to be map coordinates in {crs_name(grid.crs)}: save them as polygons in a vector file "
            "(`vector = …`), or in pixels"
        ]
    return [f"{text}Does the file belong to this scene, and are its coordinates in pixels?"]


def _on(boxes: Boxes, grid: Grid) -> NDArray[np.bool_]:
    """Tell of each box whether it shares some area with the scene."""
    inside = clipped(boxes, grid.window)
    sides: Boxes = inside[:, 2:] - inside[:, :2]
    return np.asarray((sides >= THINNEST_PX).all(axis=1), dtype=np.bool_)
