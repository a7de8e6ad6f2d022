"""Signatures of files, from a stat, and digests of their bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

import xxhash

_SMALL = 1 << 14  # of most files, which need no larger buffer
_BLOCK = 1 << 18  # stays in the processor's cache between reading and hashing


class Signature(NamedTuple):
    """Fields of a stat that reveal changes of a file: every edit changes at least one of them, and so does a touch."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def signature(path: Path | str) -> Signature | None:
    """Return the signature of the file at `path` (links followed), or None if there is no such file.

    Pipes, sockets and devices do not count as files, because opening one may block for ever.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - thousands of files
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return None
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def hash_file(path: Path | str) -> str:
    """Return the xxh3_128 of the file's bytes, 32 hex digits; the GIL is released.

    A directory counts as empty: its files are inputs of their own.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return hash_open(file)
    except IsADirectoryError:
        return xxhash.xxh3_128_hexdigest(b"")
    finally:
        os.close(file)


def hash_file_twice(path: Path | str) -> tuple[str, str]:
    """Return the xxh3_128 (to detect damage) and the SHA-256 (to detect forgery) of the file's bytes."""
    import hashlib  # imported late: few runs need it

    fast, safe = xxhash.xxh3_128(), hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            fast.update(block)
            safe.update(block)
    return fast.hexdigest(), safe.hexdigest()


def hash_open(file: int) -> str:
    """Return the xxh3_128 of an open file's bytes from the current position, 32 hex digits."""
    start = os.read(file, _SMALL)
    more = os.read(file, _SMALL) if start else b""
    if not more:
        return xxhash.xxh3_128_hexdigest(start)
    state = xxhash.xxh3_128(start)
    state.update(more)
    buffer = bytearray(_BLOCK)
    block = memoryview(buffer)
    while n := os.readv(file, [buffer]):
        state.update(block[:n])
    return state.hexdigest()
