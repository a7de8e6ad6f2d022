"""Explanations why a vector file cannot be read, where GDAL's message is not enough."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from rvbuild.files.urls import Url

_LIMIT = "OGR_GEOJSON_MAX_OBJ_SIZE"
_DEFAULT_MB = "200"

_TOO_LONG = "Too many characters in number"
"""GDAL's message, also for strings in JSON."""


def why(path: Path, error: BaseException) -> str:
    """Return why `path` cannot be read, from the error of the library that tried, and its causes."""
    if any(_LIMIT in str(cause) for cause in _chain(error)):
        return (
            f"one of its features needs more than {os.environ.get(_LIMIT, _DEFAULT_MB)} MB of memory (GDAL's {_LIMIT}, "
            "which rvbuild fixes); cut the feature into parts, or save it as a GeoPackage (.gpkg)"
        )
    first = [*_chain(error)][-1]
    if _TOO_LONG in str(first):
        at = str(first).partition(_TOO_LONG)[0].rstrip(": ").lower()
        return f"a string in it is longer than the 10 MB that GDAL reads, {at}; remove that attribute"
    return _no_json(path) or str(first).strip()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _no_json(path: Path) -> str:
    """Return the place where a JSON file is invalid; empty if it is valid or not JSON."""
    if path.suffix.lower() not in (".geojson", ".json") or isinstance(path, Url):
        return ""
    try:
        json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        return f"it is not JSON, at line {error.lineno}, column {error.colno}: {error.msg}. Is the file complete?"
    except (ValueError, OSError, RecursionError) as error:
        return str(error)
    return ""
