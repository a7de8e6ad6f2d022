"""The seal: the shortest way to "nothing to do".

After a complete build of a target a small file lists every file it rests on, with its stat signature: sources, outputs,
the project files, rvbuild's own code; where modules are imported from, the versions of packages that are in keys, and
the environment variables that the project read. A run with the same words whose seal still holds is done, without
planning anything. A seal speaks of the cache that it was made in alone. Only the standard library is used here.

The servers of files elsewhere are asked, each time, whether they still have what they had.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from stat import S_ISREG

_RACY_NS = 20_000_000
_SCHEMA = 3
#: In the cache; see `ownership`, which takes longer to import.
_STAMP = ".stamp"


def path_of(cache: Path, words: Sequence[str]) -> Path:
    """Return where the seal of the command `words` is, in the workspace's cache."""
    return cache / "seals" / f"{zlib.crc32(repr(list(words)).encode('utf-8', 'surrogatepass')):08x}.json"


def holds(path: Path, words: Sequence[str]) -> list[str] | None:
    """Return what to tell the user if the seal at `path` is of `words` and still holds, else None."""
    try:
        if not S_ISREG(os.lstat(path).st_mode):
            return None
        text, _, check = path.read_bytes().rpartition(b"\n")
        if check != b"%08x" % zlib.crc32(text):
            return None  # damaged: it might have lost a file that it rests on
        seal = json.loads(text)
        if seal["schema"] != _SCHEMA or seal["words"] != list(words) or seal["python"] != sys.version:
            return None
        if seal["path"] != _import_path() or not _same_packages(seal["packages"]):
            return None
        if any(os.environ.get(name) != value for name, value in seal["environment"].items()):
            return None
        # Only who made it here can know how the stamp of the cache looks: a seal of another place says nothing.
        stamp = os.lstat(path.parent.parent / _STAMP)
        if seal["stamp"] != [stamp.st_ino, stamp.st_ctime_ns] or not S_ISREG(stamp.st_mode) or stamp.st_nlink != 1:
            return None
        stat = os.stat
        for name, size, mtime_ns, ctime_ns, inode in seal["files"]:
            s = stat(name)
            if s.st_size != size or s.st_mtime_ns != mtime_ns or s.st_ino != inode or s.st_ctime_ns != ctime_ns:
                return None
        if not _same_elsewhere(seal.get("elsewhere", {})):
            return None
        if any(stat(name).st_mtime_ns != mtime_ns for name, mtime_ns in seal["directories"]):
            return None
        return list(seal["lines"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _import_path() -> list[str]:
    """Return where modules come from, without the directory that Python adds for the script that was started."""
    own = {"", os.getcwd(), os.path.dirname(os.path.abspath(sys.argv[0]))}  # noqa: PTH100, PTH109, PTH120 - without pathlib
    return [os.environ.get("PYTHONPATH", ""), *(entry for entry in sys.path if entry not in own)]


def _same_packages(known: Mapping[str, str]) -> bool:
    """Tell whether the packages whose versions are in keys are those that were there."""
    if not known:
        return True
    from importlib import metadata  # which takes as long as all the rest

    try:
        return all(metadata.version(name) == version for name, version in known.items())
    except metadata.PackageNotFoundError:
        return False


def _same_elsewhere(known: Mapping[str, str]) -> bool:
    """Ask servers whether files elsewhere are what they were."""
    if not known:
        return True
    from rvbuild.files.fetch import identities  # what asks servers is loaded where there are some

    states = {url: getattr(found, "digest", None) for url, found in identities(known).items()}
    return all(state is not None and state == known[url] for url, state in states.items())


def write(
    path: Path,
    words: Sequence[str],
    *,
    files: Mapping[str, tuple[int, int, int, int]],
    directories: Mapping[str, int | None],
    environment: Mapping[str, str | None],
    packages: Mapping[str, str],
    elsewhere: Mapping[str, str],
    lines: Sequence[str],
) -> None:
    """Write a seal of what was seen; whatever is not so any more breaks it.

    Parameters
    ----------
    path : Path
    words : sequence of str
        The command line, normalised.
    files : mapping
        Absolute path -> (size, mtime_ns, ctime_ns, inode) as it was when the build relied on it.
    directories : mapping
        Where new files would matter, a world file beside an image or another project file: path -> mtime_ns as it was
        before it was looked for them; None if that was not noted, and now has to do.
    environment : mapping
        The environment variables that the projects read; None for one that was not set.
    packages : mapping
        The versions of the packages that are in keys.
    elsewhere : mapping
        Address -> digest of the identity of each file elsewhere, for which its server is asked each time.
    lines : sequence of str
        What a run that has nothing to do says.
    """
    path.unlink(missing_ok=True)
    # Who edits an output as soon as this process has ended must not get the time that it was made at.
    newest = max((max(f[1], f[2]) for f in files.values()), default=0)
    time.sleep(max(0, min(_RACY_NS, newest + _RACY_NS - time.time_ns())) / 1e9)
    try:
        stamp = os.lstat(path.parent.parent / _STAMP)
        seal = {
            "schema": _SCHEMA,
            "stamp": [stamp.st_ino, stamp.st_ctime_ns],
            "words": list(words),
            "python": sys.version,
            "path": _import_path(),
            "packages": dict(packages),
            "environment": dict(environment),
            "files": [[name, *values] for name, values in files.items()],
            "directories": [
                [name, Path(name).stat().st_mtime_ns if at is None else at] for name, at in directories.items()
            ],
            "elsewhere": dict(elsewhere),
            "lines": list(lines),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        text = json.dumps(seal, separators=(",", ":")).encode()
        temporary.write_bytes(text + b"\n%08x" % zlib.crc32(text))
        temporary.replace(path)
    except OSError:
        return  # a seal only saves time
