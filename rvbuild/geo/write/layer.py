"""Vector files as fiona writes them: a layer of features of one type, with the same bytes each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import fiona
import numpy as np
import shapely.geometry
from numpy.typing import NDArray
from rasterio.crs import CRS

from rvbuild.files.formats import DRIVERS
from rvbuild.geo.gdal.environment import DETERMINISTIC_ENVIRONMENT

Geometries = NDArray[np.object_]

_FIELD_TYPES = {int: "int32", float: "float", str: "str"}


def write_layer(
    path: Path,
    geometries: Geometries,
    properties: Sequence[Mapping[str, object]],
    fields: Mapping[str, type],
    *,
    geometry: str,
    crs: CRS | None,
    layer: str | None = None,
) -> None:
    """Write features in a format that OGR has a driver for, by the suffix of the file, with the same bytes each time.

    All are of the type `geometry` (`Polygon`, `MultiPolygon` or `Point`), each with properties of the types in
    `fields`. The layer is named after the file; a `layer` of another name is added to the file if it exists.
    """
    schema = {"geometry": geometry, "properties": {name: _FIELD_TYPES[kind] for name, kind in fields.items()}}
    records = (
        {"type": "Feature", "properties": dict(values), "geometry": shapely.geometry.mapping(shape)}
        for shape, values in zip(geometries, properties, strict=True)
    )
    driver, wkt = DRIVERS[path.suffix], None if crs is None else crs.to_wkt()
    with (
        fiona.Env(**DETERMINISTIC_ENVIRONMENT),
        fiona.open(path, "w", driver=driver, layer=layer or path.stem, schema=schema, crs_wkt=wkt) as collection,
    ):
        collection.writerecords(records)
