"""GeoTIFFs from tiles that are compressed already: nothing is decoded.

GDAL writes the directories of the file, with all tags, for an image without tiles. The tiles of other files follow, and
their places are entered. The layouts are those of GDAL's drivers, so that GDAL writes the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

_TILE_OFFSETS, _TILE_BYTE_COUNTS = 324, 325
_DTYPES = {3: "<u2", 4: "<u4", 16: "<u8"}
"""By the type of a tag of TIFF."""


class _Layout(NamedTuple):
    """How numbers are stored in a classic TIFF or a BigTIFF, as formats of `struct`."""

    header: str
    entries: str
    entry: str
    offset: str


_CLASSIC = _Layout("<4xI", "<H", "<HHI4s", "<I")
_BIG = _Layout("<8xQ", "<Q", "<HHQ8s", "<Q")


class _Numbers(NamedTuple):
    """The numbers of a tag, and where they are in the file."""

    place: int
    values: NDArray[np.unsignedinteger]


class _Tiles(NamedTuple):
    """Where the tiles of an image are in a file, in row-major order."""

    offsets: _Numbers
    sizes: _Numbers


class Part(NamedTuple):
    """Tiles of a file."""

    path: Path
    """A tiled GeoTIFF without overviews."""
    tiles: slice = slice(None)
    """Which ones, in row-major order."""


def assemble_cog(empty: Path, levels: Sequence[Sequence[Part]], path: Path) -> None:
    """Write a cloud-optimized GeoTIFF.

    Parameters
    ----------
    empty
        A file of GDAL's COG driver that has no tiles (`SPARSE_OK`), for the image and its overviews.
    levels
        For the image, then for each overview: its tiles, from top to bottom. They have the blocks, bands, type and
        compression of `empty`.
    path
        The file to write.

    Raises
    ------
    ValueError
        The parts have not the tiles that `empty` has room for.
    """
    _assemble(empty, levels, path, framed=True)


def assemble(empty: Path, parts: Sequence[Part], path: Path) -> None:
    """Write a tiled GeoTIFF without overviews; `empty` is one of GDAL's GTiff driver, the rest is as above."""
    _assemble(empty, [parts], path, framed=False)


def _assemble(empty: Path, levels: Sequence[Sequence[Part]], path: Path, framed: bool) -> None:
    images = _images(empty)
    if len(images) != len(levels):
        raise ValueError(f"{path.name}: {len(levels)} levels for a file of {len(images)}")
    with path.open("wb") as target:
        target.write(empty.read_bytes())
        # The smallest overview comes first in a file of the COG driver.
        for image, parts in zip(reversed(images), reversed(levels), strict=True):
            _fill(target, image, parts, framed)


def _fill(target: BinaryIO, image: _Tiles, parts: Sequence[Part], framed: bool) -> None:
    """Append the tiles of an image, and enter where they are."""
    offsets, sizes = np.zeros_like(image.offsets.values), np.zeros_like(image.sizes.values)
    number, end = 0, target.seek(0, 2)
    for part in parts:
        for tile in _tiles(part):
            if number == len(offsets):
                raise ValueError(f"{part.path.name}: more tiles than the {number} of the image")
            # As "BLOCK_LEADER" and "BLOCK_TRAILER" in the header of a COG say: for readers of streams.
            before, after = (struct.pack("<I", len(tile)), tile[-4:]) if framed else (b"", b"")
            target.write(before + tile + after)
            offsets[number], sizes[number] = end + len(before), len(tile)
            number, end = number + 1, end + len(before) + len(tile) + len(after)
    if number != len(offsets):
        raise ValueError(f"{target.name}: {number} of {len(offsets)} tiles")
    for numbers, values in ((image.offsets, offsets), (image.sizes, sizes)):
        target.seek(numbers.place)
        target.write(values.tobytes())


def _tiles(part: Part) -> Iterator[bytes]:
    """Yield compressed tiles."""
    (image,) = _images(part.path)
    offsets, sizes = image.offsets.values[part.tiles], image.sizes.values[part.tiles]
    with part.path.open("rb") as file:
        for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
            file.seek(offset)
            yield file.read(size)


def _images(path: Path) -> list[_Tiles]:
    """Return where the tiles of the images of a little-endian TIFF are: of the main one, and of its overviews."""
    with path.open("rb") as file:
        layout = _BIG if file.read(4) == b"II\x2b\x00" else _CLASSIC
        file.seek(0)
        (place,) = _read(file, layout.header)
        images = []
        while place:
            file.seek(place)
            (count,) = _read(file, layout.entries)
            begin, size = file.tell(), struct.calcsize(layout.entry)
            entries = [(begin + number * size, *_read(file, layout.entry)) for number in range(count)]
            (place,) = _read(file, layout.offset)
            tags = {
                tag: _numbers(file, layout, at, kind, length)
                for at, tag, kind, length, _ in entries
                if tag in (_TILE_OFFSETS, _TILE_BYTE_COUNTS)
            }
            images.append(_Tiles(tags[_TILE_OFFSETS], tags[_TILE_BYTE_COUNTS]))
    return images


def _numbers(file: BinaryIO, layout: _Layout, entry: int, kind: int, length: int) -> _Numbers:
    """Read the numbers of a tag, which are in its entry if there is room."""
    dtype, field = np.dtype(_DTYPES[kind]), struct.calcsize(layout.offset)
    place = entry + struct.calcsize(layout.entry) - field
    if length * dtype.itemsize > field:
        file.seek(place)
        (place,) = _read(file, layout.offset)
    file.seek(place)
    return _Numbers(place, np.frombuffer(file.read(length * dtype.itemsize), dtype))


def _read(file: BinaryIO, layout: str) -> tuple[int, ...]:
    """Read numbers in a format of `struct`."""
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
