"""The raw results of a scene by several models, each of other cells, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.progress import Progress
from rvbuild.tasks.classification.cells import CELLS, no_cells, read_cells, write_cells


def join(parts: Sequence[Mapping[str, Path]], outputs: Path, progress: Progress) -> None:
    """Write the cells of all parts as `cells.json`; see `rvbuild.tasks.protocol.Task.join`."""
    progress.start("join folds", len(parts), "folds")
    first = read_cells(parts[0][CELLS])
    joined = no_cells(first.grid, first.cell_px, first.output_ids)
    for part in parts:
        path = part[CELLS]
        cells = read_cells(path)
        if (cells.scores.shape, cells.output_ids) != (joined.scores.shape, joined.output_ids):
            raise DataError(f"{path}: the folds of a scene have different cells or classes; build the folds again")
        known = cells.predicted
        if (known & joined.predicted).any():
            raise DataError(f"{path}: a cell is predicted in two folds; build the folds again")
        joined.scores[known] = cells.scores[known]
        progress.advance()
    write_cells(outputs / CELLS, joined)
