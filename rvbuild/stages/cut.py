"""What stages share that make the result of a large scene from strips of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import TypedDict

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid


class CutHints(TypedDict):
    """How a scene was cut. In no key."""

    rows: list[list[int]]
    """The first row of each strip, and the one after its last."""


def require_rows(files: Sequence[Path], grid: Grid, stop: int, last: bool = False) -> None:
    """Raise a DataError if the raster is not as high as it was when the strips were planned."""
    if grid.height < stop or (last and grid.height != stop):
        raise DataError(
            f"{files[0]}: expected at least {stop} rows, as when the strips were planned; found {grid.height}: run "
            "again"
        )
