"""The content of `survey.json` and `data.json`: plain dicts, described."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from rvbuild.geo.raster.meaning import TagFacts
from rvbuild.geo.raster.open import ImageFacts


class TaggedImageFacts(ImageFacts):
    """The description of an image, with its tags."""

    tags: TagFacts


class SceneSurvey(TypedDict):
    """The survey of one scene."""

    image: TaggedImageFacts
    pixels: int
    """The number of pixels in the area of interest."""
    valid: int
    """The number of these with data."""
    unknown: dict[str, int]
    """The number of labels of each value that is not a class."""
    counts: NotRequired[list[int]]
    """The number of labels of each class, if the scene has labels."""


class ProjectScene(SceneSurvey):
    """A scene on the page of the project."""

    scene: str
    split: str
    area_m2: float | None


class SplitSurvey(TypedDict):
    """The sums of a split."""

    split: str
    scenes: int
    labelled: int
    pixels: int
    area_m2: float | None
    """None if the area of some scene is not known."""
    counts: list[int]
