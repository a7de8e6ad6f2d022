"""Reading leaves no trace: no file of a user is changed, and none appears beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import fiona
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from rvbuild.errors import DataError
from rvbuild.geo.dataset_files import ask
from rvbuild.geo.raster.file import open_dataset
from rvbuild.geo.vector.files import read_features

CORNERS = [(10, 50), (11, 50), (11, 51), (10, 50)]
VECTORS = {
    "l.shp": "ESRI Shapefile",
    "l.gpkg": "GPKG",
    "l.sqlite": "SQLite",
    "l.gml": "GML",
    "l.gdb": "OpenFileGDB",
    "l.tab": "MapInfo File",
    "l.mif": "MapInfo File",
    "l.fgb": "FlatGeobuf",
    "l.geojson": "GeoJSON",
}
RASTERS = {"i.tif": "GTiff", "i.png": "PNG", "i.img": "HFA", "i.dat": "ENVI", "i.jpg": "JPEG", "i.gpkg": "GPKG"}


def seen(folder: Path) -> dict[str, Any]:
    """Return all that can be seen of the files in a folder."""
    states = {path: path.stat() for path in sorted(folder.rglob("*"))}
    return {
        str(path): (s.st_mtime_ns, s.st_ctime_ns, s.st_ino, path.is_file() and path.read_bytes())
        for path, s in states.items()
    }


def vector(path: Path, driver: str) -> Path:
    schema = {"geometry": "Polygon", "properties": {"kind": "str"}}
    with fiona.open(path, "w", driver=driver, crs="EPSG:4326", schema=schema) as file:
        shape = {"type": "Polygon", "coordinates": [CORNERS]}
        file.write({"type": "Feature", "properties": {"kind": "old"}, "geometry": shape})
    return path


def kinds(path: Path) -> list[Any]:
    return [values["kind"] for values in read_features(path, attributes=["kind"]).attributes]


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(tmp_path: Path, name: str) -> None:
    path = vector(tmp_path / name, VECTORS[name])
    for extra in (".xsd", ".shx"):
        path.with_suffix(extra).unlink(missing_ok=extra != ".shx" or name != "l.shp")
    before = seen(tmp_path)
    if name == "l.shp":
        with pytest.raises(DataError):  # its index is not made anew beside it
            kinds(path)
    else:
        assert kinds(path) == ["old"]
    ask([("vector", str(path))])
    assert seen(tmp_path) == before


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", RASTERS)
def test_rasters(tmp_path: Path, name: str) -> None:
    place = {"crs": "EPSG:4326", "transform": from_origin(10, 51, 0.01, 0.01)}
    path = tmp_path / name
    with rasterio.open(path, "w", driver=RASTERS[name], width=64, height=64, count=3, dtype="uint8", **place) as file:
        file.write(np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8))
    path.with_name(f"{name}.aux.xml").unlink(missing_ok=True)
    before = seen(tmp_path)
    with open_dataset(path) as dataset:
        assert dataset.read().any()
    ask([("raster", str(path))])
    assert seen(tmp_path) == before


def edited(path: Path, kind: str) -> sqlite3.Connection:
    """Return a connection by which the class of all features has been changed."""
    database = sqlite3.connect(path, isolation_level=None)
    triggers = database.execute("select name from sqlite_master where type = 'trigger' and tbl_name = 'l'").fetchall()
    for (name,) in triggers:
        database.execute(f'drop trigger "{name}"')
    database.execute("pragma journal_mode = wal")
    database.execute("pragma wal_autocheckpoint = 0")
    database.execute("update l set kind = ?", (kind,))
    return database


@pytest.mark.slow
@pytest.mark.parametrize("name", ["l.gpkg", "l.sqlite"])
def test_a_log_that_a_program_left_or_has_open(tmp_path: Path, name: str) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "left").mkdir()
    path = vector(tmp_path / "open" / name, VECTORS[name])
    with closing(edited(path, "new")) as database:
        for each in (tmp_path / "open").iterdir():
            shutil.copy(each, tmp_path / "left")
        before = seen(tmp_path)
        assert kinds(path) == ["new"]
        assert kinds(tmp_path / "left" / name) == ["new"]
        (tmp_path / "left" / f"{name}-shm").unlink()
        before.pop(str(tmp_path / "left" / f"{name}-shm"))
        assert kinds(tmp_path / "left" / name) == ["new"]
        assert without_folders(seen(tmp_path)) == without_folders(before)
        database.execute("update l set kind = 'newer'")
        assert kinds(path) == ["newer"]
    # The program has put all into the file, which is still in the mode of a log.
    assert path.read_bytes()[18] == 2
    before = seen(tmp_path)
    assert kinds(path) == ["newer"]
    assert seen(tmp_path) == before


def without_folders(tags: dict[str, Any]) -> dict[str, Any]:
    return {name: state for name, state in tags.items() if state[3] is not False}


def test_a_transaction_that_was_never_ended(tmp_path: Path) -> None:
    path = vector(tmp_path / "l.gpkg", "GPKG")
    (tmp_path / "left").mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        triggers = "select name from sqlite_master where type = 'trigger' and tbl_name = 'l'"
        for (name,) in database.execute(triggers).fetchall():
            database.execute(f'drop trigger "{name}"')
        database.execute("pragma cache_size = 1")
        database.execute("begin immediate")
        database.execute("update l set kind = 'half'")
        database.execute("create table filler (text)")
        database.executemany("insert into filler values (?)", [("x" * 2000,)] * 200)
        for each in ("l.gpkg", "l.gpkg-journal"):
            shutil.copy(tmp_path / each, tmp_path / "left")
    assert b"half" in (tmp_path / "left/l.gpkg").read_bytes()
    before = seen(tmp_path)
    assert kinds(tmp_path / "left" / "l.gpkg") == ["old"]
    assert seen(tmp_path) == before


def test_a_template_counts_whatever_its_age_is(tmp_path: Path) -> None:
    path = vector(tmp_path / "l.gml", "GML")
    path.with_suffix(".xsd").unlink()
    with fiona.open(path, WRITE_GFS="YES") as file:
        list(file)
    template = path.with_suffix(".gfs")
    template.write_text(template.read_text().replace("<Name>kind</Name>", "<Name>other</Name>"))
    for age in (10**9, 2 * 10**9):
        os.utime(template, (age, age))
        features = read_features(path, attributes=["kind", "other"])
        assert features.attributes == ({"kind": None, "other": "old"},)


def test_a_damaged_database_is_a_message(tmp_path: Path) -> None:
    path = vector(tmp_path / "l.gpkg", "GPKG")
    data = bytearray(path.read_bytes())
    data[18:20] = b"\2\2"
    data[100:4000] = b"\xa5" * 3900
    path.write_bytes(data)
    before = seen(tmp_path)
    with pytest.raises(DataError, match=r"l\.gpkg"):
        kinds(path)
    assert seen(tmp_path) == before
