"""The interface of tasks whose scenes can be predicted in strips of rows, which are joined to the raw result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rvbuild.progress import Progress
from rvbuild.tasks.merger import Merger
from rvbuild.tasks.settings import InferSettings

if TYPE_CHECKING:
    from rvbuild.geo.grid import Grid


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
    """Predicts strips and joins them."""

    def merger(self, grid: Grid, outputs: Path, settings: InferSettings) -> Merger:
        """Return a merger of the windows of a strip; the parameters are those of `Task.merger`."""

    def join(
        self, strips: Sequence[Strip], grid: Grid, outputs: Path, settings: InferSettings, progress: Progress
    ) -> None:
        """Write the files of `Task.merger` for the scene of `grid` from all of its strips, from top to bottom."""
