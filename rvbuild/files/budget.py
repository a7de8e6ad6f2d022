"""Memory checks before work: the available memory, and an error for work that needs more."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.files.urls import Url
from rvbuild.files.zipped import Zipped

PARSED_TIMES = 12
"""Approximate size in memory of parsed JSON or CSV, relative to the size of the file."""


def require(needed: float, purpose: str, remedy: str) -> None:
    """Raise an error if more memory is needed than is available.

    Parameters
    ----------
    needed
        Bytes.
    purpose, remedy
        The work that needs the memory, and what to do instead, for the message.

    Raises
    ------
    DataError
        Less memory is available.
    """
    available = memory_bytes()
    if available is not None and needed > available:
        raise DataError(
            f"{purpose} needs about {size_text(needed)} of memory; {size_text(available)} is available. {remedy}"
        )


def content_of(path: Path, times: float = PARSED_TIMES) -> bytes:
    """Return the content of a file that is read and parsed as a whole.

    Raises
    ------
    DataError
        The parsed content, `times` the size of the file, would not fit into memory.
    OSError
        The file cannot be read.
    """
    if not isinstance(path, Url | Zipped):  # these have their own limit
        require(times * path.stat().st_size, f"{path}: reading it", _SMALLER)
    return path.read_bytes()


_SMALLER = "Split it into several files, for example one for each scene"


def size_text(count: float) -> str:
    """Format a number of bytes for humans.

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
    """Return the memory of the machine, or the limit of this process (`ulimit -v`, a container); None if unknown."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits = [] if limit == resource.RLIM_INFINITY else [limit]
    return min([physical, *limits, *_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _limits(cgroup_file: Path, groups: Path) -> Iterator[int]:
    """Yield the memory limits of this process's control group and its parents, for both versions of cgroups."""
    try:
        lines = cgroup_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in ["0::/", *lines]:
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        root, name = (groups, "memory.max") if not kinds else (groups / "memory", "memory.limit_in_bytes")
        group = Path(path.lstrip("/"))
        for level in (group, *group.parents):
            try:
                text = (root / level / name).read_text(encoding="ascii").strip()
            except OSError:
                continue
            if text.isdecimal():
                yield int(text)
