"""Labels from several sources laid over each other: rasters and vectors, in the order given."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from rvbuild.geo.classes import NamedClasses, id_of
from rvbuild.geo.grid import Grid
from rvbuild.geo.labels.raster import RasterLabels
from rvbuild.geo.labels.vector import VectorLabels
from rvbuild.geo.vector.reading import split
from rvbuild.geo.windows import Window
from rvbuild.settings.labels import LayeredLabelSettings

_NOTHING = 255
"""Marks pixels outside the features of a vector layer; class ids end at 254."""


class LayeredLabels:
    """Class ids from layers, where a later layer takes precedence wherever it has labels.

    A raster has labels where it has data, a vector layer inside its features. The background applies everywhere else.
    """

    def __init__(
        self, files: Sequence[Path], settings: LayeredLabelSettings, grid: Grid, classes: NamedClasses, null_id: int
    ) -> None:
        self.grid = grid
        self._null_id = null_id
        background = settings.get("background")
        self._background = null_id if background is None else id_of(classes, background, "labels.background")
        self._layers: list[RasterLabels | VectorLabels] = []
        with ExitStack() as opened:
            for paths, part in split(files, settings["parts"]):
                if part["kind"] == "raster":
                    self._layers.append(opened.enter_context(RasterLabels(paths, part, grid, classes, null_id)))
                else:
                    self._layers.append(VectorLabels(paths, part, grid, classes, _NOTHING))
            self._open = opened.pop_all()
        self.notes: Sequence[str] = tuple(note for layer in self._layers for note in layer.notes)

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return the class ids in a window: (H, W) uint8.

        Raises
        ------
        DataError
            A pixel of a raster, even a covered one, holds a value or a colour without a class.
        """
        labels = np.full((window.height, window.width), self._null_id, dtype=np.uint8)
        labels[window.clip(self.grid.height, self.grid.width).slices_in(window)] = self._background
        for layer in self._layers:
            ids, labelled = _labelled(layer, window)
            labels[labelled] = ids[labelled]
        return labels

    def digest(self, window: Window) -> str:
        """Return a digest of the features in and around a window, and of the raster labels there.

        This reads the label rasters: little work compared with the imagery that need not be cut again.
        """
        state = xxhash.xxh3_128()
        for layer in self._layers:
            if isinstance(layer, VectorLabels):
                state.update(layer.digest(window).encode())
            else:
                for array in _labelled(layer, window):
                    state.update(array.tobytes())
        return str(state.hexdigest())

    def close(self) -> None:
        """Close all files."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _labelled(layer: RasterLabels | VectorLabels, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the class ids of a layer in a window, (H, W) uint8, and where it has labels: (H, W) bool."""
    if isinstance(layer, RasterLabels):
        return layer.read_valid(window)
    ids = layer.read(window)
    return ids, ids != _NOTHING
