"""References to other files: in virtual rasters and vector files, MapInfo tables, GML.

GDAL follows such names wherever they lead, so they are read here first, without GDAL. Planning uses it: it imports
nothing heavy.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.files.address import is_url
from rvbuild.files.urls import Url
from rvbuild.geo.gdal.drivers import LEADS_ELSEWHERE

VIRTUAL = ".vrt"

HEAD_BYTES = 4096
"""The number of bytes in which GDAL looks for the type of a file."""

MOST_BYTES = 256 << 20
"""The largest description that is read."""

_BUCKETS = {"/vsis3/": "s3://", "/vsigs/": "gs://"}

_ARCHIVES = {"/vsizip/": (".zip",), "/vsitar/": (".tar", ".tgz", ".tar.gz"), "/vsigzip/": (".gz",)}

_FILES = {
    "sourcefilename",
    "sourcedataset",
    "srcdatasource",
    "filename",
    "dempath",
    "sourcedatasource",
    "cutlineds",
    "cutline_ds",
    "relatedfile",
}
"""Elements and attributes whose text is a file, in lower case: GDAL ignores their case."""

_KEYS = {"x_dataset", "y_dataset", "overview_file", "rpc_dem", "cutline_ds"}
"""Keys of metadata and options whose value is a file."""

_ANYWHERE = re.compile(r"(?i)/vsi[a-z0-9_]+/|[a-z][a-z0-9+.-]+://")
"""Attributes that always refer to a file or a server."""

_HARMLESS = re.compile(r"(?i)https?://(?:www\.)?(?:opengis\.net|w3\.org|gdal\.org|ns\.adobe\.com|purl\.org)/")
"""Names of schemas, which are not downloaded."""

_SUBDATASET = re.compile(
    r'(?is)^(?:NETCDF|HDF5|HDF4_SDS|HDF4_EOS|BAG|GTIFF_DIR:\d+|GPKG|GRIB|NITF_IM:\d+):"?(.+?)"?(?::.*)?$'
)
"""How a part of a file is named: `NETCDF:"file.nc":band`."""

_PREFIX = re.compile(r"^[A-Za-z][A-Za-z0-9_]+:")


def head(path: Path) -> bytes:
    """Return the first bytes of a plain file; none if it cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def kind_of(beginning: bytes) -> str:
    """Return what kind of referring file this is, from its first bytes; empty for any other."""
    return next((kind for marker, kind in LEADS_ELSEWHERE.items() if marker in beginning), "")


def is_virtual(beginning: bytes) -> bool:
    """Tell whether a file is a virtual raster or vector file, from its first bytes."""
    return b"<VRTDataset" in beginning or b"<OGRVRTDataSource" in beginning


def of_virtual(path: Path) -> tuple[Path, ...]:
    """Return the files that a virtual raster or vector file names, existing or not.

    Raises
    ------
    DataError
        It cannot be read, refers to something that is not a file, or has pixels computed by Python.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: is larger than {MOST_BYTES >> 20} MiB; expected a description of other files")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return tuple(dict.fromkeys(_named(path, data)))


def _named(path: Path, data: bytes) -> Iterator[Path]:
    if re.search(rb"<!(?:DOCTYPE|ENTITY)", data, re.IGNORECASE):
        raise DataError(f"{path}: has a document type, which virtual files do not need; remove it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    from xml.etree import ElementTree  # takes milliseconds, and planning rarely needs it

    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True, insert_pis=True))
    try:
        root = ElementTree.fromstring(text, parser)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: is not well-formed XML: {error}") from error
    for element in root.iter():
        tag = str(element.tag).rpartition("}")[2].lower()  # of a comment
        attributes = {name.lower(): value for name, value in element.items()}
        if tag == "pixelfunctionlanguage" and (element.text or "").strip().lower() == "python":
            raise DataError(
                f"{path}: its pixels are computed by Python code in the file, which is not run. Write the result, for "
                "example with `gdal_translate`"
            )
        if tag == "srcsql":
            yield from _in_query(path, element.text or "")
        file = tag in _FILES or attributes.get("key", attributes.get("name", "")).lower() in _KEYS
        if file and len(element):
            raise DataError(f"{path}: <{tag}> holds more than a file name")
        texts = [(element.text or "", file)]
        texts += [(value, name in _FILES) for name, value in attributes.items()]
        for value, counts in texts:
            value = value.strip()
            if value and (counts or (_ANYWHERE.search(value) and not _HARMLESS.search(value) and tag not in _FREE)):
                relative = attributes.get("relativetovrt", "0").strip() not in ("", "0")
                yield resolve(path, value, relative)


_FREE = {"mdi", "srs", "srcsql", "description", "metadata", "targetsrs", "layersrs", "sourcesrs"}
"""Elements whose text may mention addresses that are not opened."""


_QUERY_NAMES = re.compile(r"""(["'])([^"']*)\1\s*\.""")
_QUERY_OPENS = re.compile(r"(?i)virtualogr|ogr_datasource|load_extension|\b(?:attach|create|pragma)\b")


def _in_query(path: Path, query: str) -> Iterator[Path]:
    """Yield the files that a query in a virtual vector file reads in addition to its own."""
    if _QUERY_OPENS.search(query):
        raise DataError(f"{path}: its query is not a plain SELECT; write its result to a file")
    for _, name in _QUERY_NAMES.findall(query):
        if set(name) & set("/.:") or os.path.lexists(_join(path, name, False)):
            yield resolve(path, name, False)


def resolve(path: Path, text: str, relative: bool = True) -> Path:
    """Return the file that GDAL opens for `text`, a name in the file `path`.

    Raises
    ------
    DataError
        It is not a file name, or its kind cannot be followed.
    """
    for virtual, scheme in _BUCKETS.items():
        if text.startswith(virtual):
            return Url(scheme + text.removeprefix(virtual))
    if text.startswith("/vsicurl/"):
        address = text.removeprefix("/vsicurl/")
        if is_url(address):
            return Url(address)
    if text.lower().startswith("vrt://"):
        return resolve(path, text[len("vrt://") :].partition("?")[0], relative)
    inner = _SUBDATASET.match(text)
    if inner and not os.path.lexists(_join(path, text, relative)):
        return resolve(path, inner[1], relative)
    for virtual in _ARCHIVES:
        if text.startswith(virtual):
            return _archive(path, virtual, text.removeprefix(virtual).strip("{}"), relative)
    place = _join(path, text, relative)
    plain = (
        not is_archive(place)
        and not text.startswith("/vsi")
        and "<" not in text
        and "\n" not in text
        and "://" not in text
    )
    if not plain or (_PREFIX.match(text) and not os.path.lexists(place)):
        raise DataError(f"{path}: names {text[:80]!r} as a source; expected a file")
    return place


def _join(path: Path, text: str, relative: bool) -> Path:
    # GDAL takes a name that is not relative to the file from the directory in which the process runs.
    return Path(os.path.normpath(path.parent / text if relative else Path(text).absolute()))


def is_archive(path: Path) -> bool:
    """Tell whether a file is an archive by its name."""
    return path.name.lower().endswith(tuple(ending for endings in _ARCHIVES.values() for ending in endings))


def _archive(path: Path, virtual: str, text: str, relative: bool) -> Path:
    """Return the archive of a name inside it; files in it do not refer to other files."""
    if text.startswith("/vsi"):
        raise DataError(f"{path}: names {virtual}{text} as a source; archives inside archives are not followed")
    place = _join(path, text, relative)
    for archive in (place, *place.parents):
        if archive.name.lower().endswith(_ARCHIVES[virtual]) or archive.is_file():
            inside = place.relative_to(archive).as_posix()
            if kind := kind_of(_head_inside(archive, inside)):
                raise DataError(f"{archive}: {inside} in it is {kind}, which is not followed there. Unpack it")
            return archive
    raise DataError(f"{path}: names {virtual}{text} as a source; expected a file in an archive")


def _head_inside(archive: Path, inside: str) -> bytes:
    """Return the first bytes of a file in an archive; none if it cannot be read, which GDAL will say."""
    import gzip  # planning rarely needs them
    import tarfile

    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                names = [inside] if inside not in (".", "") else packed.namelist()[:1]
                with packed.open(names[0]) as file:
                    return file.read(HEAD_BYTES)
        if archive.name.lower().endswith(_ARCHIVES["/vsitar/"]):
            with tarfile.open(archive) as tape:
                member = tape.extractfile(inside)
                return b"" if member is None else member.read(HEAD_BYTES)
        with gzip.open(archive) as stream:
            return stream.read(HEAD_BYTES)
    except (OSError, EOFError, KeyError, IndexError, RuntimeError, zipfile.BadZipFile, tarfile.TarError):
        return b""


_TABLE = re.compile(r'(?im)^\s*(?:File|Open\s+Table)\s+"([^"]+)"')
_SCHEMA = re.compile(r"""(?i)schemaLocation\s*=\s*["']([^"']+)["']""")


def of_table(path: Path) -> tuple[Path, ...]:
    """Return the files that a table of MapInfo (.tab) names.

    Raises
    ------
    DataError
        The table consists of other tables.
    """
    text = head(path).decode("latin-1")
    if re.search(r'(?im)IsSeamless"?\s*=\s*"?TRUE', text):
        raise DataError(f"{path}: is a seamless table, which consists of other tables; list those instead")
    return tuple(dict.fromkeys(resolve(path, name) for name in _TABLE.findall(text)))


def of_gml(path: Path) -> tuple[Path, ...]:
    """Return the schemas on this machine that a GML file names, and those that these name."""
    schemas: dict[Path, None] = {}
    left: list[Path] = [path]
    while left:
        file = left.pop()
        for value in _SCHEMA.findall(head(file).decode("utf-8", "replace")):
            for name in value.split():
                if name.lower().endswith(".xsd") and not is_url(name) and not name.startswith("/vsi"):
                    schema = Path(os.path.normpath(file.parent / name.removeprefix("file://")))
                    if schema not in schemas:
                        schemas[schema] = None
                        left.append(schema)
    return tuple(schemas)


def inside(path: Path, roots: Sequence[Path]) -> bool:
    """Tell whether a file is in one of some directories, all links followed."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(root)) for root in roots)
