"""Which of GDAL's drivers may open which files: the one table of formats.

GDAL looks at what a file holds, not at what it is called: a text called `image.tif` may ask a server for pixels. So the
formats that lead to other files are opened only under their own suffix, and those that lead to servers never.
"""

from __future__ import annotations

from collections.abc import Mapping

RASTERS = (
    "GTiff",
    "LIBERTIFF",
    "PNG",
    "JPEG",
    "JPEGXL",
    "JP2OpenJPEG",
    "JP2KAK",
    "JP2ECW",
    "JP2MrSID",
    "WEBP",
    "GIF",
    "BIGGIF",
    "BMP",
    "PNM",
    "HEIF",
    "AVIF",
    "HFA",
    "ENVI",
    "EHdr",
    "AAIGrid",
    "AIG",
    "ECW",
    "MrSID",
    "netCDF",
    "HDF4",
    "HDF4Image",
    "HDF5",
    "HDF5Image",
    "BAG",
    "KEA",
    "GRIB",
    "NITF",
    "DTED",
    "SRTMHGT",
    "USGSDEM",
    "GSAG",
    "GSBG",
    "GS7BG",
    "RST",
    "SAGA",
    "ILWIS",
    "RRASTER",
    "RMF",
    "BT",
    "XYZ",
    "SGI",
    "Terragen",
    "PCRaster",
    "GPKG",
    "MBTiles",
    "Rasterlite",
)
"""Drivers of rasters in one file, possibly with sidecars: opened whatever the name of the file."""

RASTERS_BY_SUFFIX: Mapping[str, tuple[str, ...]] = {
    ".vrt": ("VRT",),
    ".ers": ("ERS",),
    ".pix": ("PCIDSK",),
    ".cub": ("ISIS3",),
    ".lbl": ("ISIS3", "PDS", "VICAR"),
    ".xml": ("PDS4", "DIMAP", "SENTINEL2", "RS2", "TSX", "SAFE"),
    ".til": ("TIL",),
    ".zarr": ("Zarr",),
    ".pdf": ("PDF",),
}
"""Rasters that name other files, or that programs rather than pixels are in: opened only if they are called so."""

VECTORS = (
    "GeoJSON",
    "GeoJSONSeq",
    "JSONFG",
    "ESRIJSON",
    "TopoJSON",
    "FlatGeobuf",
    "ESRI Shapefile",
    "GPKG",
    "SQLite",
    "OpenFileGDB",
    "MapInfo File",
    "CSV",
    "GML",
    "KML",
    "GPX",
    "DXF",
    "DGN",
    "S57",
    "OGR_GMT",
    "Parquet",
    "Arrow",
)
"""Drivers of vectors in one file or directory, possibly with sidecars: opened whatever the name of the file."""

VECTORS_BY_SUFFIX: Mapping[str, tuple[str, ...]] = {".vrt": ("OGR_VRT",)}
"""Vectors that name other files: opened only if they are called so."""

LEADS_ELSEWHERE: Mapping[bytes, str] = {
    b"<VRTDataset": "a virtual raster (.vrt)",
    b"<OGRVRTDataSource": "a virtual vector file (.vrt)",
    b"<GDAL_WMS": "a description of a map server",
    b"<GDAL_WMTS": "a description of a map server",
    b"<WCS_GDAL": "a description of a map server",
    b"<OGRWFSDataSource": "a description of a map server",
    b"<GDALTileIndexDataset": "an index of tiles",
    b"<MRF_META": "a description of an MRF raster",
}
"""Beginnings of files that make GDAL read other files or servers, with a description of the kind of file."""

DIRECTORIES = (".gdb", ".zarr")
"""Formats that are a directory."""


def raster_drivers(suffix: str) -> list[str]:
    """Return the drivers that may open a raster with this suffix."""
    return [*RASTERS_BY_SUFFIX.get(suffix.lower(), ()), *RASTERS]


def vector_drivers(suffix: str) -> list[str]:
    """Return the drivers that may open a vector file with this suffix."""
    return [*VECTORS_BY_SUFFIX.get(suffix.lower(), ()), *VECTORS]
