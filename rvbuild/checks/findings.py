"""Findings: problems and warnings about the files of a project."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rvbuild.project.toml.keys import Key


class Level(enum.Enum):
    """Severity of a finding."""

    ERROR = "error"
    """A stage would fail, or its result would be useless: the build does not start."""
    WARNING = "warning"
    """Suspicious but possibly intended: reported, and the build continues."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem or a warning.

    Attributes
    ----------
    level
        The severity.
    kind
        The kind of problem; findings of one kind about many scenes are reported together.
    text
        The place, the expected and the actual value, and what to do.
    scene
        The id of the scene; empty for the whole project.
    part
        `image`, `labels` or `aoi`, if the finding concerns these files.
    key
        The setting that causes it, if it is not the path of these files. A scene may override it.
    """

    level: Level
    kind: str
    text: str
    scene: str = ""
    part: str = ""
    key: Key = ()
