"""What belongs to a file: as GDAL says it, asked again when anything that the answer rests on has changed."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fiona
import fiona.ogrext
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

from rvbuild.engine.store.state import State
from rvbuild.geo.dataset_files import ask

CORNERS = [(10, 50), (11, 50), (11, 51), (10, 50)]
SQUARE = {"type": "Polygon", "coordinates": [CORNERS]}


class Asked(list[tuple[str, str]]):
    """Asks GDAL in this process, and notes what was asked."""

    def __call__(self, questions: Iterable[tuple[str, Path]]) -> list[dict[str, Any]]:
        paths = [(kind, str(path)) for kind, path in questions]
        self.extend(paths)
        return ask(paths)

    def names(self) -> list[str]:
        file_names = [Path(path).name for _, path in self]
        self.clear()
        return file_names


@pytest.fixture
def make() -> Callable[..., Any]:
    return importlib.import_module("rvbuild.rules.inputs.companions").Companions


@pytest.fixture
def asked() -> Asked:
    return Asked()


def write(path: Path, value: int = 1, **profile: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "transform": from_origin(0, 8, 1, 1), "crs": "EPSG:32633", **profile}
    with rasterio.open(path, "w", width=8, height=8, count=1, dtype="uint8", **profile) as file:
        file.write(np.full((1, 8, 8), value, "uint8"))
    return path


def vrt(path: Path, *sources: str) -> Path:
    inner = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{s}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        for s in sources
    )
    path.write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><GeoTransform>0, 1, 0, 8, 0, -1</GeoTransform>'
        f'<VRTRasterBand dataType="Byte" band="1">{inner}</VRTRasterBand></VRTDataset>'
    )
    return path


def vector(path: Path, driver: str) -> Path:
    schema = {"geometry": "Polygon", "properties": {"kind": "str"}}
    crs = None if driver == "CSV" else "EPSG:4326"
    with fiona.open(path, "w", driver=driver, crs=crs, schema=schema) as file:
        file.write({"type": "Feature", "properties": {"kind": "a"}, "geometry": SQUARE})
    return path


def names(root: Path, files: Iterable[Path]) -> list[str]:
    return [os.path.relpath(file, root) for file in files]


def test_plain_files_need_no_question(make, asked: Asked, tmp_path: Path) -> None:
    write(tmp_path / "a.tif")
    for other in ("a.geojson", "a1.tif.aux.xml", "a_labels.png", "a.shp", "a.gpkg-wal.qml"):
        (tmp_path / other).write_text("")
    sidecars = make(asked)
    assert sidecars.of_raster(tmp_path / "a.tif") == ()
    assert sidecars.of_vector(tmp_path / "a.geojson") == ()
    assert asked == []
    assert sidecars.of_raster(tmp_path / "nowhere" / "a.tif") == ()


def test_what_lies_beside_a_raster(make, asked: Asked, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", transform=from_origin(0, 0, 1, 1), crs=None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.zeros((8, 8), "uint8"))
    (tmp_path / "a.tif.ovr").write_bytes(path.read_bytes())
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset/>")
    assert names(tmp_path, make(asked).of_raster(path)) == ["a.tif.aux.xml", "a.tif.msk"]
    assert asked.names() == []
    (tmp_path / "a.txt").write_text("a note")
    assert sorted(names(tmp_path, make(asked).of_raster(path))) == ["a.tif.aux.xml", "a.tif.msk"]
    assert asked.names() == ["a.tif"]
    png = write(tmp_path / "b.png", driver="PNG")
    (tmp_path / "b.pgw").write_text("1\n0\n0\n-1\n0.5\n7.5\n")
    assert names(tmp_path, make(asked).of_raster(png)) == ["b.png.aux.xml", "b.pgw"]
    envi = write(tmp_path / "c.dat", driver="ENVI")
    assert "c.hdr" in names(tmp_path, make(asked).of_raster(envi))


def test_virtual_rasters_rest_on_all_that_they_lead_to(make, asked: Asked, tmp_path: Path) -> None:
    write(tmp_path / "deep" / "s.tif")
    (tmp_path / "deep" / "s.tif.ovr").write_bytes((tmp_path / "deep/s.tif").read_bytes())
    vrt(tmp_path / "deep" / "inner.vrt", "s.tif", "absent.tif")
    outer = vrt(tmp_path / "outer.vrt", "deep/inner.vrt")
    files = names(tmp_path, make(asked).of_raster(outer))
    assert files == ["deep/inner.vrt", "deep/s.tif", "deep/s.tif.ovr", "deep/absent.tif"]


def test_warped_and_zipped_sources(make, asked: Asked, tmp_path: Path) -> None:
    source = write(tmp_path / "deep" / "s.tif")
    with rasterio.open(source) as file, WarpedVRT(file, crs="EPSG:32634") as warped:
        rasterio.shutil.copy(warped, tmp_path / "w.vrt", driver="VRT")
    assert names(tmp_path, make(asked).of_raster(tmp_path / "w.vrt")) == ["deep/s.tif"]
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as file:
        file.write(source, "in/s.tif")
    path = vrt(tmp_path / "z.vrt", "x")
    path.write_text(path.read_text().replace('1">x', f'0">/vsizip/{tmp_path}/s.zip/in/s.tif'))
    assert names(tmp_path, make(asked).of_raster(path)) == ["s.zip"]


def test_answers_are_kept_until_something_changes(make, asked: Asked, tmp_path: Path) -> None:
    write(tmp_path / "s.tif")
    write(tmp_path / "t.tif")
    path = vrt(tmp_path / "m.vrt", "s.tif")
    old = 10**18
    for child in tmp_path.iterdir():
        os.utime(child, ns=(old, old))
    state = State(tmp_path / "state" / "state.db")

    def of_raster(places: str = "") -> list[str]:
        # A file's ctime cannot be set: what was written just now is asked again, and that is right.
        return names(tmp_path, make(asked, state, places).of_raster(path))

    time.sleep(0.03)
    assert of_raster() == ["s.tif"]
    assert asked.names() == ["m.vrt"]
    assert of_raster() == ["s.tif"]
    assert asked.names() == []
    assert of_raster("another") == ["s.tif"]
    assert asked.names() == ["m.vrt"]
    time.sleep(0.03)
    vrt(path, "t.tif")
    time.sleep(0.03)
    assert of_raster() == ["t.tif"]
    assert asked.names() == ["m.vrt"]
    assert of_raster() == ["t.tif"]
    assert asked.names() == []
    (tmp_path / "t.tif.msk").write_bytes((tmp_path / "s.tif").read_bytes())
    time.sleep(0.03)
    assert of_raster() == ["t.tif", "t.tif.msk"]
    assert asked.names() == []
    (tmp_path / "t_RPC.TXT").write_text("another that GDAL knows")
    assert "t.tif.msk" in of_raster()
    assert asked.names() == ["t.tif"]
    (tmp_path / "t_RPC.TXT").unlink()
    (tmp_path / "t.tif.msk").unlink()
    assert of_raster() == ["t.tif"]
    state.close()


def test_parts_of_vectors_in_any_case(make, asked: Asked, tmp_path: Path) -> None:
    for name in ("s0.SHP", "S0.DBF", "s0.Shx", "s00.dbf", "g.gpkg", "g.gpkg-wal", "g.gpkg-journal", "t.csv", "t.CSVT"):
        (tmp_path / name).write_text("x")
    sidecars = make(asked)
    assert names(tmp_path, sidecars.of_vector(tmp_path / "s0.SHP")) == ["S0.DBF", "s0.Shx"]
    assert names(tmp_path, sidecars.of_vector(tmp_path / "g.gpkg")) == ["g.gpkg-wal", "g.gpkg-journal"]
    assert names(tmp_path, sidecars.of_vector(tmp_path / "t.csv")) == ["t.CSVT"]
    assert asked == []


def listed_by_gdal(path: Path) -> set[str]:
    """Return what GDAL lists of a vector file, which fiona does not offer: asked of the library that fiona uses."""
    with open("/proc/self/maps") as maps:  # noqa: PTH123 - not a file of ours
        library = next(line.split()[-1] for line in maps if "libgdal-fiona" in line)
    gdal = ctypes.CDLL(library)
    gdal.GDALOpenEx.restype = ctypes.c_void_p
    gdal.GDALOpenEx.argtypes = [ctypes.c_char_p, ctypes.c_uint, *[ctypes.c_void_p] * 3]
    gdal.GDALGetFileList.restype = ctypes.POINTER(ctypes.c_char_p)
    gdal.GDALGetFileList.argtypes = [ctypes.c_void_p]
    with fiona.Env():
        dataset = gdal.GDALOpenEx(str(path).encode(), 4, None, None, None)
        assert dataset
        files, number, every = gdal.GDALGetFileList(dataset), 0, set()
        while files[number]:
            every.add(files[number].decode())
            number += 1
        gdal.GDALClose(ctypes.c_void_p(dataset))
    return every - {str(path)}


@pytest.mark.parametrize(
    ("name", "driver", "parts"),
    [("a.shp", "ESRI Shapefile", (".dbf", ".shx")), ("a.mif", "MapInfo File", (".mid",))],
)
def test_a_vector_file_may_be_named_by_any_part(
    make, asked: Asked, tmp_path: Path, name: str, driver: str, parts
) -> None:
    path = vector(tmp_path / name, driver)
    whole = {path, *make(asked).of_vector(path)}
    for part in parts:
        other = path.with_suffix(part)
        assert {other, *make(asked).of_vector(other)} == whole


def test_a_virtual_raster_over_a_part_of_a_file(make, asked: Asked, tmp_path: Path) -> None:
    source = write(tmp_path / "s.tif")
    for name in (f"vrt://{source}?bands=1", f"GTIFF_DIR:1:{source}"):
        path = vrt(tmp_path / "m.vrt", "x")
        path.write_text(path.read_text().replace('1">x', f'0">{name}'))
        assert names(tmp_path, make(asked).of_raster(path)) == ["s.tif"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="finds GDAL by Linux' list of loaded libraries")
@pytest.mark.parametrize(
    ("name", "driver"),
    [
        ("a.shp", "ESRI Shapefile"),
        ("a.tab", "MapInfo File"),
        ("a.mif", "MapInfo File"),
        ("a.gml", "GML"),
        ("a.gpkg", "GPKG"),
        ("a.gdb", "OpenFileGDB"),
        ("a.fgb", "FlatGeobuf"),
        ("a.geojson", "GeoJSON"),
    ],
)
def test_all_that_gdal_lists_of_vectors_counts(make, asked: Asked, tmp_path: Path, name: str, driver: str) -> None:
    path = vector(tmp_path / name, driver)
    files = {str(file) for file in make(asked).of_vector(path)}
    assert listed_by_gdal(path) <= files
    (tmp_path / "other.vrt").write_text(
        '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource relativeToVRT="1">'
        f"{name}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )
    assert {str(file) for file in make(asked).of_vector(tmp_path / "other.vrt")} == {str(path), *files}


def test_a_directory_is_all_its_files(make, asked: Asked, tmp_path: Path) -> None:
    path = vector(tmp_path / "a.gdb", "OpenFileGDB")
    sidecars = make(asked)
    files = sidecars.of_vector(path)
    assert files == tuple(sorted(path.iterdir()))
    assert str(path) in sidecars.listed()
    shutil.rmtree(path)
    assert make(asked).of_vector(path) == ()


def test_what_appears_later_is_told_apart_from_what_belongs_to_nothing(make, asked: Asked, tmp_path: Path) -> None:
    source = write(tmp_path / "deep" / "s.tif")
    mosaic, gdb = vrt(tmp_path / "m.vrt", "deep/s.tif"), vector(tmp_path / "v.gdb", "OpenFileGDB")
    table = tmp_path / "t.csv"
    table.write_text("WKT,kind\nPOINT (1 2),a\n")
    sidecars = make(asked)
    sidecars.learn([("raster", source), ("raster", mosaic), ("vector", gdb), ("vector", table)])

    def appeared() -> list[str]:
        files = dict.fromkeys(file for path in (source, mosaic, gdb, table) for file in sidecars.appeared(path))
        return names(tmp_path, files)

    assert appeared() == []
    for other in ("note.txt", "deep/s_labels.geojson", "deep/s.geojson", "deep/s2.tif.msk", "t.qml"):
        (tmp_path / other).write_text("")
    assert appeared() == []
    newcomers = [tmp_path / name for name in ("deep/s.tif.msk", "deep/s.tif.aux.xml", "v.gdb/more.gdbtable", "t.csvt")]
    for path in newcomers:
        path.write_bytes(source.read_bytes() if path.suffix == ".msk" else b"x")
        assert appeared() == names(tmp_path, [path]), path
        assert appeared() == names(tmp_path, [path]), path
        path.unlink()
        assert appeared() == []
    assert sidecars.appeared(tmp_path / "nobody asked about.tif") == ()
