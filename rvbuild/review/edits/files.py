"""Label files as a whole: which files belong together, copies, and edits of each format."""

from __future__ import annotations

import contextlib
import glob
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rvbuild.errors import DataError
from rvbuild.files.urls import Url
from rvbuild.files.zipped import Zipped
from rvbuild.geo.classes import Classes
from rvbuild.geo.grid import Grid
from rvbuild.review.edits.boxes_coco import edit_coco
from rvbuild.review.edits.boxes_csv import edit_csv
from rvbuild.review.edits.boxes_voc import edit_voc
from rvbuild.review.edits.edit import Edit
from rvbuild.review.edits.rasters import PixelEdit, edit_raster
from rvbuild.review.edits.vector_flatgeobuf import edit_flatgeobuf
from rvbuild.review.edits.vector_geojson import edit_geojson
from rvbuild.review.edits.vector_geopackage import edit_geopackage
from rvbuild.review.edits.vector_shapefile import edit_shapefile
from rvbuild.settings.labels import ReadRasterSettings

Kind = Literal["vector", "coco", "voc", "csv", "raster"]

_STYLES = (".qml", ".qmd", ".sld")

_OF_SHAPEFILES = (".shx", ".dbf", ".prj", ".cpg", ".qix", ".sbn", ".sbx", ".qpj", *_STYLES)

_OF_RASTERS = (
    *(".tfw", ".tifw", ".pgw", ".pngw", ".bpw", ".gfw", ".wld"),
    *(".prj", ".ovr", ".aux", ".hdr", ".clr", *_STYLES),
)
"""Endings of files that belong to one of the same stem; those of other files of that stem are not touched."""


@dataclass
class FileEdits:
    """What to change in one file.

    Attributes
    ----------
    path : Path
        The file.
    name : str
        As the project names it.
    kind : str
        How it is read.
    layer : str or None
        Of a vector file.
    encoding : str or None
        Of the texts of a vector file, if the project names one.
    edits : list of Edit
        Of features or boxes.
    pixels : list of PixelEdit
        Of a raster.
    raster : tuple, optional
        Of a raster: the grid of the scene, and how labels are read.
    """

    path: Path
    name: str
    kind: Kind
    layer: str | None = None
    encoding: str | None = None
    edits: list[Edit] = field(default_factory=list)
    pixels: list[PixelEdit] = field(default_factory=list)
    raster: tuple[Grid, ReadRasterSettings] | None = None


def require_editable(path: Path, name: str, kind: Kind) -> None:
    """Refuse files that cannot be edited.

    Raises
    ------
    DataError
        It is elsewhere, in a zip, or of a format that is only read.
    """
    if isinstance(path, Url | Zipped):
        where = "on a server" if isinstance(path, Url) else "in a zip"
        raise DataError(f"{name}: is {where}, where it cannot be edited; use a copy of it in the project")
    if kind == "vector" and path.suffix.lower() not in _VECTORS:
        raise DataError(
            f"{name}: files of this format ({path.suffix or 'no suffix'}) cannot be edited without loss; convert it, "
            f"for example with `ogr2ogr labels.gpkg {path.name}`, and use that (edited are {', '.join(_VECTORS)})"
        )


def belonging(path: Path) -> list[Path]:
    """Return a file and those beside it that belong to it, sorted, the file itself first."""
    suffix = path.suffix.lower()
    endings: tuple[str, ...] = _OF_RASTERS
    if suffix == ".shp":
        endings = _OF_SHAPEFILES
    elif suffix in (*_VECTORS, ".csv", ".xml"):
        endings = _STYLES
    beside = [
        each
        for each in path.parent.glob(f"{glob.escape(path.stem)}.*")
        if each != path and each.is_file() and (each.suffix.lower() in endings or each.name.startswith(f"{path.name}."))
    ]
    return [path, *sorted(beside)]


def copy(path: Path, folder: Path) -> Path:
    """Copy a file with those that belong to it into a folder; return the copy."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in belonging(path):
        if each == path and each.suffix.lower() == ".gpkg":
            _copy_database(each, folder / each.name)
        else:
            shutil.copy2(each, folder / each.name)
    return folder / path.name


def _copy_database(path: Path, to: Path) -> None:
    """Copy a database with what another program has not written back to it yet."""
    shutil.copy2(path, to)
    try:
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(to)) as target,
        ):
            if source.execute("pragma journal_mode").fetchone() == ("wal",):
                source.backup(target)
    except sqlite3.Error as error:
        raise DataError(f"{path}: cannot be copied as a GeoPackage: {error}") from error


def apply_edits(path: Path, edits: FileEdits, classes: Classes, null_id: int) -> None:
    """Change a file, or a copy of it.

    Raises
    ------
    DataError
        It cannot be changed as it shall be.
    """
    if edits.kind == "raster":
        assert edits.raster is not None
        grid, settings = edits.raster
        edit_raster(path, edits.pixels, grid, settings, classes, null_id)
    elif edits.kind == "vector":
        suffix = path.suffix.lower()
        if suffix == ".gpkg":
            edit_geopackage(path, edits.layer, edits.edits)
        elif suffix == ".shp":
            edit_shapefile(path, edits.edits, edits.encoding)
        elif suffix == ".fgb":
            edit_flatgeobuf(path, edits.edits)
        else:
            edit_geojson(path, edits.edits)
    else:
        _BOXES[edits.kind](path, edits.edits)


_BOXES: Mapping[str, Callable[[Path, Sequence[Edit]], None]] = {"coco": edit_coco, "voc": edit_voc, "csv": edit_csv}

_VECTORS = (".gpkg", ".geojson", ".json", ".shp", ".fgb")
