"""safetensors files as memory-mapped numpy arrays: data are read on demand, without decoding."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xxhash

from rvbuild.errors import DataError

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
_MAX_HEADER = 100_000_000

DIGEST_BYTES = 16


def digest_of(image: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Return the digest of the pixels of a chip, `(DIGEST_BYTES,)` uint8: the same on every machine.

    Parameters
    ----------
    image
        (C, H, W), 0 where it is not valid.
    valid
        (C, H, W) bool, or None if every value is.
    """
    little = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<"))
    hasher = xxhash.xxh3_128(little.reshape(-1).view(np.uint8).data)
    if valid is not None and not valid.all():
        hasher.update(np.packbits(valid, axis=-1).data)
    return np.frombuffer(hasher.digest(), dtype=np.uint8)


def unpack_image(shard: Mapping[str, np.ndarray], place: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return an image (C, H, W) of an images shard, as a view, and which of its values are valid; None: all are."""
    image = shard["images"][place]
    if "valid" not in shard:
        return image, None
    return image, np.unpackbits(shard["valid"][place], axis=-1, count=image.shape[-1]).view(bool)


def open_shard(path: Path) -> dict[str, np.ndarray]:
    """Map the tensors of a safetensors file.

    Parameters
    ----------
    path
        The file. It must not change while it is mapped.

    Returns
    -------
    dict[str, np.ndarray]
        Read-only arrays by name, all over one map.

    Raises
    ------
    DataError
        The file is not safetensors, or is cut off.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _MAX_HEADER):
                raise ValueError(f"its header of {length} bytes does not fit its {size} bytes")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        data = (
            np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length) if size > 8 + length else np.empty(0, np.uint8)
        )
        return {name: _view(data, **entry) for name, entry in header.items()}
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a chip shard ({error}); build the chips again") from error


def _view(data: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    start, stop = data_offsets
    if not all(type(number) is int and number >= 0 for number in (start, stop, *shape)):
        raise ValueError(f"a tensor of shape {shape!r:.80} at bytes {start!r:.80} to {stop!r:.80}")
    kind = np.dtype(_DTYPES[dtype])
    if not 0 <= start <= stop <= data.size or stop - start != math.prod(shape) * kind.itemsize:
        raise ValueError(f"a tensor of shape {shape} at bytes {start} to {stop} of {data.size}")
    # A plain array: memmap objects are slow to index.
    return np.asarray(data[start:stop]).view(kind).reshape(shape)
