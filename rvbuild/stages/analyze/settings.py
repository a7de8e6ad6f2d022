"""The settings of the stage analyze."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from rvbuild.settings.analyze import SampleSettings
from rvbuild.settings.area import OfArea
from rvbuild.settings.image import SceneImageSettings
from rvbuild.stages.cut import CutHints


class SceneStatsSettings(SceneImageSettings, OfArea, SampleSettings):
    """The settings of the statistics of one scene; `area` only if several splits share it."""

    seed: int
    """The seed of the sample; 0 if all pixels are used."""


class StripStatsSettings(SceneStatsSettings):
    """The settings of the statistics of a strip of a scene."""

    rows: list[int]
    """The first row of the strip, and the one after its last."""


class JoinStatsSettings(SceneStatsSettings):
    """The settings of the statistics of a scene, and how it was cut."""

    strips: NotRequired[CutHints]


class NoSettings(TypedDict):
    """The settings of statistics that only depend on the inputs: none."""
