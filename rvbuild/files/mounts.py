"""The kind of file system that a directory is on."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|lustre|gpfs|ceph|beegfs(_nodev)?|glusterfs|afs|pvfs2|orangefs|panfs|9p|fuse\..*"
)


def is_on_network(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Tell whether the directory `path` is on a file system of a server; False where that cannot be known.

    File systems in user space count as such: most of them are.
    """
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
        place = os.path.realpath(path)
    except OSError:
        return False
    best, kind = -1, ""
    for line in lines:
        _, folder, this_kind, *_ = line.split(" ")
        folder = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), folder)
        if (place == folder or place.startswith(folder.rstrip("/") + "/")) and len(folder) >= best:
            best, kind = len(folder), this_kind  # a later mount hides an earlier one
    return _NETWORK.fullmatch(kind) is not None
