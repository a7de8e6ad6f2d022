"""Files as they look and as they are: signatures from a stat, and digests of bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

import xxhash

_BLOCK = 1 << 18  # stays in the processor's cache between reading and hashing


class Signature(NamedTuple):
    """What a stat tells about a file's content: any edit changes one of these, a touch does too."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def signature(path: Path | str) -> Signature | None:
    """Return the signature of the file at `path` (links followed), or None if there is no such file.

    A pipe, a socket or a device is none: whoever opens it may wait for ever.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of files
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        return None
    return Signature(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def hash_file(path: Path | str) -> str:
    """Return the xxh3_128 of the file's bytes, 32 hex digits; the GIL is free meanwhile.

    A directory has no bytes: what is in it are files of their own.
    """
    if os.path.isdir(path):  # noqa: PTH112 - thousands of files
        return xxhash.xxh3_128_hexdigest(b"")
    with Path(path).open("rb", buffering=0) as file:
        return hash_open(file.fileno())


def hash_file_twice(path: Path | str) -> tuple[str, str]:
    """Return the xxh3_128 and the SHA-256 of the file's bytes: what finds damage, and what finds forgery."""
    import hashlib  # few runs need it

    fast, safe = xxhash.xxh3_128(), hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            fast.update(block)
            safe.update(block)
    return fast.hexdigest(), safe.hexdigest()


def hash_open(file: int) -> str:
    """Return the xxh3_128 of the bytes of an open file from where it is, 32 hex digits."""
    state = xxhash.xxh3_128()
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    while n := os.readv(file, [buffer]):
        state.update(view[:n])
    return state.hexdigest()
