"""A small file that names the files that a worker is reading; its parent reads it after a crash."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from rvbuild.files import readers

_BYTES = 4096


def begin(log: str | Path) -> None:
    """Record the files that this process reads from now on in a file beside its log."""
    with _place(log).open("w+b") as file:
        file.truncate(_BYTES)
        area = mmap.mmap(file.fileno(), _BYTES)

    def tell(paths: Sequence[str]) -> None:
        names = b"\n".join(os.fsencode(path) for path in dict.fromkeys(paths))
        area[: _BYTES - 1] = names[: _BYTES - 1].ljust(_BYTES - 1, b"\0")

    readers.watch(tell)


def last(log: Path) -> list[str]:
    """Return the files that the process with this log was reading when it died."""
    try:
        names = _place(log).read_bytes().rstrip(b"\0")
    except OSError:
        return []
    return [os.fsdecode(name) for name in names.split(b"\n")] if names else []


def _place(log: str | Path) -> Path:
    return Path(log).with_suffix(".reading")
