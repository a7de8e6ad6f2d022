"""Files elsewhere as paths: `https://…` and `s3://…`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import Any, Self
from urllib.parse import urlsplit

SCHEMES = ("https", "http", "s3")
"""What a file elsewhere can begin with."""

_URL = re.compile(rf"(?:{'|'.join(SCHEMES)})://", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Tell whether a path that a user wrote is that of a file elsewhere.

    >>> is_url("https://x.org/a.tif"), is_url("data/a.tif")
    (True, False)
    """
    return _URL.match(text) is not None


def to_path(text: str) -> Path:
    """Return a local path, or the `Url` of a file elsewhere."""
    return Url(text) if is_url(text) else Path(text)


class Unreachable(Exception):
    """A server does not answer, or not with the file; the message says how."""


@dataclass(frozen=True)
class Identity:
    """What tells one state of a file from another.

    Attributes
    ----------
    by : str
        `ETag`, `Last-Modified and size`, or `content`.
    digest : str
        32 hex digits; of the content, or of address, size and what the server says.
    """

    by: str
    digest: str


class Url(PosixPath):
    """The address of a file elsewhere, where the path of a file is expected.

    Its text and its `name`, `stem` and `suffix` are those of the address; nothing of a path that looks at the file
    system means anything.
    """

    def __new__(cls, url: str) -> Self:
        """Make a path that keeps its text: a path would make one slash of two."""
        self = super().__new__(cls, url)
        self._url = url
        return self

    def __str__(self) -> str:
        return self._url

    def __fspath__(self) -> str:
        return self._url

    def __reduce__(self) -> tuple[Any, ...]:
        return (Url, (self._url,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and self._url == other._url

    def __hash__(self) -> int:
        return hash(self._url)

    @property
    def name(self) -> str:
        """The last part of the address, without a query."""
        return urlsplit(self._url).path.rpartition("/")[2]

    def gdal(self) -> str:
        """Return the name by which GDAL opens the file.

        >>> Url("s3://bucket/a.tif").gdal()
        '/vsis3/bucket/a.tif'
        """
        if self._url.lower().startswith("s3://"):
            return "/vsis3/" + self._url[5:]
        return "/vsicurl/" + self._url
