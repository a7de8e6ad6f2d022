"""The image of a scene from its settings, as all stages open imagery."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, TypedDict

from rvbuild.errors import DataError
from rvbuild.geo.grid import METRES_PER_DEGREE, crs_name
from rvbuild.geo.raster.cropped import Cropped, window_of
from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.raster.stack import open_stack
from rvbuild.geo.raster.tags import Apply
from rvbuild.geo.raster.transform import Transformed
from rvbuild.settings.image import SceneImageSettings, StackSettings

SceneImage: TypeAlias = Layer
"""The image of a scene."""


class ImageFacts(TypedDict):
    """A description of an image for checks and surveys."""

    height: int
    width: int
    crs: str | None
    """Its name."""
    placed: bool
    """Whether it has a georeference."""
    res_m: float | None
    """The side of a pixel in metres, if it is known."""
    bands: int
    dtype: str
    itemsize: int


def open_scene_image(files: Sequence[Path], settings: SceneImageSettings) -> SceneImage:
    """Open the image of a scene.

    Parameters
    ----------
    files
        The stage's input with the role `image`.
    settings
        The settings of a stage that has `image` and `channels`.

    Raises
    ------
    DataError
        A file cannot be opened, or the files do not match the settings.
    ModelError
        A user's transform cannot be imported.

    Notes
    -----
    In this order: files as a mosaic (`nodata`, and `alpha`, `palette` and `scale` for what tags say) or a stack of
    them (`layers`, `primary`, `reduce`), `channels`, `bbox`, `transform`. Settings that are not there change nothing.
    """
    image = settings["image"]
    source: Layer
    if "layers" in image:
        stack: StackSettings = {"layers": image["layers"], "primary": image["primary"], "reduce": image["reduce"]}
        source = open_stack(files, stack, settings["channels"], Apply.of(image))
    else:
        source = open_image(files, nodata=image["nodata"], channels=settings["channels"], apply=Apply.of(image))
    try:
        if "bbox" in image:
            source = Cropped(source, window_of(image["bbox"], source.grid, source.files))
        if "transform" in image:
            source = Transformed(source, image["transform"], image.get("code"))
    except BaseException:
        source.close()
        raise
    return source


def describe(image: SceneImage) -> ImageFacts:
    """Describe an image as JSON data: size, CRS, pixel size in metres if known, bands and dtype."""
    grid = image.grid
    a, b, _, d, e, _ = grid.transform[:6]
    side = math.sqrt(abs(a * e - b * d))
    res_m: float | None = None
    if grid.crs is None or not (grid.crs.is_geographic or grid.crs.is_projected):
        pass  # a local CRS need not define its unit
    elif grid.crs.is_geographic:
        _, south, _, north = grid.bounds(grid.window)
        res_m = side * METRES_PER_DEGREE * math.sqrt(max(0.0, math.cos(math.radians((south + north) / 2))))
    else:
        res_m = side * float(grid.crs.linear_units_factor[1])
    return {
        "height": grid.height,
        "width": grid.width,
        "crs": None if grid.crs is None else crs_name(grid.crs),
        "placed": not grid.transform.is_identity,
        "res_m": res_m if res_m is not None and math.isfinite(res_m) else None,
        "bands": image.count,
        "dtype": str(image.dtype),
        "itemsize": int(image.dtype.itemsize),
    }


def sizes(scenes: Sequence[tuple[Sequence[str], SceneImageSettings]]) -> list[tuple[int, int] | None]:
    """Return (height, width) of scenes in pixels; None for one that cannot be opened, which its stage will report.

    Parameters
    ----------
    scenes
        The files of the image, and the settings to read it, without user code.
    """
    return [_size([Path(path) for path in paths], settings) for paths, settings in scenes]


def _size(files: Sequence[Path], settings: SceneImageSettings) -> tuple[int, int] | None:
    try:
        with open_scene_image(files, settings) as image:
            return image.grid.height, image.grid.width
    except DataError:
        return None
