"""The formats of vector files that are written, and of boxes that are read, declared once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from rvbuild.errors import either

VectorFormat = Literal["geojson", "gpkg", "fgb"]
"""A format, as project files name it."""

FORMATS: tuple[VectorFormat, ...] = get_args(VectorFormat)

CHOICE = either(f'"{name}"' for name in FORMATS)
"""All formats, for messages."""

SUFFIXES: Mapping[str, str] = {name: f".{name}" for name in FORMATS}
"""The suffix of the files of each format."""

DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf"}
"""The driver of OGR that writes a kind of file, by suffix; `rvbuild.geo.write.polygons` writes the others itself."""

ABOUT = (
    "geojson (longitude and latitude, RFC 7946), gpkg (GeoPackage) or fgb (FlatGeobuf); the latter two in the CRS of "
    "the scene"
)
"""What the formats are, for the reference of project files."""

BoxFormat = Literal["coco", "voc", "csv"]
"""A format of boxes, by the key that names its files."""

BOX_FILES: Mapping[BoxFormat, str] = {"coco": "COCO JSON", "voc": "Pascal VOC XML", "csv": "a CSV of boxes"}
"""The formats of boxes that are read, each as messages call it."""
