"""The formats in which vector files are written, and from which boxes are read, declared once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from rvbuild.errors import either

VectorFormat = Literal["geojson", "gpkg", "fgb"]
"""The name of a format in project files."""

FORMATS: tuple[VectorFormat, ...] = get_args(VectorFormat)

CHOICE = either(f'"{name}"' for name in FORMATS)
"""All formats, for messages."""

SUFFIXES: Mapping[str, str] = {name: f".{name}" for name in FORMATS}
"""The suffix of the files of each format."""

DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf"}
"""The OGR driver for a suffix; `rvbuild.geo.write.vectors.features` writes the other formats itself."""

WRITES_LAYERS = "fiona"
"""The package that writes the formats of OGR."""

ABOUT = (
    "geojson (longitude and latitude, RFC 7946), gpkg (GeoPackage) or fgb (FlatGeobuf); the latter two in the CRS of "
    "the scene"
)
"""A description of the formats, for the reference of project files."""

BoxFormat = Literal["coco", "voc", "csv"]
"""A format of boxes, by the key that names its files."""

BOX_FILES: Mapping[BoxFormat, str] = {"coco": "COCO JSON", "voc": "Pascal VOC XML", "csv": "a CSV of boxes"}
"""The formats from which boxes are read: key in project files -> name in messages."""
