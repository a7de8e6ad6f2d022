"""The settings of the stages of drafts."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from rvbuild.learn.encoders.encoder import EncoderSettings
from rvbuild.settings.area import OfArea
from rvbuild.settings.classes import ClassName, ClassSettings
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.labels import LabelSettings


class FeaturesSettings(SceneImageSettings):
    """Of `features`."""

    encoder: EncoderSettings
    block_px: int
    """The side of a block."""


class SumsSettings(OfArea):
    """Of `sums`."""

    task: str
    scene: str
    labels: LabelSettings
    classes: list[ClassName] | list[ClassSettings]
    """With colours if the labels are coded by them."""
    null_id: int
    background: bool
    """Whether the null class counts, as the background of objects."""
    folds: int
    first_fold: int
    """The fold of the first block."""


class HeadSettings(TypedDict):
    """Of `head`."""

    classes: list[ClassName]
    null_id: int
    background: bool


class DraftSettings(TypedDict):
    """Of `draft`."""

    classes: list[ClassSettings]
    null_id: int
    background: bool
    scores: bool
    """Whether `scores.tif` is written."""
    cell_px: NotRequired[int]
    """The side of the cells that the project classifies, if it does."""
