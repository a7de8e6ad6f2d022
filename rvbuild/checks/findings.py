"""Findings: what is wrong or doubtful with the files of a project."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rvbuild.project.toml.keys import Key


class Level(enum.Enum):
    """How bad it is."""

    ERROR = "error"
    """A stage would fail, or what it makes would be of no use: a build does not begin."""
    WARNING = "warning"
    """It can be meant, and often is not: a build says so and goes on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or doubtful.

    Attributes
    ----------
    level
        How bad it is.
    kind
        What kind of thing; findings of one kind about many scenes are told together.
    text
        Where, what was expected, what was found, what to do.
    scene
        The id of the scene; empty for the whole project.
    part
        `image`, `labels` or `aoi`, if it is about these files.
    key
        Of the setting that causes it, if it is not the path of these files. A scene may have its own.
    """

    level: Level
    kind: str
    text: str
    scene: str = ""
    part: str = ""
    key: Key = ()
