"""Imagery and labels in many formats, as bytes: what a workspace of a property test is written from."""

from __future__ import annotations

import functools
import io
import json
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import fiona
import numpy as np
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

SIZE = 32
ROOT = b"@ROOT@"
"""In the bytes of a file, the directory that it is written to."""

CRS = "EPSG:32633"
Files = Mapping[str, bytes]


def read(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- imagery ----------------------------------------------------------------------------------------------------------


def pixels(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(1, 250, (2, SIZE, SIZE), dtype=np.uint8)


def write_raster(path: Path, image: np.ndarray[Any, Any], shift: int, driver: str = "GTiff", **profile: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": CRS, "transform": from_origin(500000 + shift, 5800000, 0.5, 0.5), **profile}
    count, height, width = image.shape
    kind = {"driver": driver, "count": count, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", **kind, **place) as file:
        file.write(image)


def write_sidecars(path: Path, mask: int, nodata: int, statistics: int) -> None:
    """Write what belongs to a GeoTIFF beside it: a mask, a value that is none, statistics."""
    if mask:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
            hidden = np.full((SIZE, SIZE), 255, "uint8")
            hidden[: 8 * mask] = 0
            file.write_mask(hidden)
    inner = '<Metadata><MDI key="STATISTICS_MEAN">1.5</MDI></Metadata>' if statistics else ""
    value = f"<NoDataValue>{nodata}</NoDataValue>" if nodata else ""
    if inner or value:
        bands = "".join(f'<PAMRasterBand band="{band}">{value}{inner}</PAMRasterBand>' for band in (1, 2))
        path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")


def mosaic(path: Path, sources: list[str], shift: int, relative: int = 1) -> None:
    """Write a virtual raster of sources one over the other, each in one half."""
    bands = ""
    for band in (1, 2):
        inner = ""
        for number, source in enumerate(sources):
            top = number * SIZE // len(sources)
            rect = f'xOff="0" yOff="{top}" xSize="{SIZE}" ySize="{SIZE // len(sources)}"'
            inner += (
                f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
                f"<SourceBand>{band}</SourceBand><SrcRect {rect}/><DstRect {rect}/></SimpleSource>"
            )
        bands += f'<VRTRasterBand dataType="Byte" band="{band}">{inner}</VRTRasterBand>'
    path.parent.mkdir(parents=True, exist_ok=True)
    place = f"<SRS>{CRS}</SRS><GeoTransform>{500000 + shift}, 0.5, 0, 5800000, 0, -0.5</GeoTransform>"
    path.write_text(f'<VRTDataset rasterXSize="{SIZE}" rasterYSize="{SIZE}">{place}{bands}</VRTDataset>')


def _tif(folder: Path, seed: int, shift: int, mask: int, nodata: int, statistics: int) -> None:
    write_raster(folder / "i.tif", pixels(seed), shift)
    write_sidecars(folder / "i.tif", mask, nodata, statistics)


def _png(folder: Path, seed: int, shift: int, mask: int, nodata: int, statistics: int) -> None:
    write_raster(folder / "i.png", pixels(seed)[[0, 1, 0]], shift, "PNG")


def _world(folder: Path, seed: int, shift: int, mask: int, nodata: int, statistics: int) -> None:
    """A PNG that is placed by a world file, with a CRS beside it."""
    write_raster(folder / "i.png", pixels(seed)[[0, 1, 0]], 0, "PNG", crs=None, transform=None)
    (folder / "i.png.aux.xml").write_text(
        f"<PAMDataset><SRS>{rasterio.CRS.from_string(CRS).to_wkt()}</SRS></PAMDataset>"
    )
    (folder / "i.pgw").write_text(f"0.5\n0\n0\n-0.5\n{500000.25 + shift}\n5799999.75\n")


def _envi(folder: Path, seed: int, shift: int, mask: int, nodata: int, statistics: int) -> None:
    write_raster(folder / "i.dat", pixels(seed), shift, "ENVI", interleave=("bip", "bil", "bsq")[nodata % 3])
    (folder / "i.dat.aux.xml").unlink(missing_ok=True)


def _hfa(folder: Path, seed: int, shift: int, mask: int, nodata: int, statistics: int) -> None:
    write_raster(folder / "i.img", pixels(seed), shift, "HFA")


def _nested(folder: Path, seed: int, shift: int, mask: int, nodata: int, statistics: int) -> None:
    write_raster(folder / "deep/a/s.tif", pixels(seed), 0)
    write_raster(folder / "deep/b/s.tif", pixels(seed // 2 + 10), 0)
    write_sidecars(folder / "deep/a/s.tif", mask, nodata, statistics)
    mosaic(folder / "deep/inner.vrt", ["a/s.tif", "b/s.tif"], 0)
    mosaic(folder / "i.vrt", ["deep/inner.vrt"], shift)


def _swapped(folder: Path, seed: int, shift: int, mask: int, nodata: int, statistics: int) -> None:
    """As nested, with the two sources in each other's place for every second seed."""
    first, second = ("a", "b") if seed % 2 else ("b", "a")
    write_raster(folder / f"{first}/s.tif", pixels(1), 0)
    write_raster(folder / f"{second}/s.tif", pixels(2), 0)
    mosaic(folder / "i.vrt", ["a/s.tif", "b/s.tif"], shift)


def _warped(folder: Path, seed: int, shift: int, mask: int, nodata: int, statistics: int) -> None:
    write_raster(folder / "deep/s.tif", pixels(seed), shift)
    write_sidecars(folder / "deep/s.tif", mask, nodata, statistics)
    with rasterio.open(folder / "deep/s.tif") as file, WarpedVRT(file, crs=CRS) as warped:
        rasterio.shutil.copy(warped, folder / "i.vrt", driver="VRT")


def _zipped(folder: Path, seed: int, shift: int, mask: int, nodata: int, statistics: int) -> None:
    write_raster(folder / "in/s.tif", pixels(seed), 0)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(zipfile.ZipInfo("in/s.tif"), (folder / "in/s.tif").read_bytes())
    (folder / "in/s.tif").unlink()
    (folder / "s.zip").write_bytes(content.getvalue())
    mosaic(folder / "i.vrt", [f"/vsizip/{ROOT.decode()}/s.zip/in/s.tif"], shift, relative=0)


IMAGES: Mapping[str, tuple[str, Callable[..., None]]] = {
    "tif": ("i.tif", _tif),
    "png": ("i.png", _png),
    "world file": ("i.png", _world),
    "ENVI": ("i.dat", _envi),
    "HFA": ("i.img", _hfa),
    "nested VRT": ("i.vrt", _nested),
    "VRT of two of one name": ("i.vrt", _swapped),
    "warped VRT": ("i.vrt", _warped),
    "VRT of a zip": ("i.vrt", _zipped),
}
"""Form → the file that a project names, and what writes it."""


@functools.lru_cache(maxsize=4096)
def image(form: str, *values: int) -> Files:
    """Return the files of an image: seed, shift, mask, nodata and statistics say what it is."""
    with tempfile.TemporaryDirectory() as place:
        IMAGES[form][1](Path(place), *values)
        return {name: data.replace(place.encode(), ROOT) for name, data in read(Path(place)).items()}


# -- labels -----------------------------------------------------------------------------------------------------------

BOXES = [[(2, 2, 14, 12), (16, 16, 30, 28)], [(4, 4, 20, 24)], [(2, 2, 14, 12)]]
SCHEMA = {"geometry": "Polygon", "properties": {"kind": "str:10", "note": "str:10"}}


def features(boxes: int, flip: int) -> list[dict[str, Any]]:
    records = []
    for number, (x0, y0, x1, y1) in enumerate(BOXES[boxes]):
        ring = [(500000 + x * 0.5, 5800000 - y * 0.5) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))]
        kind = ("red", "green")[(number + flip) % 2]
        shape = {"type": "Polygon", "coordinates": [ring]}
        records.append({"type": "Feature", "properties": {"kind": kind, "note": "n"}, "geometry": shape})
    return records


def write_vector(path: Path, driver: str, features: list[dict[str, Any]]) -> None:
    with (
        fiona.Env(OGR_CURRENT_DATE="2020-01-01T00:00:00Z"),
        fiona.open(
            path, "w", driver=driver, crs=CRS, schema=SCHEMA, layer=path.stem if driver == "OpenFileGDB" else None
        ) as file,
    ):
        file.writerecords(features)


def _vector(name: str, driver: str) -> Callable[[Path, int, int, int], None]:
    def write(folder: Path, boxes: int, flip: int, state: int) -> None:
        write_vector(folder / name, driver, features(boxes, flip))

    return write


def _capitals(folder: Path, boxes: int, flip: int, state: int) -> None:
    write_vector(folder / "l.shp", "ESRI Shapefile", features(boxes, flip))
    for path in list(folder.iterdir()):
        path.rename(path.with_suffix(path.suffix.upper()))


def _geojson(folder: Path, boxes: int, flip: int, state: int) -> None:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    whole = {"type": "FeatureCollection", "crs": crs, "features": features(boxes, flip)}
    (folder / "l.geojson").write_text(json.dumps(whole, indent=state or None))


def _gpkg(folder: Path, boxes: int, flip: int, state: int) -> None:
    """A GeoPackage; edits of classes are in its log (1), in a transaction that was never ended (2), or in itself."""
    path = folder / "l.gpkg"
    write_vector(path, "GPKG", features(boxes, flip if state == 0 else 0))
    if state == 0:
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        triggers = "select name from sqlite_master where type = 'trigger' and tbl_name = 'l'"
        for (name,) in database.execute(triggers).fetchall():
            database.execute(f'drop trigger "{name}"')
        if state == 1:
            database.execute("pragma journal_mode = wal")
            if flip:
                database.execute("update l set kind = case kind when 'red' then 'green' else 'red' end")
        else:
            database.execute("pragma cache_size = 1")
            database.execute("pragma cache_spill = 1")
            database.execute("begin immediate")
            database.execute("create table filler (text)")
            database.executemany("insert into filler values (?)", [("x" * 2000,)] * 50)
            database.execute("update l set kind = 'red'")
            database.executemany("insert into filler values (?)", [("x" * 2000,)] * 50)
        files = read(folder)
    for name in read(folder):
        (folder / name).unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _virtual(folder: Path, boxes: int, flip: int, state: int) -> None:
    """A virtual vector file of a shapefile or, with a state, of a virtual one."""
    (folder / "deep").mkdir()
    write_vector(folder / "deep/l.shp", "ESRI Shapefile", features(boxes, flip))
    text = (
        '<OGRVRTDataSource><OGRVRTLayer name="l"><SrcDataSource relativeToVRT="1">{}</SrcDataSource>'
        "<SrcLayer>l</SrcLayer></OGRVRTLayer></OGRVRTDataSource>"
    )
    (folder / "deep/inner.vrt").write_text(text.format("l.shp"))
    (folder / "l.vrt").write_text(text.format("deep/inner.vrt" if state else "deep/l.shp"))


def _raster(folder: Path, boxes: int, flip: int, state: int) -> None:
    ids = np.full((1, SIZE, SIZE), 2, "uint8")
    for number, (x0, y0, x1, y1) in enumerate(BOXES[boxes]):
        ids[:, y0:y1, x0:x1] = (number + flip) % 2
    write_raster(folder / "deep/l.tif", ids, 0)
    write_sidecars(folder / "deep/l.tif", state, 0, state % 2)
    path = folder / "l.vrt"
    mosaic(path, ["deep/l.tif"], 0)
    text = path.read_text()
    path.write_text(text[: text.index('<VRTRasterBand dataType="Byte" band="2">')] + "</VRTDataset>")


LABELS: Mapping[str, tuple[str, Callable[[Path, int, int, int], None]]] = {
    "GeoJSON": ("l.geojson", _geojson),
    "GeoPackage": ("l.gpkg", _gpkg),
    "shapefile": ("l.shp", _vector("l.shp", "ESRI Shapefile")),
    "shapefile in capitals": ("l.SHP", _capitals),
    "MapInfo": ("l.tab", _vector("l.tab", "MapInfo File")),
    "MIF": ("l.mif", _vector("l.mif", "MapInfo File")),
    "GML": ("l.gml", _vector("l.gml", "GML")),
    "FlatGeobuf": ("l.fgb", _vector("l.fgb", "FlatGeobuf")),
    "SQLite": ("l.sqlite", _vector("l.sqlite", "SQLite")),
    "geodatabase": ("l.gdb", _vector("l.gdb", "OpenFileGDB")),
    "virtual vectors": ("l.vrt", _virtual),
    "raster": ("l.vrt", _raster),
}
"""Form → the file that a project names, and what writes it."""


def coco(images: Mapping[str, str], states: Mapping[str, tuple[int, int]]) -> bytes:
    """Return a COCO file about some images: scene → the file name, and scene → boxes and flip."""
    content: dict[str, Any] = {
        "images": [
            {"id": number, "file_name": name, "width": SIZE, "height": SIZE}
            for number, name in enumerate(images.values())
        ],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}],
        "annotations": [],
    }
    for number, scene in enumerate(images):
        boxes, flip = states[scene]
        for at, (x0, y0, x1, y1) in enumerate(BOXES[boxes]):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": (at + flip) % 2 + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                }
            )
    return json.dumps(content).encode()


@functools.lru_cache(maxsize=4096)
def labels(form: str, *values: int) -> Files:
    """Return the files of labels: boxes, flip and a state of the format say what they are."""
    with tempfile.TemporaryDirectory() as place:
        LABELS[form][1](Path(place), *values)
        return read(Path(place))
