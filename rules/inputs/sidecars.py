"""The files that GDAL writes beside a raster (`NAME.aux.xml`), and whether their content changes its meaning.

QGIS and gdalinfo write statistics there when they show a raster. This does not count as a change of the image, nor does
an empty journal beside a database that is open in another program.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.files.plain_xml import XmlError, parse
from rvbuild.geo.gdal.quiet import JOURNALS

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ENDING = ".aux.xml"
_STRUCTURE = {"INTERLEAVE", "COMPRESSION"}
"""Metadata about the layout of the file, which may be ignored; a pixel type, for example, would count."""


def sort(beside: Iterable[Path]) -> tuple[tuple[Path, ...], tuple[tuple[Path, Signature], ...]]:
    """Split the files `beside` a raster into those that count, and the others with their state at that time."""
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
    """Tell whether a file only holds statistics, histograms and descriptive metadata; if in doubt, False."""
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
