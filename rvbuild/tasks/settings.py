"""The settings that stages hand to a task; each task has types of its own that add what it alone needs.

Nobody changes them: so a task may declare `predict` as a type with more keys, and a bundle, which holds the settings of
all stages of a prediction, can be handed over as those of each.
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import ReadOnly, TypedDict

from rvbuild.settings.classes import ClassId, ClassName, ClassSettings
from rvbuild.settings.predict import FileSettings, ForwardSettings


class InferSettings(TypedDict):
    """Which windows of a scene are predicted, and how they are merged into the raw result."""

    task: str
    classes: ReadOnly[Sequence[ClassId] | Sequence[ClassName]]
    """With names if scores are written."""
    null_id: int
    chip_px: int
    predict: ReadOnly[ForwardSettings]


class DeriveSettings(TypedDict):
    """Which files are derived from the raw result of a scene."""

    task: str
    classes: ReadOnly[Sequence[ClassSettings]]
    null_id: int
    predict: ReadOnly[FileSettings]
