"""The settings of the stage report."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import ReadOnly, TypedDict

from rvbuild.settings.area import OfArea
from rvbuild.settings.classes import ClassSettings
from rvbuild.settings.evaluation import EvalSettings
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.labels import LabelSettings


class ScenePictureSettings(SceneImageSettings, OfArea):
    """The settings of the pictures of a scene."""

    task: str
    classes: list[ClassSettings]
    labels: NotRequired[LabelSettings]
    """Of an evaluated scene, as the next two keys and the area."""
    null_id: NotRequired[int]
    eval: NotRequired[ReadOnly[EvalSettings]]


class PageSettings(TypedDict):
    """The settings of the page."""

    project: str
    task: str
    classes: list[ClassSettings]
    null_id: int
    splits: dict[str, str]
    """Scene id → split, of the evaluated scenes."""
