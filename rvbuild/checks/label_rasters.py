"""Problems of label rasters: values without a class, nodata that is a class, and their extent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rvbuild.checks.findings import Level
from rvbuild.checks.project import SAMPLED
from rvbuild.errors import LabelValueError
from rvbuild.files.address import is_url
from rvbuild.geo.classes import Classes
from rvbuild.geo.grid import Grid, reproject
from rvbuild.geo.labels.raster import RasterLabels
from rvbuild.geo.raster.file import read_overview
from rvbuild.geo.raster.tags import scattered
from rvbuild.geo.windows import Window
from rvbuild.settings.labels import ReadRasterSettings

SAMPLES, SAMPLES_REMOTE, SAMPLE_PX = 64, 16, 64
"""Number of windows that are read from a local raster and from a remote one, spread over its extent, and their side."""

ALL_PX = 1 << 20
"""Rasters with at most this many pixels are read completely; the same limit applies to overviews."""

SUSPECTS = 4
"""Number of windows that are read where an overview holds a value without a class, which may come from resampling."""

LEAST_COVERED = 0.95
"""Minimum share of the image that labels on another grid must cover, to avoid a warning."""

Problem = tuple[Level, str, str]
"""Level, kind and text."""


def problems(
    files: Sequence[Path], settings: ReadRasterSettings, grid: Grid, classes: Classes, null_id: int
) -> Iterator[Problem]:
    """Yield the problems of label rasters; arguments as for `rvbuild.geo.labels.open.open_labels`."""
    with RasterLabels(files, settings, grid, classes, null_id) as labels:
        if labels.voided is not None:
            value, name = labels.voided
            yield (
                Level.WARNING,
                "nodata is a class",
                f"{files[0]}: its nodata value, {value}, is also the value of class {name}. These pixels count as "
                f"unlabelled, so the model does not learn {name} from them. If they are {name}, set `nodata = []` in "
                f"`labels`; if they are not, set `nodata = {value}`",
            )
        yield from _values(labels, files, grid)
        if settings.get("resample") == "nearest":
            yield from _extent(files, labels.source_grid, grid)


def counts(
    files: Sequence[Path], settings: ReadRasterSettings, grid: Grid, classes: Classes, null_id: int
) -> list[int] | None:
    """Return the pixels of each class, 0 for null; None if the raster is large or has values without a class."""
    if grid.height * grid.width > ALL_PX:
        return None
    with RasterLabels(files, settings, grid, classes, null_id) as labels:
        try:
            ids = labels.read(grid.window)
        except LabelValueError:
            return None
    counted = np.bincount(ids.ravel(), minlength=len(classes))
    counted[null_id] = 0
    return [int(count) for count in counted]


def _values(labels: RasterLabels, files: Sequence[Path], grid: Grid) -> Iterator[Problem]:
    """Yield an error if sampled pixels hold a value without a class."""
    values, message = Counter[str](), ""
    for window in _windows(labels, files, grid):
        try:
            labels.read(window)
        except LabelValueError as error:
            values.update(error.values)
            message = message or str(error)
    if len(values) > 1:
        listed = ", ".join(value for value, _ in values.most_common(10)) + (", …" if len(values) > 10 else "")
        message += f". Values without a class in the windows that were read: {listed}"
    if message:
        yield Level.ERROR, SAMPLED, message


def _windows(labels: RasterLabels, files: Sequence[Path], grid: Grid) -> Iterator[Window]:
    """Yield the windows to read: all of a small raster; otherwise a sample, and suspicious parts of an overview."""
    if grid.height * grid.width <= ALL_PX:
        yield grid.window
        return
    is_remote = any(is_url(str(path)) for path in files)
    samples = SAMPLES_REMOTE if is_remote else SAMPLES
    for row, col, height, width in scattered(grid.height, grid.width, samples, SAMPLE_PX):
        yield Window(row, col, height, width)
    if labels.in_place and len(files) == 1 and not is_remote:
        yield from _suspects(labels, files[0], grid)


def _suspects(labels: RasterLabels, path: Path, grid: Grid) -> Iterator[Window]:
    """Yield windows around pixels of an overview whose value has no class, one for each value."""
    values = read_overview(path, ALL_PX)
    if values is None:
        return
    unknown = labels.unknown(values)
    places = np.argwhere(unknown)
    _, first = np.unique(values[:, unknown], axis=1, return_index=True)
    for row, col in places[np.sort(first)[:SUSPECTS]].tolist():
        y, x = (
            int((at + 0.5) * whole / shown)
            for at, whole, shown in zip((row, col), (grid.height, grid.width), unknown.shape, strict=True)
        )
        yield Window(y - SAMPLE_PX // 2, x - SAMPLE_PX // 2, SAMPLE_PX, SAMPLE_PX).clip(grid.height, grid.width)


def _extent(files: Sequence[Path], labels: Grid, grid: Grid) -> Iterator[Problem]:
    """Yield a warning if labels on another grid leave some of the image without a label."""
    ticks = np.linspace(0, 1, 33)
    x, y = np.meshgrid(ticks * grid.width, ticks * grid.height)
    map_x, map_y = grid.to_map(x.ravel(), y.ravel())
    if labels.crs is not None and grid.crs is not None:
        map_x, map_y = reproject(files[0], grid.crs, labels.crs, map_x, map_y)
        map_x = map_x + labels.turns(map_x)
    col, row = labels.to_pixel(map_x, map_y)
    # Ignore differences below half a pixel of the coarser grid.
    near = 0.5 * max(1.0, float(np.ptp(col)) / grid.width)
    inside = (col > -near) & (row > -near) & (col < labels.width + near) & (row < labels.height + near)
    share = float(inside.mean())
    if 0 < share < LEAST_COVERED:
        yield (
            Level.WARNING,
            "labels cover a part",
            f"{files[0]}: covers {share:.0%} of the image (labels: {labels.describe()}; image: {grid.describe()}); "
            "the rest counts as unlabelled. Does the file belong to this scene?",
        )
