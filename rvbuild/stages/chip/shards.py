"""Shards of chips: safetensors files that are written chip by chip, so that images do not accumulate in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from rvbuild.geo.windows import Window
from rvbuild.learn.chips.index import ShardEntry
from rvbuild.learn.chips.shards import digest_of

Array = npt.NDArray[Any]
Target = dict[str, Array]
Pack = Callable[[list[Target]], dict[str, Array]]

SHARD_BYTES = 128 << 20
"""Maximum size of the images in a shard, in bytes. Most blocks are smaller and have one shard."""

PAGE = 4096

_TYPE_NAMES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "float32": "F32", "float64": "F64",
}  # fmt: skip


class ShardWriter:
    """Writes the chips of a block as a pair of files, `images-00000.safetensors` and `labels-00000.safetensors`.

    The number is that of the block; chips beyond what a shard holds go to `images-00000-1.safetensors` and so on. An
    images file holds `windows` (n, 4) int64, `images` (n, C, H, W) in the source dtype and, if some value of the
    shard is invalid, `valid` (n, C, H, ceil(W / 8)) uint8: the validity of each value, eight to a byte as
    `numpy.packbits` packs them. Invalid values are 0 in `images`. It is left out if images are not to be stored.

    A labels file holds what the task packs, `windows`, and `digests` (n, 16) uint8: those of the pixels. So it
    identifies everything that a model learns from a chip, whether or not the image is stored.
    """

    def __init__(
        self,
        outputs: Path,
        number: int,
        pack: Pack,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        most: int,
        *,
        store: bool = True,
    ) -> None:
        """Prepare to write into `outputs`.

        Parameters
        ----------
        outputs
            An existing directory.
        number
            The number of the block.
        pack
            Turns the targets of a shard into the tensors of its labels file.
        shape, dtype
            (C, H, W) and the type of each image.
        most
            The maximum number of chips.
        store
            Whether images are also written.
        """
        self.shards: list[ShardEntry] = []
        self._outputs, self._number = outputs, number
        self._pack, self._shape, self._dtype = pack, shape, dtype
        self._capacity = max(1, min(SHARD_BYTES // (int(np.prod(shape)) * dtype.itemsize), most))
        self._store = store
        self._images: ImageFile | None = None
        self._windows: list[Window] = []
        self._digests: list[Array] = []
        self._targets: list[Target] = []

    def add(self, window: Window, image: Array, valid: npt.NDArray[np.bool_] | None, target: Target) -> None:
        """Append one chip: image and valid are (C, H, W); invalid values are written as 0. None: all are valid."""
        if valid is not None and valid.all():
            valid = None
        if valid is not None:
            image = np.where(valid, image, self._dtype.type(0))
        if self._store:
            if self._images is None:
                self._images = ImageFile(self._path("images"), self._shape, self._dtype, self._capacity)
            self._images.add(window, image, valid)
        self._windows.append(window)
        self._digests.append(digest_of(image, valid))
        self._targets.append(target)
        if len(self._targets) == self._capacity:
            self.finish()

    def finish(self) -> None:
        """Complete the files of the chips that were added."""
        if not self._targets:
            return
        images, labels = self._path("images"), self._path("labels")
        known = {"windows": np.array(self._windows, dtype=np.int64), "digests": np.stack(self._digests)}
        write_tensors(labels, {**self._pack(self._targets), **known})
        if self._images is not None:
            self._images.close()
        self.shards.append({"images": images.name, "labels": labels.name, "count": len(self._targets)})
        self._images, self._windows, self._digests, self._targets = None, [], [], []

    def abandon(self) -> None:
        """Close all files without completing them, after an error."""
        if self._images is not None:
            self._images.abandon()

    def _path(self, kind: str) -> Path:
        part = f"-{len(self.shards)}" if self.shards else ""
        return self._outputs / f"{kind}-{self._number:05d}{part}.safetensors"


class ImageFile:
    """One file of images, written as a stream: pixels are written to their final position, and the header last.

    The number of images is known only at the end, but a safetensors file begins with it. So room is left for the header
    and the windows of as many images as may come; what remains of it pads the header with spaces, as the format allows.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], capacity: int) -> None:
        self.path = path
        self._shape, self._dtype = shape, dtype
        self._windows: list[Window] = []
        self._valid: list[npt.NDArray[np.uint8] | None] = []
        windows_bytes = capacity * 4 * 8
        # Images start at a page of the file: a reader can map them at any alignment that their type needs.
        self._start = -(-(PAGE + windows_bytes) // PAGE) * PAGE
        self._file: IO[bytes] = path.open("wb")
        self._file.seek(self._start)

    def add(self, window: Window, image: Array, valid: npt.NDArray[np.bool_] | None) -> None:
        """Append one image (C, H, W), 0 where it is not valid; None: all of it is."""
        self._windows.append(window)
        self._valid.append(None if valid is None else np.packbits(valid, axis=-1))
        self._file.write(_bytes(np.ascontiguousarray(image, dtype=self._dtype)))

    def close(self) -> None:
        """Write the rest of the file and close it."""
        n = len(self._windows)
        tensors: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            "windows": (np.dtype(np.int64), (n, 4)),
            "images": (self._dtype, (n, *self._shape)),
        }
        if any(valid is not None for valid in self._valid):
            everything = np.packbits(np.ones(self._shape, dtype=bool), axis=-1)
            tensors["valid"] = (everything.dtype, (n, *everything.shape))
            for valid in self._valid:
                self._file.write(_bytes(everything if valid is None else valid))
        windows = np.array(self._windows, dtype="<i8")
        self._file.seek(0)
        self._file.write(_header(tensors, self._start - windows.nbytes))
        self._file.write(_bytes(windows))
        self._file.close()

    def abandon(self) -> None:
        """Close the file without completing it, after an error."""
        self._file.close()


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write a safetensors file without copying: tensors in order of item size (largest first), then name."""
    ordered = dict(sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])))
    with path.open("wb") as file:
        file.write(_header({name: (a.dtype, a.shape) for name, a in ordered.items()}))
        for array in ordered.values():
            file.write(_bytes(np.ascontiguousarray(array)))


def _header(tensors: Mapping[str, tuple[np.dtype[Any], Sequence[int]]], length: int | None = None) -> bytes:
    """Return the head of a safetensors file: the length of its JSON, and the JSON padded with spaces.

    `length` is the whole length in bytes; None pads to a multiple of 8, so that tensors are aligned.
    """
    entries: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        entries[name] = {"dtype": _TYPE_NAMES[dtype.name], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    padded = -(-len(text) // 8) * 8 if length is None else length - 8
    return padded.to_bytes(8, "little") + text.ljust(padded)


def _bytes(array: Array) -> memoryview:
    """Return the bytes of a C-contiguous array, little-endian, without a copy on little-endian machines."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return little.reshape(-1).view(np.uint8).data
