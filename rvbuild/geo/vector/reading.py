"""What to read from vector files: the layer, the features, the attributes.

Also used by planning, for the digest of labels, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypeVar

from typing_extensions import TypedDict

from rvbuild.language.filters import Filter
from rvbuild.settings.area import AoiTableSettings, AreaSettings
from rvbuild.settings.labels import AnyVectorSettings, BoxFileSettings, FeatureSettings, FilterSettings
from rvbuild.settings.parts import PartSettings

INFERRED_ATTRIBUTES = ("class_id", "class_name", "label")
"""Attributes with the class of a feature, in this order, if a project names neither a class nor an attribute."""

Path = TypeVar("Path")
Part = TypeVar("Part", bound=PartSettings)


class Reading(TypedDict):
    """What is read of a vector file: arguments of `rvbuild.geo.vector.files.read_features`."""

    layer: str | None
    attributes: list[str]
    """Those that decide over the class of a feature."""
    where: NotRequired[Filter]
    """The filter that features must pass."""
    encoding: NotRequired[str]
    """Of the texts."""
    tests: NotRequired[list[Filter]]
    """The filters that decide over the class of a feature."""


def area_reading(settings: AoiTableSettings) -> Reading:
    """Return what is read of the files of an area of interest, whose features have no classes."""
    return _reading(settings.get("layer"), [], settings)


def _reading(layer: str | None, attributes: list[str], settings: FilterSettings) -> Reading:
    reading: Reading = {"layer": layer, "attributes": attributes}
    if settings.get("where"):
        reading["where"] = settings["where"]
    if settings.get("encoding"):
        reading["encoding"] = settings["encoding"]
    return reading


def label_reading(settings: FeatureSettings) -> Reading:
    """Return what is read of the files of one table of labels."""
    reading = _reading(settings.get("layer"), class_attributes(settings), settings)
    if class_where := settings.get("class_where"):
        reading["tests"] = [test for _, test in class_where]
    return reading


def class_attributes(settings: FeatureSettings | BoxFileSettings) -> list[str]:
    """Return the attributes that decide over the class of a feature or a box."""
    if settings.get("class") is not None:
        return []
    attribute = class_attribute(settings)
    return list(INFERRED_ATTRIBUTES) if attribute is None else [attribute]


def class_attribute(settings: FeatureSettings | BoxFileSettings) -> str | None:
    """Return the attribute that the project names for classes; boxes have none."""
    if "class_attribute" not in settings:
        return None
    return settings["class_attribute"]


def label_tables(files: Sequence[Path], settings: AnyVectorSettings) -> list[tuple[Sequence[Path], FeatureSettings]]:
    """Return the files of each table of vector labels, with its settings."""
    if "parts" not in settings:
        return [(files, settings)]
    return [(paths, part) for paths, part in split(files, settings["parts"])]


def area_tables(files: Sequence[Path], settings: AreaSettings) -> list[tuple[Sequence[Path], AoiTableSettings]]:
    """Return the files of each table of an area of interest, with its settings."""
    if "parts" not in settings:
        return [(files, {})]
    return [(paths, part) for paths, part in split(files, settings["parts"])]


def split(files: Sequence[Path], parts: Sequence[Part]) -> list[tuple[Sequence[Path], Part]]:
    """Return the files of each part, with its settings.

    >>> split(["a", "b", "c"], [{"files": 2, "layer": "x"}, {"files": 1, "layer": "y"}])
    [(['a', 'b'], {'files': 2, 'layer': 'x'}), (['c'], {'files': 1, 'layer': 'y'})]
    """
    tables, start = [], 0
    for part in parts:
        tables.append((files[start : start + part["files"]], part))
        start += part["files"]
    return tables
