"""Features one by one, as their file has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rvbuild.language import filters

SINGLE = {
    "MultiPoint": "Point",
    "MultiLineString": "LineString",
    "LinearRing": "LineString",
    "MultiPolygon": "Polygon",
}
"""Type of a geometry of several parts → type of the parts."""


class Origin(NamedTuple):
    """Where a label comes from."""

    file: int
    """The place of its file among those of the scene's labels, from 0."""
    place: int
    """Its place among the features or boxes that are read of the file, from 0."""
    number: int
    """Its place among all that the file has, from 0."""
    layer: str | None
    """The layer; None in files without layers."""
    id: object
    """The id that the file gives it; None if it gives none."""


class Record(NamedTuple):
    """A feature as its file has it."""

    geometry: Any
    properties: Mapping[str, object]
    id: Any

    def get(self, name: str) -> Any:
        """Return an attribute, or `$type` or `$id`; None if there is none."""
        if name == "$type":
            kind = str(self.geometry["type"])
            return SINGLE.get(kind, kind)
        return self.id if name == "$id" else filters.lookup(self.properties, name)


def records_of(path: Path, collection: Any) -> Iterator[Record]:
    """Give each feature of an open collection of fiona.

    A GeoJSON collection is read without OGR, which gives a property one type for the whole file: fiona fails on those
    that hold texts in one feature and numbers in another.
    """
    if collection.driver == "GeoJSON":
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        if value.get("type") == "FeatureCollection":
            for feature in value["features"]:
                yield Record(feature.get("geometry"), feature.get("properties") or {}, feature.get("id"))
            return
    for feature in collection:
        yield Record(feature.geometry, feature.properties, feature.id)
