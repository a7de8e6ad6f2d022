"""Vector files as fiona writes them: a layer of features of one type, with the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import fiona
import shapely.geometry
from rasterio.crs import CRS

from rvbuild.files.formats import DRIVERS
from rvbuild.geo.gdal.environment import DETERMINISTIC_ENVIRONMENT

_FIELD_TYPES = {int: "int32", float: "float", str: "str"}


def write_layer(
    path: Path,
    features: Iterable[tuple[object, Mapping[str, object]]],
    fields: Mapping[str, type],
    *,
    geometry: str,
    crs: CRS | None,
    layer: str | None = None,
) -> None:
    """Write features in a format that OGR has a driver for, by the suffix of the file, with the same bytes each time.

    Features are geometries, all of the type `geometry` (`Polygon`, `MultiPolygon` or `Point`), with properties of the
    types in `fields`. The layer is named after the file; a `layer` of another name is added to the file if it exists.
    """
    schema = {"geometry": geometry, "properties": {name: _FIELD_TYPES[kind] for name, kind in fields.items()}}
    records = (
        {"type": "Feature", "properties": dict(values), "geometry": shapely.geometry.mapping(shape)}
        for shape, values in features
    )
    driver, wkt = DRIVERS[path.suffix], None if crs is None else crs.to_wkt()
    with (
        fiona.Env(**DETERMINISTIC_ENVIRONMENT),
        fiona.open(path, "w", driver=driver, layer=layer or path.stem, schema=schema, crs_wkt=wkt) as collection,
    ):
        collection.writerecords(records)


def geometry_type(path: Path) -> str:
    """Return the type of geometries of the only layer of a file, such as `MultiPolygon`, `3D Polygon` or `Unknown`."""
    with fiona.open(path) as source:
        return str(source.schema["geometry"])


def rewrite_layer(
    path: Path,
    change: Mapping[int, tuple[Mapping[str, object], object | None] | None],
    added: Sequence[tuple[Mapping[str, object], object, Mapping[str, int]]],
    **options: str,
) -> None:
    """Write the only layer of a file anew, with the same schema and CRS, in the order that it has.

    Parameters
    ----------
    path
        The file, of a format that OGR writes.
    change
        By the place of a feature, from 0: values to set and a new geometry, or None for the one it has; None alone to
        leave the feature out.
    added
        Of each new feature: values; the geometry; and by the names of attributes, the place of a feature whose value it
        gets. Other values are null.
    options
        Of the driver for layers.

    Raises
    ------
    OSError, ValueError
        The driver cannot read or write it.
    """
    made = path.with_name(f".{path.stem}.new{path.suffix}")
    try:
        with fiona.open(path) as source:
            schema, driver, name, wkt = source.schema, source.driver, source.name, source.crs_wkt
            records: list[dict[str, object]] = []
            taken = {place: dict[str, object]() for _, _, places in added for place in places.values()}
            for place, record in enumerate(source):
                values, geometry = dict(record.properties), record.geometry
                if place in taken:
                    taken[place] = dict(values)
                if place in change:
                    edit = change[place]
                    if edit is None:
                        continue
                    values |= edit[0]
                    geometry = geometry if edit[1] is None else shapely.geometry.mapping(edit[1])
                records.append({"type": "Feature", "properties": values, "geometry": geometry})
        for values_of_new, shape, places in added:
            others = {attribute: taken[place][attribute] for attribute, place in places.items()}
            values = {**dict.fromkeys(schema["properties"]), **others, **values_of_new}
            records.append({"type": "Feature", "properties": values, "geometry": shapely.geometry.mapping(shape)})
        with (
            fiona.Env(**DETERMINISTIC_ENVIRONMENT),
            fiona.open(made, "w", driver=driver, layer=name, schema=schema, crs_wkt=wkt or None, **options) as target,
        ):
            target.writerecords(records)
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
