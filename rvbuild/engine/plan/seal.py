"""The seal: the fast path to "nothing to do".

After a complete build of a target, a small file lists every file that the target depends on, with its stat signature:
sources, outputs, the project files, rvbuild's own code; the module path, the versions of packages in keys, and the
environment variables that the project reads. If the seal of a run with the same command line still matches, the run
ends without any planning. A seal is only valid for the cache in which it was created. Only the standard library is used
here, and not all of it: the import of pathlib would take as long as the rest of the fast path.

The servers of remote files are asked each time whether the files are unchanged.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from stat import S_ISREG

_RACY_NS = 20_000_000
_SCHEMA = 3
#: In the cache; see `ownership`, which takes longer to import.
_STAMP = ".stamp"


def path_of(cache: str | os.PathLike[str], words: Sequence[str]) -> str:
    """Return the path of the seal of the command line `words`, in the workspace's cache."""
    digest = zlib.crc32(repr(list(words)).encode("utf-8", "surrogatepass"))
    return os.path.join(cache, "seals", f"{digest:08x}.json")


def holds(path: str | os.PathLike[str], words: Sequence[str]) -> list[str] | None:
    """Return the message for the user if the seal at `path` belongs to `words` and still matches, else None."""
    try:
        if not S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, "rb") as file:
            text, _, check = file.read().rpartition(b"\n")
        if check != b"%08x" % zlib.crc32(text):
            return None  # damaged: it might lack a file that it depends on
        seal = json.loads(text)
        if seal["schema"] != _SCHEMA or seal["words"] != list(words) or seal["python"] != sys.version:
            return None
        if seal["path"] != _import_path() or not _same_packages(seal["packages"]):
            return None
        if any(os.environ.get(name) != value for name, value in seal["environment"].items()):
            return None
        if not _same_variables(seal.get("variables", {})):
            return None
        # Only the creator of the cache knows its stamp: a seal from another cache is ignored.
        stamp = os.lstat(_stamp_of(path))
        if seal["stamp"] != [stamp.st_ino, stamp.st_ctime_ns] or not S_ISREG(stamp.st_mode) or stamp.st_nlink != 1:
            return None
        stat = os.stat
        for name, size, mtime_ns, ctime_ns, inode in seal["files"]:
            s = stat(name)
            if s.st_size != size or s.st_mtime_ns != mtime_ns or s.st_ino != inode or s.st_ctime_ns != ctime_ns:
                return None
        if not _same_remote_files(seal.get("elsewhere", {})):
            return None
        if any(stat(name).st_mtime_ns != mtime_ns for name, mtime_ns in seal["directories"]):
            return None
        return list(seal["lines"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _stamp_of(path: str | os.PathLike[str]) -> str:
    """Return the path of the stamp of the cache that a seal is in."""
    return os.path.join(os.path.dirname(os.path.dirname(path)), _STAMP)


def _import_path() -> list[str]:
    """Return the module path, without the directory that Python adds for the script that was started."""
    own = {"", os.getcwd(), os.path.dirname(os.path.abspath(sys.argv[0]))}
    return [os.environ.get("PYTHONPATH", ""), *(entry for entry in sys.path if entry not in own)]


def _same_packages(versions: Mapping[str, str]) -> bool:
    """Tell whether the versions of the packages in keys are unchanged."""
    if not versions:
        return True
    from importlib import metadata  # takes as long as all other checks together

    try:
        return all(metadata.version(name) == version for name, version in versions.items())
    except metadata.PackageNotFoundError:
        return False


def _same_variables(digests: Mapping[str, str]) -> bool:
    """Tell whether the environment variables that user code reads have the values they had."""
    if not digests:
        return True
    from rvbuild.process.variables import value_digests  # imported late: only needed for user code

    return value_digests(digests) == digests


def _same_remote_files(digests: Mapping[str, str]) -> bool:
    """Ask servers whether remote files are unchanged."""
    if not digests:
        return True
    from rvbuild.files.fetch import identities  # imported late: only needed for remote files

    states = {url: getattr(identity, "digest", None) for url, identity in identities(digests).items()}
    return all(state is not None and state == digests[url] for url, state in states.items())


def write(
    path: str | os.PathLike[str],
    words: Sequence[str],
    *,
    files: Mapping[str, tuple[int, int, int, int]],
    directories: Mapping[str, int | None],
    environment: Mapping[str, str | None],
    packages: Mapping[str, str],
    remote_files: Mapping[str, str],
    lines: Sequence[str],
    variables: Mapping[str, str] | None = None,
) -> None:
    """Write a seal of the observed state; any later difference invalidates it.

    Parameters
    ----------
    path : path-like
    words : sequence of str
        The command line, normalised.
    files : mapping
        Absolute path -> (size, mtime_ns, ctime_ns, inode) at the time when the build relied on it.
    directories : mapping
        Directories where a new file would matter, such as a world file beside an image or another project file: path ->
        mtime_ns before the directory was searched; None if that was not recorded: the current time is used then.
    environment : mapping
        The environment variables that the projects read; None for one that is not set.
    packages : mapping
        The versions of the packages in keys.
    remote_files : mapping
        Address -> digest of the identity of each remote file, whose server is asked each time.
    lines : sequence of str
        The message of a run with nothing to do.
    variables : mapping, optional
        The environment variables that user code reads: name -> digest of the value.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    # An edit of an output right after the end of this process must get a different time.
    newest = max((max(f[1], f[2]) for f in files.values()), default=0)
    time.sleep(max(0, min(_RACY_NS, newest + _RACY_NS - time.time_ns())) / 1e9)
    try:
        stamp = os.lstat(_stamp_of(path))
        seal = {
            "schema": _SCHEMA,
            "stamp": [stamp.st_ino, stamp.st_ctime_ns],
            "words": list(words),
            "python": sys.version,
            "path": _import_path(),
            "packages": dict(packages),
            "environment": dict(environment),
            "variables": dict(variables or {}),
            "files": [[name, *values] for name, values in files.items()],
            "directories": [
                [name, os.stat(name).st_mtime_ns if at is None else at] for name, at in directories.items()
            ],
            "elsewhere": dict(remote_files),
            "lines": list(lines),
        }
        os.makedirs(os.path.dirname(path), exist_ok=True)
        text = json.dumps(seal, separators=(",", ":")).encode()
        temporary = f"{os.fspath(path).removesuffix('.json')}.{os.getpid()}.tmp"
        with open(temporary, "wb") as file:
            file.write(text + b"\n%08x" % zlib.crc32(text))
        os.replace(temporary, path)
    except OSError:
        return  # a seal only saves time, so errors are ignored
