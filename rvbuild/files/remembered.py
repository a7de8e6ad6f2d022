"""What was read of vector files lately: labels are read for their digest, then, often in one process, for their use.

The content of a file counts: it may change twice within one tick of the clock of its file system.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import xxhash

from rvbuild.files.urls import Url
from rvbuild.files.zipped import Zipped

MOST_BYTES = 64 << 20
"""Of the files that are remembered, all together."""

Read = TypeVar("Read")


class _Content(NamedTuple):
    size: int
    digest: str


class Remembered(Generic[Read]):
    """The last results of reading files, of GeoJSON alone: other formats keep parts of a file in files beside it."""

    def __init__(self) -> None:
        self._results: dict[Hashable, tuple[_Content, Read]] = {}  # the last one at the end
        self._lock = threading.Lock()  # files are read in several threads

    def read(self, path: Path, asked_for: Hashable, read: Callable[[], Read]) -> Read:
        """Return what `read` returned when the file had its present content, or else what it returns now.

        Parameters
        ----------
        path
            The file.
        asked_for
            What is read of it.
        read
            Reads it.
        """
        before, question = _content(path), (path, asked_for)
        known = self._results.get(question)
        if before is not None and known is not None and known[0] == before:
            return known[1]
        result = read()
        if before is not None and before == _content(path):
            with self._lock:
                self._results.pop(question, None)
                self._results[question] = before, result
                while sum(content.size for content, _ in self._results.values()) > MOST_BYTES:
                    del self._results[next(iter(self._results))]
        return result


def _content(path: Path) -> _Content | None:
    """Return the content of a file; None if nothing is remembered of it."""
    if path.suffix != ".geojson" or isinstance(path, Url | Zipped):
        return None
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    return _Content(len(data), xxhash.xxh3_128_hexdigest(data))
