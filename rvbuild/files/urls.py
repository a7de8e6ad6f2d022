"""Files elsewhere as paths: `https://…`, `s3://…` and `gs://…`."""

from __future__ import annotations

import errno
import io
import re
from dataclasses import dataclass, field
from pathlib import Path, PosixPath
from typing import Any, Self
from urllib.parse import urlsplit

SCHEMES = ("https", "http", "s3", "gs")
"""What a file elsewhere can begin with."""

_URL = re.compile(rf"(?:{'|'.join(SCHEMES)})://", re.IGNORECASE)


_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def is_url(text: str) -> bool:
    """Tell whether a path that a user wrote is that of a file elsewhere.

    >>> is_url("https://x.org/a.tif"), is_url("data/a.tif")
    (True, False)
    """
    return _URL.match(text) is not None


def to_path(text: str) -> Path:
    """Return a local path, or the `Url` of a file elsewhere."""
    return Url(text) if is_url(text) else Path(text)


def url_problem(text: str) -> str | None:
    """Return what is wrong with the address of a file elsewhere, or None. Nobody is asked.

    >>> url_problem("https:///a.tif")
    'the address names no server'
    """
    bucket = text[:5].lower() in ("s3://", "gs://")
    if not is_url(text):
        return f"the address begins with none of {', '.join(f'{scheme}://' for scheme in SCHEMES)}"
    if _UNWRITABLE.search(text):
        return "the address holds a character that cannot be in one"
    if bucket:
        return None if text[5:].partition("/")[0] else "the address names no bucket"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
        if not host:
            return "the address names no server"
        host.encode("idna")
    except ValueError as error:  # of a port, of brackets, of a name that no server can have
        return f"the server's name or port cannot be right ({error})"
    return None


class UnreachableError(Exception):
    """A server does not answer, or not with the file; the message says how."""


CONTENT = "content"
"""What `Identity.by` says of a file that had to be read."""


@dataclass(frozen=True)
class Identity:
    """What tells one state of a file from another.

    Attributes
    ----------
    by : str
        `ETag`, `Last-Modified and size`, or `content`.
    digest : str
        32 hex digits; of the content, or of address, size and what the server says.
    changed : str
        When the file was changed last as its server says, whether or not that is part of the digest; may be empty.
    asked : str
        When the server was asked, by its own clock; may be empty.
    """

    by: str
    digest: str
    changed: str = field(default="", compare=False)
    asked: str = field(default="", compare=False)

    def is_other_than(self, before: Identity) -> bool:
        """Tell whether the file is another than when the server said `before`, or was written again meanwhile.

        Copies of one file on several machines may have times of their own: those of before the first question do not
        count.
        """
        if self.digest != before.digest:
            return True
        if not self.changed or self.changed == before.changed:
            return False
        from email.utils import parsedate_to_datetime  # takes longer to import than all else here

        try:
            return parsedate_to_datetime(self.changed) >= parsedate_to_datetime(before.asked)
        except (ValueError, TypeError):  # the server does not tell its time
            return True


class Url(PosixPath):
    """The address of a file elsewhere, where the path of a file is expected.

    Its text and its `name`, `stem` and `suffix` are those of the address. It can be opened to read a small file as a
    whole; nothing else of a path that looks at the file system means anything.
    """

    _url: str

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
        try:
            return urlsplit(self._url).path.rpartition("/")[2]
        except ValueError:  # see `url_problem`, which is said where the server would be asked
            return self._url.rpartition("/")[2]

    def open(self, mode: str = "r", *_: Any, encoding: str | None = None, **__: Any) -> Any:
        """Open the file for reading: all of it is fetched.

        Raises
        ------
        OSError
            The server does not answer, or not with the file.
        """
        from rvbuild.files.fetch import read  # what asks servers is loaded where there are some

        if set(mode) - set("rbt"):
            raise OSError(f"{self}: a file elsewhere cannot be written")
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
