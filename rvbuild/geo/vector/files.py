"""Vector files as they are read. With `rvbuild.geo.write.vectors.layer`, which writes them, all that knows fiona.

Features come as shapely geometries with the attributes that were asked for, in file order. Their canonical digest says
whether two files mean the same, whatever their formatting.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import fiona
import fiona.errors
import numpy as np
import shapely
import shapely.geometry
import xxhash
from fiona.io import MemoryFile
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild.errors import DataError, nearest
from rvbuild.files import budget
from rvbuild.files.plain_xml import require_no_document_type
from rvbuild.files.readers import reading
from rvbuild.files.remembered import Remembered
from rvbuild.files.urls import Url
from rvbuild.files.zipped import Zipped
from rvbuild.geo import plain_geojson
from rvbuild.geo.gdal import admission, quiet
from rvbuild.geo.gdal.drivers import vector_drivers
from rvbuild.geo.vector import unreadable
from rvbuild.geo.vector.reading import Reading
from rvbuild.geo.vector.records import Choice, absent_of, records_of
from rvbuild.geo.vector.shapes import FEWER, Gathered, NoGeometryError

Geometries = NDArray[np.object_]


_UNREADABLE = (fiona.errors.FionaError, OSError, ValueError, TypeError, LookupError, AttributeError)

_ANY_BYTES = "ISO-8859-1"
"""An encoding that any bytes are a text in."""

_PARSED_WHOLE = (".geojson", ".json")
"""Files that are read as a whole, whatever is wanted of them."""


@dataclass(frozen=True)
class Features:
    """The features of one vector file that were asked for and have a geometry, in file order."""

    path: Path
    geometries: Geometries
    """(N,) shapely geometries, two-dimensional, in `crs`."""
    attributes: tuple[Mapping[str, object], ...]
    """Per feature, the attributes that were asked for; None where a feature or the file lacks one."""
    numbers: tuple[int, ...]
    """Per feature, its place in the file, from 0; features without geometry count too."""
    crs: CRS | None
    implied_crs: bool
    """The CRS is the one that every GeoJSON has unless it says otherwise, so it may mean nothing."""
    passed: tuple[int | None, ...]
    """Per feature, the place of the first of the `tests` that it passes, or None."""
    notes: tuple[str, ...] = ()
    """What may not be meant, a line each."""
    columns: tuple[str, ...] = ()
    """The attributes that the features of the file have, if attributes were asked for."""
    ids: tuple[object, ...] = ()
    """Per feature, the id that the file gives it; None where a GeoJSON gives none."""
    layer: str | None = None
    """The layer that was read; None of a GeoJSON, which has one."""


def read_features(
    path: Path,
    *,
    layer: str | None = None,
    attributes: Sequence[str] = (),
    where: Sequence[Any] | None = None,
    tests: Sequence[Sequence[Any]] = (),
    encoding: str | None = None,
) -> Features:
    """Read the features of a vector file in any format that fiona opens.

    Parameters
    ----------
    path, layer
        The file, and one of its layers; None for the only one that has geometries.
    attributes
        The attributes to read.
    where
        Leave out features that do not pass this filter, see `rvbuild.language.filters`.
    tests
        Filters of which to say for each feature which it passes first.
    encoding
        Of the texts in the file; None for what the file says, or else its format.

    Raises
    ------
    DataError
        The file cannot be read, or leads where nothing may be read; `layer` does not exist, or there are several layers
        and none is named; a geometry is none; a text is not in the encoding; or a filter compares an attribute that the
        layer does not have.
    """

    def read() -> Features:
        with reading(path, "as a vector file"), _placed(path) as place:
            features = _read(path, place, layer, attributes, where, tests, encoding)
        features.geometries.flags.writeable = False
        return features

    return _remembered.read(path, (layer, tuple(attributes), repr(where), repr(tests), encoding), read)


def layer_of(path: Path, layer: str | None = None) -> tuple[str | None, CRS | None]:
    """Return the name and the CRS of the layer that `read_features` would read; no name of a GeoJSON, which has one.

    Raises
    ------
    DataError
        The file cannot be read, or has no such layer.
    """
    with reading(path, "as a vector file"), _placed(path) as place:
        try:
            with place.open(layer=_layer(path, place, layer)) as collection:
                crs = CRS.from_wkt(collection.crs.to_wkt()) if collection.crs else None
                return (None if collection.driver == "GeoJSON" else str(collection.name)), crs
        except _UNREADABLE as error:
            raise DataError(f"{path}: cannot be read as a vector file: {unreadable.why(path, error)}") from error


_remembered = Remembered[Features]()


class _Place(NamedTuple):
    """How GDAL opens a file: with some drivers alone, and without a trace."""

    name: Any
    drivers: list[str]
    options: Mapping[str, str]

    def open(self, **options: Any) -> Any:
        """Open a layer with fiona, whose own list of formats lacks virtual files and KML."""
        return fiona.open(
            self.name, enabled_drivers=self.drivers, allow_unsupported_drivers=True, **self.options, **options
        )

    def layers(self) -> list[str]:
        """Return the names of the layers."""
        return list(fiona.listlayers(self.name, **self.options))


@contextlib.contextmanager
def _placed(path: Path) -> Iterator[_Place]:
    admission.require(path)
    if not isinstance(path, Url | Zipped) and path.is_file():
        require_no_document_type(path)
        if path.suffix.lower() in _PARSED_WHOLE:
            needed = budget.PARSED_TIMES * path.stat().st_size
            budget.require(needed, f"{path}: reading it", FEWER)
    with quiet.undisturbed(path) as there:
        name = there.gdal() if isinstance(there, Url) else there
        yield _Place(name, vector_drivers(path.suffix), quiet.options(path))


def _read(
    path: Path,
    place: _Place,
    layer: str | None,
    attributes: Sequence[str],
    where: Sequence[Any] | None,
    tests: Sequence[Sequence[Any]],
    encoding: str | None,
) -> Features:
    choice = Choice(attributes, where, tests)
    try:
        plain = plain_geojson.read(path, _crs_of) if layer is None and encoding is None else None
        if plain is not None:
            choice.take(plain.elements.records(), is_geojson=True)
            crs, columns, name, is_geojson = plain.crs, list[str](), None, True
            geometries = plain.elements.geometries[choice.numbers]
        else:
            layer = _layer(path, place, layer)
            shapes = Gathered(path)
            with place.open(layer=layer, encoding=encoding) as opened:
                crs = CRS.from_wkt(opened.crs.to_wkt()) if opened.crs else None
                is_geojson = opened.driver == "GeoJSON"
                name = None if is_geojson else str(opened.name)
                if is_geojson and encoding is not None:
                    raise DataError(f"{path}: is GeoJSON, which is always UTF-8; remove `encoding`")
                if opened.schema["geometry"] == "None" and not is_geojson:
                    raise DataError(f"{path}: is a table without geometries")
                columns = [] if is_geojson else list(opened.schema["properties"])
                if columns and (absent := absent_of(choice.asked, columns)):
                    raise DataError(
                        f"{path}: has no attribute {absent}, which `where` or `class_where` compares; there are "
                        f"{some(columns)}"
                    )
                choice.take(records_of(path, opened), is_geojson, shapes.add)
                geometries = shapes.finish()
            if choice.unknown:
                _refuse_undecoded(path, place, layer, choice.wanted & set(columns))
    except NoGeometryError as error:
        raise DataError(f"{path}: feature {choice.numbers[error.at]} (from 0) {error}") from error
    except (*_UNREADABLE, shapely.errors.ShapelyError) as error:
        raise DataError(f"{path}: cannot be read as a vector file: {unreadable.why(path, error)}") from error
    return Features(
        path,
        geometries,
        tuple(choice.values),
        tuple(choice.numbers),
        crs,
        is_geojson and crs is not None and crs.to_epsg() == 4326,
        tuple(choice.passed),
        tuple(choice.notes(path)),
        tuple(columns or choice.names),
        tuple(choice.ids),
        name,
    )


def _crs_of(content: bytes) -> tuple[str, CRS | None]:
    """Return the driver and the CRS of a GeoJSON, as GDAL understands it."""
    with (
        MemoryFile(content, ext=plain_geojson.SUFFIX) as file,
        fiona.open(
            file.name, enabled_drivers=vector_drivers(plain_geojson.SUFFIX), allow_unsupported_drivers=True
        ) as opened,
    ):
        return str(opened.driver), CRS.from_wkt(opened.crs.to_wkt()) if opened.crs else None


def _layer(path: Path, place: _Place, layer: str | None) -> str | None:
    """Return the layer to read: the one that is named, or the only one that has geometries; None for the only one.

    Others can hold what programs keep for themselves, such as the `layer_styles` of QGIS.
    """
    if layer is None and path.suffix == ".geojson":
        return None  # It has one layer; listing it would parse the whole file once more.
    layers = place.layers()
    if len(layers) == 1 and layer in (None, *layers):
        return layer
    placed = [name for name in layers if _has_geometry(place, name)]
    if layer is None and len(placed) == 1:
        return str(placed[0])
    if not placed:
        raise DataError(f"{path}: has no layer with geometries; it holds the tables {some(layers)}")
    if layer is None:
        raise DataError(f"{path}: has {len(placed)} layers; name one with `layer`: {some(placed)}")
    if layer not in placed:
        problem = f'the layer "{layer}" has no geometries' if layer in layers else f'there is no layer "{layer}"'
        raise DataError(f"{path}: {problem}{nearest(layer, placed)}; its layers are {some(placed)}")
    return layer


def _has_geometry(place: _Place, layer: str) -> bool:
    with place.open(layer=layer) as opened:
        return bool(opened.schema["geometry"] != "None")


def _refuse_undecoded(path: Path, place: _Place, layer: str | None, wanted: Iterable[str]) -> None:
    """Raise a DataError if an attribute is missing only because its text is not in the encoding of the file."""
    with place.open(layer=layer) as as_declared, place.open(layer=layer, encoding=_ANY_BYTES) as read:
        for number, (declared, other) in enumerate(zip(as_declared, read, strict=True)):
            for column in sorted(wanted):
                if declared.properties.get(column) is None and other.properties.get(column) is not None:
                    raise DataError(
                        f"{path}: feature {number} (from 0): its `{column}` is not in the declared encoding of the "
                        f"file; in {_ANY_BYTES} it reads {other.properties[column]!r}. Name the encoding, for "
                        f'example `encoding = "{_ANY_BYTES}"`, beside `vector`'
                    )


def some(columns: Sequence[str]) -> str:
    """Return the first of many names, for messages."""
    return ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")


def digest(paths: Sequence[Path], args: Reading) -> str:
    """Return what a vector file means, as 32 hexadecimal digits (xxh3_128).

    Covers, in file order, of the features that are read: the exact coordinates and types of their geometries, the
    attributes named, which of the tests they pass first, and the CRS. Does not depend on paths, formatting, other
    attributes, a third dimension, or features that are left out.

    Parameters
    ----------
    paths
        The file, and after it those beside it that belong to it.
    args
        What is read of the file.
    """
    state = xxhash.xxh3_128()
    names, tests = sorted(args.get("attributes") or ()), args.get("tests") or ()
    state.update(json.dumps(names).encode())
    read = read_features(
        paths[0],
        layer=args.get("layer"),
        attributes=names,
        where=args.get("where"),
        tests=tests,
        encoding=args.get("encoding"),
    )
    _update(state, [f"file:{len(read.numbers)}", _canonical_crs(read.crs), str(read.implied_crs)])
    shapes = shapely.to_wkb(read.geometries, byte_order=1)
    encode = json.JSONEncoder(default=str).encode
    for shape, values, passed in zip(shapes, read.attributes, read.passed, strict=True):
        state.update(struct.pack("<q", len(shape)) + shape)
        attributes = [values[name] for name in names]
        _update(state, [encode([*attributes, passed] if tests else attributes)])
    return str(state.hexdigest())


def _update(state: Any, texts: Iterable[str]) -> None:
    for text in texts:
        data = text.encode()
        state.update(struct.pack("<q", len(data)))
        state.update(data)


def _canonical_crs(crs: CRS | None) -> str:
    if crs is None:
        return "none"
    authority = crs.to_authority(confidence_threshold=100)
    return ":".join(authority) if authority else str(crs.to_wkt())
