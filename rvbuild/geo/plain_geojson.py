"""GeoJSON collections of plain polygons, which most labels are: parsed once, and after an edit only where they differ.

A program that saves an edit writes most of a file as it was. What lies before the first difference and after the last
one is known; JSON has no state that could change its meaning. All else, from points to damaged files, is left to GDAL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild.files.urls import Url
from rvbuild.files.zipped import Zipped
from rvbuild.geo.vector.records import Record
from rvbuild.geo.vector.shapes import plain_polygons

MOST_BYTES = 16 << 20
"""Of the files that are remembered, all together."""

SUFFIX = ".geojson"

_POLYGON = {"type": "Polygon"}
"""The geometry of a record, without its coordinates."""

_FEATURE = {
    "type": "Feature",
    "properties": {},
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
}

_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\n\r]*")
_KNOWN_ELEMENT = "{}"
_decoder = json.JSONDecoder()


class Elements(NamedTuple):
    """Features of a collection, and where they are in its file."""

    starts: NDArray[np.int64]
    """(N,) the place of the first byte of each."""
    stops: NDArray[np.int64]
    """(N,) the place after its last byte."""
    geometries: NDArray[np.object_]
    """(N,) polygons without holes, two-dimensional."""
    properties: list[Mapping[str, object]]
    ids: list[Any]

    def part(self, start: int, stop: int, shift: int = 0) -> Elements:
        """Return some of them, whose places are shifted."""
        some = slice(start, stop)
        places = self.starts[some] + shift, self.stops[some] + shift
        return Elements(*places, self.geometries[some], self.properties[some], self.ids[some])

    def records(self) -> Iterator[Record]:
        """Yield them as records."""
        for properties, id_ in zip(self.properties, self.ids, strict=True):
            yield Record(_POLYGON, properties, id_)

    def plus(self, other: Elements) -> Elements:
        """Return these and others."""
        arrays = (np.concatenate(both) for both in zip(self[:3], other[:3], strict=True))
        starts, stops, geometries = arrays
        return Elements(starts, stops, geometries, self.properties + other.properties, self.ids + other.ids)


class Collection(NamedTuple):
    """A file that holds a collection of plain polygons, with at least one."""

    data: bytes
    first: int
    """The place after the bracket that opens its list of features."""
    last: int
    """The place of the bracket that closes it."""
    crs: CRS | None
    elements: Elements


class _NotPlainError(Exception):
    """The file holds something else, or is no JSON."""


CrsOf = Callable[[bytes], tuple[str, CRS | None]]
"""Returns the driver of GDAL that reads a GeoJSON, and the CRS that it finds."""


def read(path: Path, crs_of: CrsOf) -> Collection | None:
    """Return the collection in a file; None if it holds anything but plain polygons.

    Parameters
    ----------
    path
        The file.
    crs_of
        Understands what a collection says of its CRS.
    """
    try:
        if path.suffix != SUFFIX or isinstance(path, Url | Zipped) or path.stat().st_size > MOST_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    known = _known.pop(path, None)
    try:
        collection = (None if known is None else _edited(known, data)) or _parsed(data, crs_of)
    except (_NotPlainError, ValueError, RecursionError):
        return None
    _known[path] = collection  # the last one at the end
    for other in list(_known):
        if sum(len(each.data) for each in list(_known.values())) <= MOST_BYTES:
            break
        _known.pop(other, None)
    return collection


_known: dict[Path, Collection] = {}


def _parsed(data: bytes, crs_of: CrsOf) -> Collection:
    """Parse a file."""
    data.decode("utf-8")  # all of it is text
    text = data.decode("latin-1")  # a character for each byte; none of those that matter is another one here
    at = _expect(text, len(_BOM) if data.startswith(_BOM) else 0, "{")
    members, first, last = dict[str, Any](), 0, 0
    elements: Elements | None = None
    while True:
        name, at = _decoder.raw_decode(text, _skip(text, at))
        if not isinstance(name, str) or not name.isascii():
            raise _NotPlainError
        at = _skip(text, _expect(text, at, ":"))
        if name == "features" and elements is None:
            first = _expect(text, at, "[")
            elements, last = _elements(text, first)
            at = last + 1
        elif name == "features" or name in members:
            raise _NotPlainError
        else:
            start = at
            _, at = _decoder.raw_decode(text, at)
            members[name] = json.loads(data[start:at])
        at = _skip(text, at)
        if text[at : at + 1] != ",":
            break
        at += 1
    end = _expect(text, at, "}")
    if _skip(text, end) < len(text) or members.get("type") != "FeatureCollection":
        raise _NotPlainError
    if elements is None or not elements.ids:
        raise _NotPlainError
    # Of many features as of one: it does not depend on what polygons of two dimensions are like.
    driver, crs = crs_of(json.dumps({**members, "features": [_FEATURE]}).encode())
    if driver != "GeoJSON":
        raise _NotPlainError
    return Collection(data, first, last, crs, elements)


def _edited(known: Collection, data: bytes) -> Collection | None:
    """Return a file, given what it was before; None if it differs outside its features."""
    shift = len(data) - len(known.data)
    before, after = _alike(known.data, data)
    stop = len(known.data) - after
    if before < known.first or stop > known.last:
        return None
    kept = int(np.searchsorted(known.elements.stops, before, side="right"))
    rest = int(np.searchsorted(known.elements.starts, stop))
    count = len(known.elements.ids)
    middle = slice(
        int(known.elements.stops[kept - 1]) if kept else known.first,
        (int(known.elements.starts[rest]) if rest < count else known.last) + shift,
    )
    # What is known before and after stands as one element each.
    opening, closing = (_KNOWN_ELEMENT if kept else ""), (_KNOWN_ELEMENT if rest < count else "")
    changed = data[middle]
    changed.decode("utf-8")
    text = f"{opening}{changed.decode('latin-1')}{closing}]"
    found, last = _elements(text, 0, len(opening), len(text) - 1 - len(closing))
    if last != len(text) - 1:
        raise _NotPlainError
    parts = (
        known.elements.part(0, kept),
        found.part(0, len(found.ids), middle.start - len(opening)),
        known.elements.part(rest, count, shift),
    )
    elements = parts[0].plus(parts[1]).plus(parts[2])
    if not elements.ids:
        return None
    return Collection(data, known.first, known.last + shift, known.crs, elements)


def _alike(one: bytes, other: bytes) -> tuple[int, int]:
    """Return how many bytes are alike at the beginnings of both, and how many of the rest at their ends."""
    length = min(len(one), len(other))
    a, b = (np.frombuffer(data, dtype=np.uint8) for data in (one, other))
    before = _first(a[:length] != b[:length])
    after = _first(a[::-1][: length - before] != b[::-1][: length - before])
    return before, after


def _first(different: NDArray[np.bool_]) -> int:
    at = int(different.argmax()) if len(different) else 0
    return at if at < len(different) and different[at] else len(different)


def _elements(text: str, at: int, known: int = 0, until: int | None = None) -> tuple[Elements, int]:
    """Return the features from a place behind an opening bracket, and the place of the bracket that closes the list.

    What starts before `known` or at `until` is none, and left out.
    """
    starts, stops = list[int](), list[int]()
    features = list[Any]()
    at = _skip(text, at)
    while text[at : at + 1] != "]" or starts:
        value, stop = _decoder.raw_decode(text, at)
        starts.append(at)
        stops.append(stop)
        features.append(value)
        at = _skip(text, stop)
        if text[at : at + 1] != ",":
            break
        at = _skip(text, at + 1)
    if text[at : at + 1] != "]":
        raise _NotPlainError
    some = slice(sum(start < known for start in starts), len(starts) - sum(start >= (until or at) for start in starts))
    return _made(text, starts[some], stops[some], features[some]), at


def _made(text: str, starts: Sequence[int], stops: Sequence[int], features: Sequence[Any]) -> Elements:
    """Return parsed features as elements."""
    rings, properties, ids = list[Any](), list[Mapping[str, object]](), list[Any]()
    geometries: NDArray[np.object_] | None = np.empty(0, dtype=object)
    for start, stop, value in zip(starts, stops, features, strict=True):
        feature = value if isinstance(value, dict) else {}
        part = text[start:stop]
        if not part.isascii():
            feature = json.loads(part.encode("latin-1"))
        geometry, said = feature.get("geometry"), feature.get("properties") or {}
        if not isinstance(geometry, dict) or geometry.get("type") != "Polygon" or not isinstance(said, dict):
            raise _NotPlainError
        coordinates = geometry.get("coordinates")
        if not isinstance(coordinates, list) or len(coordinates) != 1 or not isinstance(coordinates[0], list):
            raise _NotPlainError
        rings.append(coordinates[0])
        properties.append(said)
        ids.append(feature.get("id"))
    if rings:
        geometries = plain_polygons(rings)
    if geometries is None:
        raise _NotPlainError
    return Elements(np.array(starts, dtype=np.int64), np.array(stops, dtype=np.int64), geometries, properties, ids)


def _skip(text: str, at: int) -> int:
    """Return the place of the next character that is no space."""
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _expect(text: str, at: int, what: str) -> int:
    """Return the place after a character that must come next."""
    at = _skip(text, at)
    if text[at : at + 1] != what:
        raise _NotPlainError
    return at + 1
