"""Classes as stages get them: `[{"id": 0, "name": "car", "color": "#ffff00"}, …]`, id = position."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from rvbuild.errors import DataError, nearest
from rvbuild.settings.classes import ClassName, ClassSettings

Classes = Sequence[ClassSettings]
"""All classes in id order."""

NamedClasses = Sequence[ClassName]
"""The same, of a stage that may not depend on their colours."""

NODATA = 255
"""In a raster of class ids: no class was predicted here."""


def names(classes: NamedClasses) -> list[str]:
    """Return the class names in id order."""
    return [item["name"] for item in classes]


def id_of(classes: NamedClasses, name: str, where: str) -> int:
    """Return the id of a class name; `where` names the setting in messages, for example `labels.background`."""
    known = names(classes)
    if name not in known:
        raise DataError(f'{where}: there is no class "{name}"{nearest(name, known)}. Classes: {", ".join(known)}')
    return known.index(name)


def unnamed(colors: Iterable[str]) -> list[ClassSettings]:
    """Return classes that are only drawn: they have colours and no names."""
    return [{"id": number, "name": "", "color": color} for number, color in enumerate(colors)]


def rgb(color: str) -> tuple[int, int, int]:
    """Return the (red, green, blue) bytes of `#rrggbb`.

    >>> rgb("#00ff80")
    (0, 255, 128)
    """
    value = int(color.removeprefix("#"), 16)
    return value >> 16, value >> 8 & 255, value & 255


def palette(classes: Classes) -> NDArray[np.uint8]:
    """Return the colours by class id: (256, 3) uint8, black for ids without a class."""
    table = np.zeros((256, 3), dtype=np.uint8)
    for index, item in enumerate(classes):
        table[index] = rgb(item["color"])
    return table
