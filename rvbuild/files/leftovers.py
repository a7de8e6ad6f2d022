"""Files that systems and tools leave beside images, and that are not images themselves."""

from __future__ import annotations

_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin"})
_ENDINGS = (
    *(".aux.xml", ".msk", ".ovr", ".xml", ".prj", ".wld", "~"),
    *(".tfw", ".tifw", ".tiffw", ".pgw", ".pngw", ".jgw", ".jpgw", ".jpegw", ".bpw", ".bmpw", ".gfw", ".j2w", ".sdw"),
)
"""Suffixes of world files, of files that GDAL and ArcGIS write beside a raster, and of backup copies of editors."""


def is_leftover(relative: str) -> bool:
    """Tell whether a path in a folder of images (with slashes) is a file to be ignored.

    >>> [is_leftover(name) for name in ("red/Thumbs.db", "red/a.tif.aux.xml", "red/a.TFW", ".x/a.png", "red/a.png")]
    [True, True, True, True, False]
    """
    *folders, name = relative.lower().split("/")
    hidden = any(part.startswith(".") for part in (*folders, name))
    return hidden or name in _NAMES or name.endswith(_ENDINGS) or not _FOLDERS.isdisjoint(folders)
