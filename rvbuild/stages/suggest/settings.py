"""The settings of the stage of suggestions."""

from __future__ import annotations

from typing_extensions import TypedDict

from rvbuild.settings.area import OfArea
from rvbuild.settings.classes import ClassName, ClassSettings
from rvbuild.settings.labels import LabelSettings


class AreaOfScene(OfArea):
    """The part of an image that a scene has."""

    scene: str


class LabelledScene(AreaOfScene):
    """A training scene: where it has labels, nothing is suggested."""

    labels: LabelSettings
    classes: list[ClassName] | list[ClassSettings]
    """With colours if the labels are coded by them."""


class GroundSettings(TypedDict):
    """An image, and the scenes that it is the image of."""

    scene: str
    """The scene that suggestions name."""
    training: list[LabelledScene]
    evaluated: list[AreaOfScene]
    """Where labels are for evaluation."""
    unlabelled: list[AreaOfScene]
    """Scenes without labels; without training scenes, windows are suggested in these alone."""


class SuggestSettings(TypedDict):
    """Of `suggestions`."""

    task: str
    classes: list[ClassName]
    null_id: int
    background: bool
    """Whether the null class counts, as the background of objects."""
    count: int
    window_px: int
    grounds: list[GroundSettings]
