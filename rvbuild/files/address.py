"""Addresses of files elsewhere, as text."""

from __future__ import annotations

import re
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
