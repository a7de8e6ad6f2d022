"""The settings `classes`: as much of each class as a stage needs, so that a new colour does not train again."""

from __future__ import annotations

from typing_extensions import TypedDict

from rvbuild.settings.limits import ClassPosition


class ClassId(TypedDict):
    """A class of a stage that writes neither names nor colours."""

    id: ClassPosition
    """Its position among the classes, and its value in label rasters."""


class ClassName(ClassId):
    """A class without its colour."""

    name: str


class ClassSettings(ClassName):
    """A class."""

    color: str
    """`#rrggbb`, in lower case."""
