"""The environment variables that reach GDAL, PROJ, numpy and torch: only those for access to files and for speed.

The key of a result does not depend on environment variables. Therefore workers see none of the variables of these
libraries, except those that are known not to change results. Some are set to fixed values.
`docs/incremental.md` has the list for users.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from rvbuild.cores import THREADS_VARIABLE, thread_count

#: Fixed variables of workers. Libraries read some of them when they start.
PINNED: Mapping[str, str] = {
    # A GeoPackage stores the time of its last change; without this its bytes differ each time.
    "OGR_CURRENT_DATE": "1970-01-01T00:00:00Z",
    # Twelve million points in one polygon, which need some 8 GB when they are read; GDAL's own limit is a tenth of it.
    "OGR_GEOJSON_MAX_OBJ_SIZE": "2000",
    # Ignore the configuration files of the user and the machine, which could set everything that is removed here.
    "GDAL_CONFIG_FILE": os.devnull,
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # Grids of datum shifts that exist only on one machine, or on a server, would move labels on that machine only.
    "PROJ_NETWORK": "OFF",
    "PROJ_SKIP_READ_USER_WRITABLE_DIRECTORY": "YES",
    # Waiting threads of torch do not spin: on a busy machine, spinning slows a training down many times over.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Matrix products of numpy are small here, and stages run side by side: the threads of OpenBLAS would wait for each
    # other, and longest on a busy machine. torch does not use it.
    "OPENBLAS_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # The hash seed sets the iteration order of sets of strings, which users' own code may depend on.
    "PYTHONHASHSEED": "0",
    # Packages that are installed, but in no key, would change what pydantic does in users' own code.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
    "PYTHONUTF8": "1",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}

#: Variables that GDAL, PROJ, numpy and torch read: by the first word of the name, which is the name of a library or a
#: format, or by the whole name where the first word could also begin a variable of the user.
_LIBRARIES = """
    GDAL OGR OGR2OGR OSR CPL GDALWARP GDALCUTLINE GNM PROJ PROJ4 BAG BASISU BSB DGN DTED DWG DXF
    ECW ECWP EEDA FGDB GEOJSON GEOR GEOTIFF GML GMLAS GPKG GPX GRIB GTI GTIFF HDF4 HDF5 HFA JP2KAK JP2OPENJPEG
    JPEG JXL KTX2 L1B LIBKML MBTILES MDBDRIVER MITAB MRF MVT NETCDF NITF ODS OPENFILEGDB PDF PDS PDS4 PGEO RMF
    RPF RPFTOC S57 SENTINEL2 SPATIALITE SQLITE SRP SXF TILEDB VRT ZARR ZMAP OMP KMP GOMP MKL ONEDNN DNNL
    OPENBLAS GOTO BLIS VECLIB NUMEXPR NPY ATEN TORCH PYTORCH CUBLAS CUBLASLT CUDNN
"""
_NAMES = """
    ALLOW_GPKG_ZOOM_OTHER_EXTENSION ALLOW_OGR_SQL_FUNCTIONS_FROM_TRIGGER_AND_VIEW
    ALLOW_VIRTUAL_OGR_FROM_TRIGGER_AND_VIEW ATTRIBUTES_SKIP BLOCKXSIZE BLOCKYSIZE CENTER_LONG
    CHECK_DISK_FREE_SPACE CHECK_WITH_INVERT_PROJ COG_DELETE_TEMP_FILES COG_TMP_COMPRESSION COMPRESS_GEOM
    CONVERT_YCBCR_TO_RGB CREATE_GEOMETRY_COLUMNS CREATE_RASTER_TABLES CREATE_TRIGGERS
    DISABLE_OPEN_REAL_NETCDF_FILES ESRI_XML_PAM FORCE_BLOCKSIZE GEOLOC_DUMP GEOL_AS_GCPS GEOMETRY_AS_COLLECTION
    GMLJP2OVERRIDE GMT_USE_TAB GXF_DATATYPE IDRISIDIR ISG_SKIP_GEOREF_CONSISTENCY_CHECK JPEGMEM KML_DEBUG
    NAS_GFS_TEMPLATE NAS_INDICATOR NAS_SKIP_CORRUPTED_FEATURES OSM_COMPRESS_NODES OSM_CONFIG_FILE
    OSM_INDEX_POINTS OSM_INDEX_WAYS OSM_USE_CUSTOM_INDEXING OSM_USE_POINTS_INDEX OSM_USE_WAYS_INDEX
    OZI_APPROX_GEOTRANSFORM PYTHONSO QGIS_HACK RAW_CHECK_FILE_SIZE RAW_MEM_ALLOC_LIMIT_MB REPORT_COMPD_CS
    RESTRICT_OUTPUT_DATASET_UPDATE RL2_SHOW_ALL_PYRAMID_LEVELS RPC_INVERSE_LOG RPC_INVERSE_VERBOSE
    SHAPE_2GB_LIMIT SHAPE_ENCODING SHAPE_RESTORE_SHX SHAPE_REWIND_ON_WRITE SPATIALITESO TAB_APPROX_GEOTRANSFORM
    THRESHOLD TIFF_READ_STREAMING TIFF_USE_OVR USE_OSR_FIND_MATCHES USE_RRD USE_SPILL USE_TEMPFILE
    USE_TILE_AS_BLOCK WARP_THREAD_CHUNK_SIZE NVIDIA_TF32_OVERRIDE PYTHONOPTIMIZE PYTHONWARNINGS PYTHONIOENCODING
    LANGUAGE
"""

#: The pattern of the variables among them that reach the libraries: access to remote files, memory, threads, and logs.
_PASSING = r"""
    GDAL_HTTPS?_\w+ | GDAL_PROXY_AUTH | GDAL_GSSAPI_DELEGATION | GDAL_CURL_CA_BUNDLE
    | CPL_(AWS|AZURE|GS|GCE|VSIL_CURL|VSIS3|VSIGS|VSIAZ)_\w+ | CPL_MACHINE_IS_GCE
    | GDAL_CACHEMAX | GDAL_NUM_THREADS | GDAL_MAX_DATASET_POOL_(SIZE|RAM_USAGE)
    | GDAL_INGESTED_BYTES_AT_OPEN | GTI_NUM_THREADS | VRT_NUM_THREADS | SQLITE_TMPDIR
    | CPL_TMPDIR | CPL_DEBUG | CPL_TIMESTAMP | CPL_LOG\w* | CPL_CURL_VERBOSE | CPL_MAX_ERROR_REPORTS | PROJ_DEBUG
    | CPL_VSIL_(SHOW_NETWORK_STATS|NETWORK_STATS_ENABLED)
    | PROJ_CURL_CA_BUNDLE
    | MKL_THREADING_LAYER | MKL_SERVICE_FORCE_INTEL | KMP_DUPLICATE_LIB_OK | (MKL|ONEDNN|DNNL)_VERBOSE
    | TORCH_(HOME|EXTENSIONS_DIR|CUDA_ARCH_LIST|LOGS|LOGS_OUT|CPP_LOG_LEVEL|SHOW_CPP_STACKTRACES|DISTRIBUTED_DEBUG)
    | TORCH_(NCCL|FR|GLOO|ELASTIC)_\w+
    | PYTORCH_((CUDA_)?ALLOC_CONF|NO_CUDA_MEMORY_CACHING|KERNEL_CACHE_PATH|NVML_BASED_CUDA_CHECK)
    """

_DATA = {"PROJ_DATA": "proj.db", "PROJ_LIB": "proj.db", "GDAL_DATA": "gdalvrt.xsd"}
"""Variables that name the directories of libraries' tables, and a file that each directory must contain."""


def for_workers(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables to set, or to remove (None), in an environment before libraries run in it.

    Raises
    ------
    UsageError
        `RVBUILD_THREADS` is not a number.
    """
    hidden_variables: dict[str, str | None] = dict.fromkeys(hidden(environ))
    # The number of threads affects the rounding of sums: all libraries use the same number.
    # It may have changed since the process that starts workers was started.
    threads = {"OMP_NUM_THREADS": str(thread_count()), THREADS_VARIABLE: environ.get(THREADS_VARIABLE)}
    return {**hidden_variables, **PINNED, **threads}


def value_digests(names: Iterable[str]) -> dict[str, str]:
    """Return a digest of the value that each variable has in workers; empty if it is not set.

    Values may be secrets: keys and seals hold digests of them.
    """
    names = sorted(names)
    environ: dict[str, str | None] = {**os.environ, **for_workers(os.environ)} if names else {}
    values = {name: environ.get(name) for name in names}
    return {
        name: "" if value is None else hashlib.blake2b(os.fsencode(value), digest_size=16).hexdigest()
        for name, value in values.items()
    }


def hidden(environ: Iterable[str]) -> list[str]:
    """Return the names among `environ` that are hidden from libraries, sorted."""
    return sorted(name for name in environ if _is_read(name) and not _passes(name))


@functools.cache
def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _is_read(name: str) -> bool:
    library, _, rest = name.partition("_")
    return (rest != "" and library in _words(_LIBRARIES)) or name in _words(_NAMES) or name.endswith("_OVERVIEW")


def _passes(name: str) -> bool:
    return re.fullmatch(_PASSING, name, re.VERBOSE) is not None or (name in _DATA and not _have_bundled_data())


def problems(environ: Mapping[str, str]) -> list[str]:
    """Return a message for each variable that points to a wrong directory of tables."""
    lines = []
    for name, file in _DATA.items():
        value = environ.get(name)
        if value and not any(Path(place, file).is_file() for place in value.split(os.pathsep)):
            advice = "is ignored: rasterio and fiona bring their own" if not _passes(name) else "unset or correct it"
            lines.append(f"{name}={value}: there is no {file}; {advice}")
    return lines


@functools.cache
def _have_bundled_data() -> bool:
    """Tell whether rasterio, and fiona where it is installed, have the tables of their own GDAL and PROJ."""
    specs = [spec for package in ("rasterio", "fiona") if (spec := importlib.util.find_spec(package)) is not None]
    origins = [spec.origin for spec in specs]
    return bool(origins) and all(origin and Path(origin).with_name("proj_data").is_dir() for origin in origins)
