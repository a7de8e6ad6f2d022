"""One input of each kind of file that a user names, made by mutating a good one, and read as the stages read it."""

from __future__ import annotations

import functools
import io
import json
import random
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import fiona
import numpy as np
import rasterio
from affine import Affine

from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import require_complete
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.vector.box_files import read_box_file
from rvbuild.geo.vector.files import read_features
from rvbuild.geo.vector.placing import to_pixels
from rvbuild.geo.windows import Window
from tests.fuzz.fuzzing import mutated

SQUARE = {"type": "Polygon", "coordinates": [[[10.0, 50.0], [10.1, 50.0], [10.1, 50.1], [10.0, 50.0]]]}
HOLED = {
    "type": "MultiPolygon",
    "coordinates": [
        [
            [[10.0, 50.0], [10.2, 50.0], [10.2, 50.2], [10.0, 50.0]],
            [[10.1, 50.01], [10.15, 50.01], [10.15, 50.05], [10.1, 50.01]],
        ]
    ],
}
GRID = Grid(64, 64, Affine(0.01, 0, 10, 0, -0.01, 50.5), rasterio.crs.CRS.from_epsg(4326))

WORDS = [
    *(b'"type"', b'"Feature"', b"null", b"{", b"}", b"[", b"]", b"NaN", b"1e999", b'"coordinates"', b"[[[[", b"\xff"),
    *(b"9" * 400, b'"\\ud800"', b'"' * 3, b"-0", b"<", b">", b"&a;", b"<!DOCTYPE a [<!ENTITY a 'b'>]>", b"\0", b","),
]


@functools.cache
def vector(suffix: str) -> dict[str, bytes]:
    """Return a good vector file of a kind, and those beside it, by suffix."""
    drivers = {".geojson": "GeoJSON", ".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".shp": "ESRI Shapefile"}
    kind = "MultiPolygon" if suffix != ".shp" else "Polygon"
    schema = {"geometry": kind, "properties": {"name": "str", "height": "float", "floors": "int"}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        with fiona.open(path, "w", driver=drivers[suffix], schema=schema, crs="EPSG:4326") as file:
            for number in range(4):
                shape = (
                    HOLED if number % 2 and suffix != ".shp" else {**HOLED, "coordinates": [HOLED["coordinates"][0]]}
                )
                if suffix == ".shp":
                    shape = SQUARE
                values = {"name": "é" * number, "height": number * 1.5, "floors": number}
                file.write({"type": "Feature", "geometry": shape, "properties": values})
        return {file_path.suffix: file_path.read_bytes() for file_path in sorted(Path(folder).iterdir())}


GML = b"""<?xml version="1.0" encoding="UTF-8"?>
<ogr:FeatureCollection xmlns:ogr="http://ogr.maptools.org/" xmlns:gml="http://www.opengis.net/gml"><gml:boundedBy>
<gml:Box><gml:coord><gml:X>10</gml:X><gml:Y>50</gml:Y></gml:coord><gml:coord><gml:X>11</gml:X><gml:Y>51</gml:Y>
</gml:coord></gml:Box></gml:boundedBy>
<gml:featureMember><ogr:a fid="a.0"><ogr:geometryProperty><gml:Polygon srsName="EPSG:4326"><gml:outerBoundaryIs>
<gml:LinearRing><gml:coordinates>10,50 10.2,50 10.2,50.2 10,50</gml:coordinates></gml:LinearRing></gml:outerBoundaryIs>
<gml:innerBoundaryIs><gml:LinearRing><gml:coordinates>10.1,50.01 10.15,50.01 10.15,50.05 10.1,50.01</gml:coordinates>
</gml:LinearRing></gml:innerBoundaryIs></gml:Polygon></ogr:geometryProperty><ogr:name>x</ogr:name><ogr:height>2.5
</ogr:height></ogr:a></gml:featureMember><gml:featureMember><ogr:a fid="a.1"><ogr:geometryProperty><gml:MultiSurface
srsName="EPSG:4326"><gml:surfaceMember><gml:Polygon><gml:exterior><gml:LinearRing><gml:posList>10 50 10.1 50 10.1 50.1
10 50</gml:posList></gml:LinearRing></gml:exterior></gml:Polygon></gml:surfaceMember></gml:MultiSurface>
</ogr:geometryProperty><ogr:name>y</ogr:name></ogr:a></gml:featureMember></ogr:FeatureCollection>
"""
KML = b"""<?xml version="1.0" encoding="UTF-8"?>
<kml xmlns="http://www.opengis.net/kml/2.2"><Document><name>b</name><Placemark><name>a</name><description>c</description>
<Polygon><outerBoundaryIs><LinearRing><coordinates>10,50,1 10.2,50,1 10.2,50.2,1 10,50,1</coordinates></LinearRing>
</outerBoundaryIs><innerBoundaryIs><LinearRing><coordinates>10.1,50.01 10.15,50.01 10.15,50.05 10.1,50.01</coordinates>
</LinearRing></innerBoundaryIs></Polygon></Placemark><Placemark><MultiGeometry><Polygon><outerBoundaryIs><LinearRing>
<coordinates>10,50 10.1,50 10.1,50.1 10,50</coordinates></LinearRing></outerBoundaryIs></Polygon></MultiGeometry>
</Placemark></Document></kml>
"""


def _vector(
    files: dict[str, bytes],
    source: random.Random,
    folder: Path,
    main: str,
    names: Sequence[str] = ("name", "height"),
) -> None:
    broken = source.choice([main, *files])
    for suffix, content in files.items():
        (folder / f"a{suffix}").write_bytes(mutated(source, content, WORDS) if suffix == broken else content)
    where = ["any", ["has", names[0]], [">", names[1], 1]]
    features = read_features(folder / f"a{main}", attributes=names, where=where if source.random() < 0.3 else None)
    to_pixels(features, GRID)


def geojson(source: random.Random, folder: Path) -> None:
    _vector(vector(".geojson"), source, folder, ".geojson")


def gpkg(source: random.Random, folder: Path) -> None:
    _vector(vector(".gpkg"), source, folder, ".gpkg")


def flatgeobuf(source: random.Random, folder: Path) -> None:
    _vector(vector(".fgb"), source, folder, ".fgb")


def shapefile(source: random.Random, folder: Path) -> None:
    _vector(vector(".shp"), source, folder, ".shp")


def gml(source: random.Random, folder: Path) -> None:
    _vector({".gml": GML}, source, folder, ".gml")


def kml(source: random.Random, folder: Path) -> None:
    _vector({".kml": KML}, source, folder, ".kml", ("Name", "Description"))


COCO = {
    "images": [{"id": 1, "file_name": "a.tif", "width": 64, "height": 64}, {"id": 2, "file_name": "b.tif"}],
    "categories": [{"id": 7, "name": "car"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3.5, 4], "iscrowd": 0, "area": 14},
        {"id": 2, "image_id": 2, "category_id": 7, "bbox": [0, 0, 1, 1]},
    ],
}
VOC = b"""<?xml version="1.0" encoding="utf-8"?>
<annotation><folder>x</folder><filename>a.tif</filename><size><width>64</width><height>64</height></size>
<object><name>car</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>6.5</ymax></bndbox></object>
<object><name>tree</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>6</ymax></bndbox></object></annotation>
"""
CSV = b"image_path,xmin,ymin,xmax,ymax,label\na.tif,1,2,3,4,car\na.tif,1.5,2,3,4,tree\nb.tif,,,,,\n"


def _boxes(kind: str, name: str, content: bytes, source: random.Random, folder: Path) -> None:
    path = folder / name
    path.write_bytes(mutated(source, content, WORDS))
    image = source.choice([None, "a.tif", "b.tif"])
    read_box_file(path, {"kind": kind, "image": image, "scene_image": "a.tif"})


def coco(source: random.Random, folder: Path) -> None:
    _boxes("coco", "a.json", json.dumps(COCO).encode(), source, folder)


def voc(source: random.Random, folder: Path) -> None:
    _boxes("voc", "a.xml", VOC, source, folder)


def table(source: random.Random, folder: Path) -> None:
    _boxes("csv", "a.csv", CSV, source, folder)


@functools.cache
def tiff(compress: str, tiled: bool) -> bytes:
    """Return a small GeoTIFF."""
    profile = {"driver": "GTiff", "width": 40, "height": 30, "count": 3, "dtype": "uint8", "crs": "EPSG:32632"}
    layout = {"tiled": True, "blockxsize": 16, "blockysize": 16} if tiled else {}
    with rasterio.MemoryFile() as memory:
        with memory.open(
            **profile, transform=Affine(1, 0, 5e5, 0, -1, 5e6), nodata=0, compress=compress, **layout
        ) as file:
            file.write(np.random.default_rng(1).integers(0, 255, (3, 30, 40), dtype=np.uint8))
            file.update_tags(a="b")
        return bytes(memory.read())


def raster(source: random.Random, folder: Path) -> None:
    """Most mutations are of the header and the directory, which for these files is at the beginning."""
    content = tiff(source.choice(["none", "deflate", "lzw", "packbits", "jpeg"]), source.random() < 0.5)
    head = content.find(b"GeoTIFF") if source.random() < 0.3 else 500
    path = folder / "a.tif"
    path.write_bytes(mutated(source, content[:head], WORDS) + content[head:])
    require_complete(path)
    with open_image([path]) as image:
        image.read(Window(0, 0, 16, 16))


def archive(source: random.Random, folder: Path) -> None:
    """Chips in a zip whose bytes are mutated, or whose members have odd names."""
    from rvbuild.files.zipped import Zipped, members

    names = [".", "", "./a", "a//b", "a\\b", "../a", "/a", "a/", "train/a.png", "a\0b", "é", "x" * 300, "..", "a/./b"]
    stream = io.BytesIO()
    with zipfile.ZipFile(
        stream, "w", source.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    ) as file:
        for name in source.sample(names, source.randrange(4)):
            try:
                file.writestr(name, b"x" * source.choice((0, 1, 1000)))
            except (ValueError, IndexError):
                continue
        file.writestr("train/b.png", tiff("none", False))
    path = folder / "a.zip"
    path.write_bytes(stream.getvalue() if source.random() < 0.1 else mutated(source, stream.getvalue()))
    for name in members(path):
        assert ".." not in name.split("/") and not name.startswith("/")
        Zipped(path, name).read_bytes()
