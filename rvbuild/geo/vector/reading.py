"""What to read from vector files: the layer, the features, the attributes.

Also used by planning, for the digest of labels, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

INFERRED_ATTRIBUTES = ("class_id", "class_name", "label")
"""Attributes with the class of a feature, in this order, if a project names neither a class nor an attribute."""

Path = TypeVar("Path")


def reading(settings: Mapping[str, Any], *, classless: bool = False) -> dict[str, Any]:
    """Return the arguments to read the files of one table of labels, or of an area of interest.

    Parameters
    ----------
    settings
        `layer`, `encoding`, `where`, `class`, `class_attribute`, `class_where`: the label settings of a project, or
        parts of it.
    classless
        Features have no classes, for example those of an area of interest.

    Returns
    -------
    dict
        `layer`; `attributes`, those that decide over the class of a feature; and, if there are any, `encoding`, that of
        texts, `where`, the filter that features must pass, and `tests`, the filters that decide over their class.
    """
    if classless or settings.get("class") is not None:
        attributes: list[str] = []
    elif settings.get("class_attribute") is not None:
        attributes = [settings["class_attribute"]]
    else:
        attributes = list(INFERRED_ATTRIBUTES)
    found: dict[str, Any] = {"layer": settings.get("layer"), "attributes": attributes}
    if settings.get("where"):
        found["where"] = settings["where"]
    if settings.get("encoding"):
        found["encoding"] = settings["encoding"]
    if settings.get("class_where"):
        found["tests"] = [test for _, test in settings["class_where"]]
    return found


def parts(files: Sequence[Path], settings: Mapping[str, Any]) -> list[tuple[Sequence[Path], Mapping[str, Any]]]:
    """Return the files of each table with its settings: of one table, or of the `parts` of several.

    >>> parts(["a", "b", "c"], {"parts": [{"files": 2, "class": "x"}, {"files": 1, "class": "y"}]})
    [(['a', 'b'], {'files': 2, 'class': 'x'}), (['c'], {'files': 1, 'class': 'y'})]
    """
    if "parts" not in settings:
        return [(files, settings)]
    found, start = [], 0
    for part in settings["parts"]:
        found.append((files[start : start + part["files"]], part))
        start += part["files"]
    return found
