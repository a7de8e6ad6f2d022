"""The image of a scene as its settings describe it: what every stage opens imagery with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from rvbuild.geo.grid import Grid
from rvbuild.geo.raster import open_image
from rvbuild.geo.rasterfile import Image, Mask, Nodata
from rvbuild.geo.windows import Window


class SceneImage(Protocol):
    """The image of a scene, read window by window: a context manager. Not thread-safe: open one for each thread."""

    @property
    def grid(self) -> Grid:
        """The pixel grid of the scene."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of all bands that `read` gives."""

    @property
    def count(self) -> int:
        """Number of bands that `read` gives."""

    @property
    def nodata(self) -> tuple[Nodata, ...]:
        """Per band that `read` gives; None: no value means nodata."""

    @property
    def descriptions(self) -> tuple[str, ...]:
        """What the bands are called."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What the image is read from."""

    def read(self, window: Window) -> tuple[Image, Mask]:
        """Read a window; it may reach beyond the scene.

        Returns
        -------
        image : (C, H, W) in `dtype`; 0 where it is not valid
        valid : (C, H, W) bool, per band: False where there are no data
        """

    def close(self) -> None:
        """Close all files."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: Any) -> None: ...


def open_scene_image(files: Sequence[Path], settings: Mapping[str, Any]) -> SceneImage:
    """Open the image of a scene.

    Parameters
    ----------
    files
        What a stage gets under the role `image`.
    settings
        What a stage is given: of it, `image` and `channels` count.

    Raises
    ------
    DataError
        A file cannot be opened, or the files are not what the settings say.
    """
    return open_image(files, nodata=settings["image"]["nodata"], channels=settings["channels"])
