"""The settings of a survey of a project."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from rvbuild.settings.area import OfArea, Split
from rvbuild.settings.chip import ChipSettings
from rvbuild.settings.classes import ClassSettings
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.labels import LabelSettings


class SceneSettings(SceneImageSettings, OfArea):
    """How all of a scene is read and cut, for a survey and for checks."""

    task: str
    labels: LabelSettings | None
    classes: list[ClassSettings]
    null_id: int
    chip: ChipSettings


class SurveySettings(SceneSettings):
    """The settings of a survey of one scene."""

    outlines: NotRequired[bool]
    """Whether the picture shows the outlines of labels instead of their areas."""


class CheckSettings(SceneSettings):
    """The settings of the checks of one scene, see `rvbuild.rules.check`."""

    split: Split
    allow: NotRequired[list[str]]
    """Where virtual files may lead: the result depends on it."""


class SurveyPageSettings(TypedDict):
    """The settings of the survey of all scenes."""

    task: str
    classes: list[ClassSettings]
    null_id: int
    scenes: list[tuple[str, Split]]
    """The id and the split of each."""
