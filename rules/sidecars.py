"""What GDAL writes beside a raster, `NAME.aux.xml`, and whether any of it changes what the raster means.

QGIS and gdalinfo leave statistics there when they show a raster. That is no edit of the imagery.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from rvbuild.build.fingerprint import signature
from rvbuild.build.state import Signature

ENDING = ".aux.xml"
_STRUCTURE = {"INTERLEAVE", "COMPRESSION"}
"""What may be said of how the file is laid out; a type of pixels, for example, would count."""


def sort(beside: Iterable[Path]) -> tuple[tuple[Path, ...], tuple[tuple[Path, Signature], ...]]:
    """Return the files of those `beside` a raster that count, and the others as they were when that was seen."""
    counted: list[Path] = []
    others: list[tuple[Path, Signature]] = []
    for path in beside:
        seen = signature(path) if path.name.lower().endswith(ENDING) else None
        if seen is not None and _says_nothing(path, seen):
            others.append((path, seen))
        else:
            counted.append(path)
    return tuple(counted), tuple(others)


@functools.lru_cache(maxsize=1 << 16)
def _says_nothing(path: Path, _seen: Signature) -> bool:
    """Return whether there are only statistics, histograms and descriptive metadata; if in doubt, there is more."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return False
    parts = [part for part in root if part.tag != "PAMRasterBand"]
    parts += [part for band in root.iter("PAMRasterBand") for part in band if part.tag != "Histograms"]
    return root.tag == "PAMDataset" and all(map(_is_descriptive, parts))


def _is_descriptive(part: ElementTree.Element) -> bool:
    domain = part.get("domain", "")
    known = domain == "" or (domain == "IMAGE_STRUCTURE" and {item.get("key") for item in part} <= _STRUCTURE)
    return part.tag == "Metadata" and known
