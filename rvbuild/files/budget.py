"""Memory before work: what there is, and a refusal of what takes more."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.files.urls import Url
from rvbuild.files.zipped import Zipped

PARSED_TIMES = 12
"""How much larger a text of JSON or CSV is in memory once it has been parsed, about."""


def require(needed: float, what: str, remedy: str) -> None:
    """Refuse what takes more memory than there is.

    Parameters
    ----------
    needed
        Bytes.
    what, remedy
        What takes them, and what to do instead, for the message.

    Raises
    ------
    DataError
        There is less.
    """
    there = memory_bytes()
    if there is not None and needed > there:
        raise DataError(f"{what} takes about {size_text(needed)} of memory, and there are {size_text(there)}. {remedy}")


def content_of(path: Path, times: float = PARSED_TIMES) -> bytes:
    """Return the content of a file that is read as a whole and parsed.

    Raises
    ------
    DataError
        It is so large that what is made of it, `times` its size, does not fit into memory.
    OSError
        It cannot be read.
    """
    if not isinstance(path, Url | Zipped):  # those have a limit of their own
        require(times * path.stat().st_size, f"{path}: what is read of it", _SMALLER)
    return path.read_bytes()


_SMALLER = "Make several files of it, for example one for each scene"


def size_text(count: float) -> str:
    """Return a number of bytes for people.

    >>> size_text(1.5e6), size_text(2.5e9), size_text(3e15)
    ('2 MB', '2.5 GB', '3000 TB')
    """
    return (
        f"{count / 1e12:.0f} TB"
        if count >= 1e13
        else f"{count / 1e9:.1f} GB"
        if count >= 1e9
        else f"{count / 1e6:.0f} MB"
    )


def memory_bytes() -> int | None:
    """Return the memory of the machine, or of what limits this process (`ulimit -v`, a container); None if unknown."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits = [] if own == resource.RLIM_INFINITY else [own]
    return min([found, *limits, *_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _limits(own: Path, groups: Path) -> Iterator[int]:
    """Yield the limits of memory of this process's control groups and of those around them, of either version."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in ["0::/", *lines]:
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        root, name = (groups, "memory.max") if not kinds else (groups / "memory", "memory.limit_in_bytes")
        group = Path(path.lstrip("/"))
        for one in (group, *group.parents):
            try:
                text = (root / one / name).read_text(encoding="ascii").strip()
            except OSError:
                continue
            if text.isdecimal():
                yield int(text)
