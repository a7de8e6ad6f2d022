"""Which files may be opened as imagery or labels, and which others they may lead to.

A file that a project names is read, and what lies beside it. What a virtual file names is read if it is below the
workspace, below the directory of the file that the project names, or where the project allows it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.files.address import is_url
from rvbuild.files.urls import Url
from rvbuild.files.zipped import Zipped
from rvbuild.geo.gdal import references

WORKSPACE = "RVBUILD_WORKSPACE"
"""The environment variable of workers with the workspace."""

ALLOWED = "RVBUILD_ALLOW"
"""The environment variable of workers with the places that projects allow, as a JSON list."""

_DEPTH = 32

_BESIDE = (".msk", ".ovr")
"""Suffixes of files that GDAL opens beside any raster."""

_ADDED = (*_BESIDE, ".aux.xml", ".hdr", ".wld")
_REPLACED = (
    *(".aux", ".hdr", ".prj", ".wld", ".tab", ".tfw", ".tifw", ".pgw", ".jgw", ".j2w", ".rpb", ".imd"),
    *(".dbf", ".shx", ".cpg", ".qix", ".csvt", ".gfs", ".xsd", ".mid", ".dat", ".map", ".id"),
)
"""Suffixes of files that are opened beside another: appended to its name, and replacing its suffix."""


def environment(workspace: Path | None, allowed: Iterable[str]) -> dict[str, str]:
    """Return the environment variables that tell workers which files may be read."""
    return {WORKSPACE: "" if workspace is None else str(workspace), ALLOWED: json.dumps(sorted(set(allowed)))}


def require(path: Path) -> None:
    """Check, before GDAL opens it, that a file that a project names can be read, and leads where that is allowed.

    Raises
    ------
    DataError
        It is not what its suffix says, refers to another place, or refers to a file that does not exist.
    """
    # Not left to GDAL: after a failure to open a source, it may silently read zeros the next time.
    for source, by in require_places(path).items():
        if not source.exists():
            raise DataError(f"{by}: reads {source}, which does not exist")


def require_places(path: Path) -> Mapping[Path, Path]:
    """Check a file that a project names before GDAL opens it: it must not refer to forbidden places.

    Returns
    -------
    mapping
        Each file here that a virtual file leads to, existing or not → the file that names it.

    Raises
    ------
    DataError
        It is not what its suffix says, or refers to a forbidden place.
    """
    if isinstance(path, Url | Zipped):
        return {}  # opened by drivers that read that one file alone
    places = os.environ.get(WORKSPACE), os.environ.get(ALLOWED)
    if path.suffix.lower() == references.VIRTUAL:
        with contextlib.suppress(OSError):
            state = path.stat()
            return _require_virtual(path, (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino), places)
    _follow(path, _Places(path, *places), (), {})
    return {}


@functools.lru_cache(maxsize=256)
def _require_virtual(path: Path, _state: tuple[int, ...], places: tuple[str | None, str | None]) -> Mapping[Path, Path]:
    """Check a virtual file that has not changed once: a mosaic of thousands is opened again and again."""
    named: dict[Path, Path] = {}
    _follow(path, _Places(path, *places), (), named)
    return named


def require_files(path: Path, files: Iterable[str]) -> None:
    """Check that the files of a dataset, as reported by GDAL, may be read."""
    places = _Places(path, os.environ.get(WORKSPACE), os.environ.get(ALLOWED))
    for name in files:
        if not name.startswith("/vsi"):
            places.require(path, Path(name).absolute())


class _Places:
    """Where the files may be that a file named by a project leads to."""

    def __init__(self, path: Path, workspace: str | None, allow: str | None) -> None:
        allowed: Sequence[str] = json.loads(allow or "[]")
        self.roots = [path.parent, *([Path(workspace)] if workspace else [])]
        self.roots += [Path(place) for place in allowed if not is_url(place)]
        self.addresses = [place for place in allowed if is_url(place)]

    def require(self, path: Path, to: Path) -> None:
        if isinstance(to, Url):
            if not any(str(to).startswith(address) for address in self.addresses):
                raise DataError(
                    f"{path}: reads {to}, which the project does not allow. If this is intended, add the server and "
                    "the "
                    f'directory: allow = ["{str(to).rpartition("/")[0]}/"] in [project]'
                )
        elif not references.inside(to, self.roots):
            raise DataError(
                f"{path}: reads {to}, which is neither in the workspace nor below {self.roots[0]}. If this is "
                "intended, "
                f'add its directory: allow = ["{to.parent}"] in [project]'
            )


def _follow(path: Path, places: _Places, above: tuple[Path, ...], named: dict[Path, Path]) -> None:
    """Check a file and everything that it refers to, and record in `named` which file refers to which."""
    if above and references.is_archive(path):
        return  # files read from it were checked where they are named
    beginning = references.head(path)
    kind = references.kind_of(beginning)
    is_called_so = path.suffix.lower() == references.VIRTUAL
    if kind and not (is_called_so and references.is_virtual(beginning)):
        to_do = (
            "rename it to .vrt if this is intended" if references.is_virtual(beginning) else "save the pixels in a file"
        )
        raise DataError(f"{path}: is {kind}, which refers to other files or to servers; {to_do}")
    if above and (b'"stac_' in beginning or ".gti." in path.name.lower() or path.suffix.lower() in (".kml", ".kmz")):
        raise DataError(f"{above[-1]}: reads {path}, which refers to other files or to servers; refer to plain files")
    _require_plain_beside(path)
    if not kind or path in above:
        return
    if len(above) == _DEPTH:
        raise DataError(f"{above[0]}: refers to files that refer to other files, more than {_DEPTH} levels deep")
    for to in references.of_virtual(path):
        places.require(path, to)
        if not isinstance(to, Url):
            named.setdefault(to, path)
            _follow(to, places, (*above, path), named)


def _require_plain_beside(path: Path) -> None:
    for name in _names_beside(path):
        # Whoever opens a pipe waits for its other end.
        if _is_odd(name):
            raise DataError(f"{name}: is a pipe, a socket or a device; expected a file that belongs to {path.name}")
    for ending in _BESIDE:
        beside = path.with_name(path.name + ending)
        if kind := references.kind_of(references.head(beside)):
            raise DataError(f"{beside}: is {kind}; expected the mask or the overviews of {path.name}")
    description = path.with_name(f"{path.name}.aux.xml")
    for name in _OVERVIEW.findall(_content(description)):
        if not name.startswith(b":::BASE:::") or b"/" in name:
            raise DataError(
                f"{description}: refers to {name.decode(errors='replace')!r} for its overviews, which is not followed; "
                "remove that entry"
            )


def _names_beside(path: Path) -> Iterator[str]:
    """Yield the names of what may be opened beside a file: as text, because every file that is opened asks."""
    whole = str(path)
    stem = whole[: len(whole) - len(path.suffix)]
    for ending in _ADDED:
        yield whole + ending
    for ending in _REPLACED:
        yield stem + ending
        yield stem + ending.upper()


def _is_odd(name: str) -> bool:
    """Tell whether there is something that is neither a file nor a directory."""
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116 - dozens for each file
    except ValueError:
        return False
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)
"""Errors that say that there is nothing of a name."""

_OVERVIEW = re.compile(rb"(?is)OVERVIEW_FILE[\"'][^>]*>\s*([^<]*?)\s*<")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.stat().st_size <= references.MOST_BYTES else b""
    except OSError:
        return b""
