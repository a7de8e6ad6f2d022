"""Remote files as paths: `https://…`, `s3://…` and `gs://…`."""

from __future__ import annotations

import errno
import io
from pathlib import Path, PosixPath
from typing import Any, Self
from urllib.parse import urlsplit

from rvbuild.files.address import is_url
from rvbuild.files.identity import UnreachableError


def to_path(text: str) -> Path:
    """Return a local path, or the `Url` of a remote file."""
    return Url(text) if is_url(text) else Path(text)


class Url(PosixPath):
    """The address of a remote file, usable where a path is expected.

    Its text and its `name`, `stem` and `suffix` are those of the address. It can be opened to read a small file as a
    whole; no other method that accesses the file system is meaningful.
    """

    _url: str

    def __new__(cls, url: str) -> Self:
        """Create a path that keeps its text: a plain path would collapse the two slashes."""
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
        try:
            return urlsplit(self._url).path.rpartition("/")[2]
        except ValueError:  # reported by `url_problem` before a request is sent
            return self._url.rpartition("/")[2]

    def open(self, mode: str = "r", *_: Any, encoding: str | None = None, **__: Any) -> Any:
        """Open the file for reading; the whole file is downloaded.

        Raises
        ------
        OSError
            The server does not answer, or does not send the file.
        """
        from rvbuild.files.fetch import read  # imported late: only needed for remote files

        if set(mode) - set("rbt"):
            raise OSError(f"{self}: a remote file cannot be written")
        try:
            content = read(self._url)
        except UnreachableError as error:
            raise OSError(f"{self}: {error}") from None
        if content is None:
            raise FileNotFoundError(errno.ENOENT, "not found on the server", self._url)
        stream = io.BytesIO(content)
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding=encoding)

    def gdal(self) -> str:
        """Return the name by which GDAL opens the file.

        >>> Url("s3://bucket/a.tif").gdal()
        '/vsis3/bucket/a.tif'
        """
        scheme, _, rest = self._url.partition("://")
        bucket = {"s3": "/vsis3/", "gs": "/vsigs/"}.get(scheme.lower())
        return f"/vsicurl/{self._url}" if bucket is None else bucket + rest
