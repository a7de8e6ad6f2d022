"""Features of a shapefile: records of its files are changed, and all others keep their bytes and their ids.

A removed feature is marked as deleted in the table, as OGR does it, so that no other gets its id; programs that write
the file anew drop it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely

from rvbuild.errors import DataError
from rvbuild.review.edits.edit import Edit

_POINT, _POLYGON = 1, 5
_HEADER = 100
_INDEXES = (".qix", ".sbn", ".sbx", ".QIX", ".SBN", ".SBX")
"""Spatial indexes, which would be wrong after a change of geometries."""


class _Field(NamedTuple):
    name: bytes
    type: str
    length: int
    decimals: int
    offset: int
    """In a record."""


def edit_shapefile(path: Path, edits: Sequence[Edit], encoding: str | None = None) -> None:
    """Edit features by their ids, which are places of records.

    Parameters
    ----------
    path
        The `.shp`; the files beside it are changed, too.
    edits
        What to do.
    encoding
        Of texts, if the project names one.

    Raises
    ------
    DataError
        The files are no shapefile of polygons or points, or a value does not fit into its field.
    """
    try:
        _edit(path, edits, encoding)
    except (OSError, struct.error, ValueError, IndexError) as error:
        raise DataError(f"{path}: cannot be edited as a shapefile: {error}") from error


def _edit(path: Path, edits: Sequence[Edit], encoding: str | None) -> None:
    dbf, shx = _beside(path, ".dbf"), _beside(path, ".shx")
    table = _Table(dbf, encoding or _declared(path))
    shapes: dict[int, Any] = {}
    # New ones first: those that they are like may be changed or removed.
    for edit in sorted(edits, key=lambda edit: edit.action != "add"):
        if edit.action == "add":
            place = table.append(edit)
            shapes[place] = edit.shape
            continue
        place = int(str(edit.id))
        if edit.action == "remove":
            table.delete(place)
        else:
            table.change(place, edit.values)
            if edit.shape is not None:
                shapes[place] = edit.shape
    if shapes:
        _write_shapes(path, shx, shapes)
        for ending in _INDEXES:
            path.with_suffix(ending).unlink(missing_ok=True)
    dbf.write_bytes(table.data)


class _Table:
    """The attributes, a dBase file."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.data, self._encoding = path, bytearray(path.read_bytes()), encoding
        head: tuple[int, int, int] = struct.unpack_from("<IHH", self.data, 4)
        self._count, self._start, self._length = head
        self._fields: list[_Field] = []
        place, offset = 32, 1
        while self.data[place] != 0x0D:
            name, kind, length, decimals = struct.unpack_from("<11sc4xBB", self.data, place)
            field = _Field(name.split(b"\0")[0], kind.decode("ascii"), length, decimals, offset)
            self._fields.append(field)
            offset += length
            place += 32

    def change(self, place: int, values: Mapping[str, object]) -> None:
        """Set values of a record."""
        start = self._record(place)
        for name, value in values.items():
            field = self._field(name)
            text = self._text(field, value)
            self.data[start + field.offset : start + field.offset + field.length] = text

    def delete(self, place: int) -> None:
        """Mark a record as deleted."""
        self.data[self._record(place)] = ord("*")

    def append(self, edit: Edit) -> int:
        """Add the record of a new feature; return its place."""
        place, end = self._count, self._start + self._count * self._length
        self.data[end:end] = b" " * self._length
        self._count += 1
        struct.pack_into("<I", self.data, 4, self._count)
        self.change(place, edit.values)
        if edit.shared is not None:
            start, other = self._record(place), self._record(int(str(edit.shared.id)))
            for field in map(self._field, edit.shared.names):
                first, last = field.offset, field.offset + field.length
                self.data[start + first : start + last] = self.data[other + first : other + last]
        return place

    def _record(self, place: int) -> int:
        if not 0 <= place < self._count:
            raise ValueError(f"there is no record {place}")
        return self._start + place * self._length

    def _field(self, name: str) -> _Field:
        field = next((f for f in self._fields if f.name == name.encode(self._encoding)), None)
        if field is None:
            raise ValueError(f"there is no attribute {name!r}")
        return field

    def _text(self, field: _Field, value: object) -> bytes:
        if field.type in "NF":
            number = float(str(value))
            text = f"{number:.{field.decimals}f}".rjust(field.length).encode("ascii")
        elif field.type == "C":
            text = str(value).encode(self._encoding).ljust(field.length)
        else:
            raise ValueError(f"the attribute {field.name!r} is of the type {field.type}, which holds no class")
        if len(text) > field.length:
            raise ValueError(
                f"{value!r} does not fit into the {field.length} bytes of {field.name.decode('latin-1')!r}"
            )
        return text


def _write_shapes(path: Path, shx: Path, shapes: Mapping[int, Any]) -> None:
    """Write the geometries anew, with some changed or added; all others keep their bytes."""
    data, index = path.read_bytes(), shx.read_bytes()
    (kind,) = struct.unpack_from("<i", data, 32)
    if kind not in (_POINT, _POLYGON):
        raise ValueError("holds other shapes than polygons or points, or has heights or measures")
    contents = []
    for place in range((len(index) - _HEADER) // 8):
        offset, length = struct.unpack_from(">ii", index, _HEADER + 8 * place)
        contents.append(data[2 * offset + 8 : 2 * offset + 8 + 2 * length])
    for place, shape in sorted(shapes.items()):
        content = _content(kind, shape)
        if place == len(contents):
            contents.append(content)
        else:
            contents[place] = content
    body, entries, place = bytearray(), bytearray(), _HEADER // 2
    for number, content in enumerate(contents, 1):
        body += struct.pack(">ii", number, len(content) // 2) + content
        entries += struct.pack(">ii", place, len(content) // 2)
        place += 4 + len(content) // 2
    box = np.array(struct.unpack_from("<4d", data, 36))
    new = shapely.total_bounds(list(shapes.values()))
    bounds = np.array([*np.minimum(box[:2], new[:2]), *np.maximum(box[2:], new[2:])])
    for file, head, rest in ((path, data, body), (shx, index, entries)):
        header = bytearray(head[:_HEADER])
        struct.pack_into(">i", header, 24, (_HEADER + len(rest)) // 2)
        struct.pack_into("<4d", header, 36, *bounds)
        file.write_bytes(bytes(header + rest))


def _content(kind: int, shape: Any) -> bytes:
    """Return the content of a record."""
    if kind == _POINT:
        if shape.geom_type != "Point":
            raise ValueError(f"holds points, not a {shape.geom_type}")
        return struct.pack("<i2d", kind, shape.x, shape.y)
    if shape.geom_type not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"holds polygons, not a {shape.geom_type}")
    # Outer rings are clockwise here.
    parts = shapely.get_parts(shapely.orient_polygons(shape, exterior_cw=True))
    rings = [shapely.get_coordinates(ring) for part in parts for ring in (part.exterior, *part.interiors)]
    starts = np.cumsum([0, *(len(ring) for ring in rings)])[:-1]
    points = np.concatenate(rings).astype("<f8")
    head = struct.pack("<i4d2i", kind, *shape.bounds, len(rings), len(points))
    return head + starts.astype("<i4").tobytes() + points.tobytes()


def _beside(path: Path, ending: str) -> Path:
    """Return the file of a shapefile with an ending, in lower or upper case."""
    found = next((each for each in (path.with_suffix(ending), path.with_suffix(ending.upper())) if each.exists()), None)
    if found is None:
        raise ValueError(f"{path.stem}{ending} is missing")
    return found


def _declared(path: Path) -> str:
    """Return the encoding of texts that a `.cpg` file declares; else that which OGR assumes."""
    for ending in (".cpg", ".CPG"):
        declaration = path.with_suffix(ending)
        if declaration.exists():
            text = declaration.read_text(encoding="ascii", errors="replace").strip()
            text = f"cp{text}" if text.isdigit() and len(text) < 5 else text
            try:
                "".encode(text)
            except LookupError:
                break
            return text
    return "ISO-8859-1"
