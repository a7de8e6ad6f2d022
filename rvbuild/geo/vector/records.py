"""Features one by one, as their file has them, and the choice among them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rvbuild.errors import nearest
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


class Choice:
    """The features of a file that are asked for, and what is asked of them."""

    def __init__(self, attributes: Sequence[str], where: Sequence[Any] | None, tests: Sequence[Sequence[Any]]) -> None:
        self._attributes, self._where, self._tests = attributes, where, tests
        self.asked = {name for test in (*tests, *([where] if where else ())) for name in filters.compared(test)}
        self.wanted = {*self.asked, *attributes}
        self.names = dict[str, None]()
        """The attributes of the features of a GeoJSON."""
        self.unknown = False
        """Whether an attribute that is wanted is missing somewhere."""
        self.values: list[Mapping[str, object]] = []
        self.numbers: list[int] = []
        self.ids: list[object] = []
        self.passed: list[int | None] = []
        self._nowhere: list[int] = []
        self._left_out = 0

    def take(self, records: Iterable[Record], is_geojson: bool, add: Callable[[Any], None] | None = None) -> None:
        """Choose among the records of a file, and add the geometries of those that are chosen."""
        for number, record in enumerate(records):
            if record.geometry is None:
                self._nowhere.append(number)
                continue
            if self.wanted and is_geojson:
                self.names.update(dict.fromkeys(record.properties))
            elif not self.unknown:
                self.unknown = any(record.get(name) is None for name in self.wanted)
            if self._where is not None and not filters.matches(self._where, record.get):
                self._left_out += 1
                continue
            if add is not None:
                add(record.geometry)
            self.values.append({name: record.get(name) for name in self._attributes})
            self.numbers.append(number)
            self.ids.append(record.id)
            self.passed.append(next((n for n, t in enumerate(self._tests) if filters.matches(t, record.get)), None))

    def notes(self, path: Path) -> Iterator[str]:
        """Yield what may not be meant."""
        if self._nowhere:
            yield f"{path}: {features_have(self._nowhere)} no geometry and was left out"
        if self.asked and self.names and (absent := absent_of(self.asked, self.names)):
            yield f"{path}: none of its features has an attribute {absent}"
        if self._left_out and not self.numbers:
            yield f"{path}: none of its {self._left_out} features passes `where`"


def features_have(numbers: Sequence[int], noun: str = "feature") -> str:
    """Return the beginning of a note about some features, by their places in the file."""
    if len(numbers) == 1:
        return f"{noun} {numbers[0]} (from 0) has"
    return f"each of {len(numbers)} {'boxes' if noun == 'box' else f'{noun}s'}, the first is {numbers[0]} (from 0), has"


def absent_of(asked: Iterable[str], names: Iterable[str]) -> str:
    """Return which attributes of filters are not among those that there are, with the nearest of these."""
    known = set(names)
    absent = sorted(name for name in asked if not {name, name.split(".")[0]} & known)
    return ", ".join(f"`{name}`{nearest(name, known)}" for name in absent)
