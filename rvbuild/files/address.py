"""Addresses of remote files, as text."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

SCHEMES = ("https", "http", "s3", "gs")
"""The URL schemes of remote files."""

_URL = re.compile(rf"(?:{'|'.join(SCHEMES)})://", re.IGNORECASE)
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def is_url(text: str) -> bool:
    """Tell whether a path as written by a user is the address of a remote file.

    >>> is_url("https://x.org/a.tif"), is_url("data/a.tif")
    (True, False)
    """
    return _URL.match(text) is not None


def url_problem(text: str) -> str | None:
    """Return the problem of the address of a remote file, or None. No request is sent.

    >>> url_problem("https:///a.tif")
    'the address has no server'
    """
    bucket = text[:5].lower() in ("s3://", "gs://")
    if not is_url(text):
        return f"the address does not begin with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}"
    if _UNWRITABLE.search(text):
        return "the address holds an invalid character"
    if bucket:
        return None if text[5:].partition("/")[0] else "the address has no bucket"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
        if not host:
            return "the address has no server"
        host.encode("idna")
    except ValueError as error:  # invalid port, brackets or host name
        return f"the name or port of the server is invalid ({error})"
    return None
