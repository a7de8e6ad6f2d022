"""The strips stage: predicts strips of rows of a large scene, which the infer stage joins.

A strip is predicted in the batches of the whole scene (`rvbuild.stages.window_rows`). Where the result is a raster, it
needs all groups of rows of windows that share pixels with it, and writes their rows. Those that other windows also
belong to are incomplete; they are another strip's. Boxes and cells belong to the strip in which their window begins. So
the joined result is, byte for byte, that of a scene that is predicted at once.

The area of interest in each strip is written first, as a raster: a strip depends on nothing else of the area.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NotRequired, Self

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window as RasterioWindow

from rvbuild import tasks
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.geo.windows import Window
from rvbuild.geo.write.rasters import IdRasterWriter
from rvbuild.progress import Progress
from rvbuild.settings.area import OfArea
from rvbuild.stages import infer
from rvbuild.stages.cut import CutHints, require_rows, strips_in
from rvbuild.stages.infer import InferStageSettings, SceneInferSettings, StripRows
from rvbuild.stages.window_rows import WindowRows
from rvbuild.tasks.settings import InferSettings
from rvbuild.tasks.strips import Strip

_ROWS = 128
"""Of the area, that are written at once."""


class StripSettings(InferStageSettings):
    """The settings of the stage: those of infer, without an area."""

    rows: list[int]
    """The first row of the strip, and the one after its last."""


class StripAreaSettings(SceneInferSettings, OfArea):
    """The settings of the area in each strip."""

    strips: list[list[int]]
    """As `rows` of each strip."""


class JoinSettings(InferStageSettings):
    """The settings of infer, and how the scene was cut."""

    strips: NotRequired[CutHints]


def run(inputs: Mapping[str, Sequence[Path]], settings: StripSettings, outputs: Path, progress: Progress) -> None:
    """Predict one strip.

    Parameters
    ----------
    inputs
        `image`, `model` and `network` as for the infer stage; `area`: the area in the strip, of `run_area`, or none.
    settings
        See `StripSettings`.
    outputs
        Receives the files of the task's merger for all rows of the windows that the strip needs.
    progress
        Receives progress, in windows.

    Raises
    ------
    DataError, ModelError
        As `rvbuild.stages.infer.run`.
    """
    first, stop = settings["rows"]
    with open_scene_image(inputs["image"], settings) as image:
        grid = image.grid
    require_rows(inputs["image"], grid, stop)
    (top, bottom), area = _rows(grid, first, stop, settings), inputs.get("area", ())
    with contextlib.ExitStack() as stack:
        mask = stack.enter_context(AreaOfStrip(area[0], top, bottom)) if area else None
        infer.infer_image(
            infer.load(inputs, settings),
            lambda: open_scene_image(inputs["image"], settings),
            settings["channels"],
            settings,
            outputs,
            progress,
            strip=StripRows(first, stop, mask),
        )


def run_area(
    inputs: Mapping[str, Sequence[Path]], settings: StripAreaSettings, outputs: Path, progress: Progress
) -> None:
    """Write the area of interest in each strip, as `0.tif`, `1.tif` and so on: 1 where a pixel counts, 0 elsewhere.

    Parameters
    ----------
    inputs
        `image`: the files of the scene; `aoi`: those of the area of interest, if any.
    settings
        See `StripAreaSettings`.
    outputs
        Receives the files, with all rows of the windows that a strip needs.
    progress
        Receives progress, in strips.

    Raises
    ------
    DataError
        The image or the area cannot be read.
    """
    from rvbuild.geo.area.aoi import open_aoi

    with open_scene_image(inputs["image"], settings) as image:
        grid = image.grid
    aoi = open_aoi(inputs.get("aoi", ()), grid, settings.get("area"))
    task = tasks.get(settings["task"])
    progress.start("area", len(settings["strips"]), "strips")
    for number, (first, stop) in enumerate(settings["strips"]):
        require_rows(inputs["image"], grid, stop)
        top, bottom = _rows(grid, first, stop, settings)
        rows = grid.crop(Window(top, 0, bottom - top, grid.width))
        with IdRasterWriter(outputs / f"{number}.tif", rows, temp=outputs) as writer:
            for row in range(top, bottom, _ROWS):
                window = Window(row, 0, min(_ROWS, bottom - row), grid.width)
                mask = (
                    np.ones((window.height, window.width), bool)
                    if aoi is None
                    else task.STRIPS.area(aoi, grid, window, settings)
                )
                writer.write(row - top, mask.astype(np.uint8))
        progress.advance()


def run_join(inputs: Mapping[str, Sequence[Path]], settings: JoinSettings, outputs: Path, progress: Progress) -> None:
    """Join the strips of a scene; if one is not there, predict the scene at once.

    Parameters
    ----------
    inputs
        As for the infer stage; and `strips/0`, `strips/1` and so on: the files of the strips, from top to bottom.
    settings
        See `JoinSettings`.
    outputs
        Receives the files of the infer stage, with the same bytes.
    progress
        Receives progress, in rows.
    """
    cut = strips_in(inputs, settings.get("strips"))
    if not cut:
        infer.run(inputs, settings, outputs, progress)
        return
    with open_scene_image(inputs["image"], settings) as image:
        grid = image.grid
    require_rows(inputs["image"], grid, cut[-1].stop, last=True)
    strips = [Strip(files, _rows(grid, first, stop, settings)[0], first, stop) for files, first, stop in cut]
    tasks.get(settings["task"]).STRIPS.join(strips, grid, outputs, settings, progress)


class AreaOfStrip:
    """The area of interest in a strip, from a file of `run_area`; nothing counts outside of the strip.

    Parameters
    ----------
    path
        The file.
    top, bottom
        The rows of the scene that it has: the first, and the one after the last.
    """

    def __init__(self, path: Path, top: int, bottom: int) -> None:
        self._top, self._bottom = top, bottom
        self._file = rasterio.open(path)

    def contains(self, window: Window) -> bool:
        """Return False: each pixel is looked up."""
        return False

    def mask(self, window: Window) -> npt.NDArray[np.bool_]:
        """Return which pixels lie in the area: (H, W) bool, False outside the strip."""
        mask = np.zeros((window.height, window.width), bool)
        part = window.intersection(Window(self._top, 0, self._bottom - self._top, self._file.width))
        if part.height and part.width:
            where = RasterioWindow(part.col, part.row - self._top, part.width, part.height)
            mask[part.slices_in(window)] = self._file.read(1, window=where) == 1
        return mask

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _rows(grid: Grid, first: int, stop: int, settings: InferSettings) -> tuple[int, int]:
    """Return the rows of the files of a strip, as rows of the scene: the first, and the one after the last."""
    task = tasks.get(settings["task"])
    rows = WindowRows.of(grid.width, task.placing(settings), settings["predict"]["batch_size"])
    return rows.pixels(infer.groups_of(task.STRIPS, rows, first, stop), grid.height)
