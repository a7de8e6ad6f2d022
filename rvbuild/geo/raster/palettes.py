"""The one table of colours of rasters of indices that are read as one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.geo.raster.file import open_dataset
from rvbuild.geo.raster.tags import Palette, palette_of


def shared(files: Sequence[Path], colors: Collection[tuple[int, int, int]]) -> NDArray[np.uint8] | None:
    """Return the table of colours of rasters of indices of one dtype: (I, 3); None if the first has none.

    Raises
    ------
    DataError
        An index is the colour of a class in one of the files and another colour in another one.
    """
    tables: list[Palette] = []
    for path in files:
        with open_dataset(path) as dataset:
            table = palette_of(dataset)
        if table is None and not tables:
            return None
        if table is None:
            raise DataError(f"{path}: has no colour table, but {files[0]}, of the same labels, has one{_EXPAND}")
        tables.append(table)
    merged, origin = tables[0].copy(), [files[0]] * len(tables[0])
    for path, table in zip(files[1:], tables[1:], strict=True):
        for index in np.flatnonzero((table != merged).any(axis=1)).tolist():
            if not merged[index].any():  # the tables before are shorter
                merged[index], origin[index] = table[index], path
            elif table[index].any():
                one, other = (tuple(map(int, entry[:3])) for entry in (merged[index], table[index]))
                if one != other and not {one, other}.isdisjoint(colors):
                    raise DataError(
                        f"{path}: index {index} of its colour table is {_hex(other)}, but {_hex(one)} in "
                        f"{origin[index]}, of the same labels{_EXPAND}"
                    )
    return merged[:, :3]


_EXPAND = "; use the same table in all files, or expand it to colours, for example with `gdal_translate -expand rgb`"


def _hex(color: Sequence[int]) -> str:
    return "#" + "".join(f"{value:02x}" for value in color)
