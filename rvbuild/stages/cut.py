"""What stages share that make the result of a large scene from strips of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from typing_extensions import TypedDict

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid


class CutHints(TypedDict):
    """How a scene was cut. In no key."""

    rows: list[list[int]]
    """The first row of each strip, and the one after its last."""


class CutStrip(NamedTuple):
    """A strip of a scene."""

    files: Mapping[str, Path]
    """Its files by name."""
    first: int
    stop: int
    """Its rows: the first, and the one after the last."""


def strips_in(inputs: Mapping[str, Sequence[Path]], hints: CutHints | None) -> list[CutStrip]:
    """Return the strips of a scene, from top to bottom; none if it was not cut, or if one is not there.

    Parameters
    ----------
    inputs
        `strips/0`, `strips/1` and so on: the files of each strip.
    hints
        How the scene was cut.
    """
    rows = [] if hints is None else hints["rows"]
    strips = [
        CutStrip({path.name: path for path in inputs.get(f"strips/{number}", ())}, first, stop)
        for number, (first, stop) in enumerate(rows)
    ]
    return strips if all(strip.files for strip in strips) else []


def require_rows(files: Sequence[Path], grid: Grid, stop: int, last: bool = False) -> None:
    """Raise a DataError if the raster is not as high as it was when the strips were planned."""
    if grid.height < stop or (last and grid.height != stop):
        raise DataError(
            f"{files[0]}: expected at least {stop} rows, as when the strips were planned; found {grid.height}: run "
            "again"
        )
