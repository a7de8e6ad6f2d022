"""The images of chips that are not stored: read from the imagery of their scenes, unchanged since the chips were cut.

The pixels of a chip are verified by their digest: a model is never trained on others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
import rasterio

from rvbuild.errors import DataError
from rvbuild.geo.raster.mosaic_source import MAX_OPEN_FILES
from rvbuild.geo.raster.open import SceneImage, open_scene_image
from rvbuild.geo.raster.resample import read_resampled
from rvbuild.geo.windows import Window
from rvbuild.learn.chips.shards import digest_of
from rvbuild.settings.image import SceneImageSettings

OPEN_FILES = 256
"""Files of imagery that are open at the same time, about."""

CACHE_BYTES = 512 << 20
"""Limit of GDAL's block cache in each process. The default is 5 % of the memory, times the number of processes."""


class Imagery(NamedTuple):
    """The imagery of a scene."""

    files: Sequence[Path]
    settings: SceneImageSettings
    """The settings to open it: `image`, `channels`."""


class SceneImages:
    """Reads chips of several scenes. Not thread-safe; sent to another process, it opens its files there.

    Parameters
    ----------
    imagery
        By scene id.
    bands, dtype, size_px
        The bands and dtype of all chips.
    """

    def __init__(self, imagery: Mapping[str, Imagery], bands: int, dtype: str, size_px: int) -> None:
        self._imagery, self._bands, self._dtype, self._size_px = dict(imagery), bands, dtype, size_px
        self._open: OrderedDict[str, SceneImage] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def read(self, scene: str, window: Window, digest: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return image (C, H, W) and validity of a chip; None if every value is valid.

        Raises
        ------
        DataError
            Its pixels are not those of the chip, or cannot be read.
        """
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            source = self._source(scene)
            if (source.count, source.dtype.name) == (self._bands, self._dtype):
                image, valid = read_resampled(source, window, self._size_px)
                if np.array_equal(digest_of(image, valid), digest):
                    return image, None if valid is None or valid.all() else valid
        files = ", ".join(str(path) for path in source.files[:3]) + (", …" if len(source.files) > 3 else "")
        raise DataError(
            f"{files}: the pixels at row {window.row}, column {window.col} ({window.width} x {window.height} px) are "
            f"not those that scene {scene} had when its chips were cut. If the image was edited meanwhile, run again. "
            f"If another version of GDAL decodes it here, `rvbuild chip --scene {quote(scene)} --always-make` cuts its "
            "chips again. Your own transforms must return the same pixels for the same input"
        )

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def _source(self, scene: str) -> SceneImage:
        source = self._open.get(scene)
        if source is None:
            files, settings = self._imagery[scene]
            source = open_scene_image(files, settings)
            while self._open and sum(map(_cost, (source, *self._open.values()))) > OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[scene] = source
        else:
            self._open.move_to_end(scene)
        return source


def _cost(source: SceneImage) -> int:
    """Return how many files of an image may be open."""
    return min(len(source.files), MAX_OPEN_FILES)
