"""Values of many columns: in memory if they are few, else in a temporary file, of which a part is in memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

IN_MEMORY_BYTES = 16 << 20
"""What has more is in a file."""

KEPT_BYTES = 8 << 20
"""What was used last of the file, up to so much, is in memory."""

CHUNK = 512
"""Columns that lie together in the file."""

_ZEROS = bytes(1 << 20)


class Columns:
    """An array (P, R, W) of zeros at first, that is written and read by columns, from left to right again and again.

    The pages of the file are dropped from memory now and then, so that memory does not grow with the width; the system
    keeps them in its cache as long as it likes.

    Parameters
    ----------
    planes, rows, width
        The shape.
    dtype
        Of the values.
    folder
        Where the temporary file is; None for the directory of temporary files. It has no name, so that it is gone with
        this process, however this ends.

    Raises
    ------
    OSError
        The disk has no room for the file.
    """

    def __init__(self, planes: int, rows: int, width: int, dtype: Any, folder: Path | None = None) -> None:
        self.rows, self.width = rows, width
        size = planes * rows * width * np.dtype(dtype).itemsize
        self._map: mmap.mmap | None = None
        self._used = 0
        if size <= IN_MEMORY_BYTES:
            self._chunk = max(1, width)
            self._values: NDArray[Any] = np.zeros((1, planes, rows, self._chunk), dtype)
            return
        self._chunk = CHUNK
        chunks = -(-width // CHUNK)
        size = chunks * planes * rows * CHUNK * np.dtype(dtype).itemsize
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(cast("BinaryIO", file), size)
            self._map = mmap.mmap(file.fileno(), size)
        self._values = np.frombuffer(self._map, dtype).reshape(chunks, planes, rows, CHUNK)

    def read(self, rows: slice, col: int, stop: int) -> NDArray[Any]:
        """Return a copy of some rows, in the columns from `col` to the one before `stop`: (P, r, w)."""
        values = np.empty((self._values.shape[1], len(range(self.rows)[rows]), stop - col), self._values.dtype)
        for chunk, here, there in self._pieces(col, stop):
            values[:, :, there] = chunk[:, rows, here]
        return values

    def write(self, rows: slice, col: int, values: NDArray[Any]) -> None:
        """Replace some rows, in the columns from `col`, by `values` (P, r, w)."""
        for chunk, here, there in self._pieces(col, col + values.shape[2]):
            chunk[:, rows, here] = values[:, :, there]

    def shift_up(self, rows: int) -> None:
        """Move everything up, with zeros below."""
        kept = max(0, self.rows - rows)
        for chunk, _, _ in self._pieces(0, self.width) if rows > 0 else ():
            for plane in chunk:
                plane[:kept] = plane[self.rows - kept :]
                plane[kept:] = 0

    def _pieces(self, col: int, stop: int) -> Iterator[tuple[NDArray[Any], slice, slice]]:
        """Yield the chunks (P, R, columns) of columns, with their columns in the chunk, and counted from `col`."""
        for number in range(col // self._chunk, -(-stop // self._chunk)):
            first = number * self._chunk
            begin, end = max(col, first), min(stop, first + self._chunk)
            chunk = self._values[number]
            yield chunk, slice(begin - first, end - first), slice(begin - col, end - col)
            self._rest(chunk.nbytes * (end - begin) // self._chunk)

    def _rest(self, used: int) -> None:
        """Drop the file's pages from memory if many bytes were used since the last time."""
        self._used += used
        if self._map is not None and self._used >= KEPT_BYTES and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._used = 0


def _reserve(file: BinaryIO, size: int) -> None:
    """Make room for a file: writing to a map of a full disk would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, len(_ZEROS)):
        file.write(_ZEROS[: size - start])
    file.flush()
