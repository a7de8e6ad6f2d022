"""What is to be edited, in which files, and what labels shall be afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rvbuild.review.current import CurrentLabels
from rvbuild.review.edits.files import FileEdits
from rvbuild.review.edits.rasters import PixelEdit
from rvbuild.review.labels import LabelObject
from rvbuild.review.outputs import ReviewedScene


@dataclass
class SceneChanges:
    """What labels of a scene shall be afterwards."""

    scene: ReviewedScene
    current: CurrentLabels
    changed: list[tuple[LabelObject, str | None, Any]] = field(default_factory=list)
    """Each label with its new class, None if it is removed, and its new area in pixels, None if it stays."""
    added: list[tuple[str, Any]] = field(default_factory=list)
    """Class and area of new labels."""
    pixels: dict[int, list[PixelEdit]] = field(default_factory=dict)
    """Edits of the rasters of a mosaic, by the place of its first file."""


@dataclass
class Plan:
    """All edits."""

    files: dict[tuple[Path, str | None], FileEdits] = field(default_factory=dict)
    scenes: list[SceneChanges] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """What changes, a line each."""
    already: list[str] = field(default_factory=list)
    """What is already as it should be, a line each."""
