"""The interface of tasks whose scenes can be predicted and evaluated in strips of rows.

Predicted strips are joined to the raw result; the counts of evaluated strips are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rvbuild.progress import Progress
from rvbuild.tasks.evaluation import Counts
from rvbuild.tasks.merger import Merger
from rvbuild.tasks.settings import InferSettings

if TYPE_CHECKING:
    from rvbuild.geo.area.aoi import Aoi
    from rvbuild.geo.classes import NamedClasses
    from rvbuild.geo.grid import Grid
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


class Strips(Protocol):
    """Predicts strips and joins them, and evaluates strips."""

    def merger(self, grid: Grid, outputs: Path, settings: InferSettings) -> Merger:
        """Return a merger of the windows of a strip; the parameters are those of `Task.merger`."""

    def join(
        self, strips: Sequence[Strip], grid: Grid, outputs: Path, settings: InferSettings, progress: Progress
    ) -> None:
        """Write the files of `Task.merger` for the scene of `grid` from all of its strips, from top to bottom."""

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
