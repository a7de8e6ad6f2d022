"""The settings of a part of a scene's files: how many of them it has."""

from __future__ import annotations

from typing_extensions import TypedDict


class PartSettings(TypedDict):
    """A part of a list of files; the parts follow each other in it."""

    files: int
    """The number of its files."""
