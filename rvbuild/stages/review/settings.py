"""The settings of the stages of reviews."""

from __future__ import annotations

from typing_extensions import TypedDict

from rvbuild.settings.area import OfArea
from rvbuild.settings.classes import ClassName, ClassSettings
from rvbuild.settings.labels import LabelSettings


class ReviewedScene(OfArea):
    """A labelled scene."""

    scene: str
    labels: LabelSettings
    classes: list[ClassName] | list[ClassSettings]
    """With colours if the labels are coded by them."""
    seed: int


class SuspectsSettings(TypedDict):
    """Of `suspects`."""

    task: str
    classes: list[ClassName]
    null_id: int
    background: bool
    """Whether the null class counts, as the background of objects."""
    scenes: list[ReviewedScene]
    most_made: int
    """Labels that errors are made of."""
