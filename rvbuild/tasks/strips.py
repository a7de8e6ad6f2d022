"""The interfaces of strips of rows of a scene.

All tasks predict strips and join them to the raw result. Where that is a raster, files are also derived of strips of it
and joined, and the counts of evaluated strips are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from rvbuild.progress import Progress
from rvbuild.tasks.evaluation import Counts
from rvbuild.tasks.merger import Merger
from rvbuild.tasks.settings import DeriveSettings, InferSettings

if TYPE_CHECKING:
    from rvbuild.geo.area.aoi import Aoi
    from rvbuild.geo.classes import NamedClasses
    from rvbuild.geo.grid import Grid
    from rvbuild.geo.windows import Window
    from rvbuild.tasks.metrics.places import WorstPlaces


class Strip(NamedTuple):
    """A predicted strip."""

    files: Mapping[str, Path]
    """Those of its merger, by name."""
    top: int
    """The row of the scene that is the first one of the files."""
    first: int
    stop: int
    """The rows of the scene that are taken from it."""


class DerivedStrip(Protocol):
    """A strip of the raw result from which files were derived."""

    @property
    def files(self) -> Mapping[str, Path]:
        """Those of `Strips.derive`, by name."""

    @property
    def first(self) -> int:
        """Its first row."""


class Strips(Protocol):
    """Predicts strips and joins them."""

    repeats: bool
    """Whether a strip needs all windows that share pixels with it, and not those alone that begin in it."""

    def area(self, aoi: Aoi, grid: Grid, window: Window, settings: InferSettings) -> np.ndarray:
        """Return which pixels of a window of whole rows count for the windows of a strip: (H, W) bool.

        A window is predicted if one of its pixels counts, as it is in a scene that is predicted at once.
        """

    def merger(self, grid: Grid, outputs: Path, settings: InferSettings) -> Merger:
        """Return a merger of the windows of a strip; the parameters are those of `Task.merger`."""

    def join(
        self, strips: Sequence[Strip], grid: Grid, outputs: Path, settings: InferSettings, progress: Progress
    ) -> None:
        """Write the files of `Task.merger` for the scene of `grid` from all of its strips, from top to bottom."""


class RasterStrips(Strips, Protocol):
    """Derives files of strips of a raw result that is a raster, and evaluates strips."""

    def derive(
        self,
        raw: Mapping[str, Path],
        settings: DeriveSettings,
        rows: tuple[int, int],
        outputs: Path,
        progress: Progress,
    ) -> None:
        """Write to `outputs` what `join_derived` needs of the rows of a strip: at least one file.

        Parameters
        ----------
        raw, settings
            As for `Task.derive`.
        rows
            The first row of the strip, a multiple of `rvbuild.rules.predict.BLOCK_ROWS`, and the one after its last.
        outputs
            An existing directory.
        progress
            Receives progress, in files.
        """

    def join_derived(
        self,
        strips: Sequence[DerivedStrip],
        raw: Mapping[str, Path],
        settings: DeriveSettings,
        outputs: Path,
        progress: Progress,
    ) -> None:
        """Write the files of `Task.derive` from all strips of a scene, from top to bottom, with the same bytes."""

    def score(
        self,
        predictions: Path,
        source: Any,
        aoi: Aoi | None,
        classes: NamedClasses,
        null_id: int,
        progress: Progress,
        worst: WorstPlaces,
        scores: Path | None,
        rows: tuple[int, int],
    ) -> Counts:
        """Return the counts of a strip, from the first of `rows` to the one before the last; see `Task.score`."""

    def added(self, parts: Sequence[Counts]) -> Counts:
        """Return the counts of a scene from those of its strips."""
