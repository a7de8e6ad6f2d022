"""What GDAL writes beside a raster, `NAME.aux.xml`, and whether any of it changes what the raster means.

QGIS and gdalinfo leave statistics there when they show a raster. That is no edit of the imagery. Neither is an empty
journal beside a database, which a program has that shows it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import Element

from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.files.plain_xml import XmlError, parse
from rvbuild.geo.gdal.quiet import JOURNALS

ENDING = ".aux.xml"
_STRUCTURE = {"INTERLEAVE", "COMPRESSION"}
"""What may be said of how the file is laid out; a type of pixels, for example, would count."""


def sort(beside: Iterable[Path]) -> tuple[tuple[Path, ...], tuple[tuple[Path, Signature], ...]]:
    """Return the files of those `beside` a raster that count, and the others as they were when that was seen."""
    counted: list[Path] = []
    others: list[tuple[Path, Signature]] = []
    for path in beside:
        name = path.name.lower()
        seen = signature(path) if name.endswith((ENDING, *JOURNALS)) else None
        if seen is not None and (_says_nothing(path, seen) if name.endswith(ENDING) else not seen.size):
            others.append((path, seen))
        else:
            counted.append(path)
    return tuple(counted), tuple(others)


@functools.lru_cache(maxsize=1 << 16)
def _says_nothing(path: Path, _seen: Signature) -> bool:
    """Return whether there are only statistics, histograms and descriptive metadata; if in doubt, there is more."""
    try:
        root = parse(path.read_bytes())
    except (OSError, XmlError):
        return False
    parts = [part for part in root if part.tag != "PAMRasterBand"]
    parts += [part for band in root.iter("PAMRasterBand") for part in band if part.tag != "Histograms"]
    return root.tag == "PAMDataset" and all(map(_is_descriptive, parts))


def _is_descriptive(part: Element) -> bool:
    domain = part.get("domain", "")
    known = domain == "" or (domain == "IMAGE_STRUCTURE" and {item.get("key") for item in part} <= _STRUCTURE)
    return part.tag == "Metadata" and known
