"""The settings of the stage analyze."""

from __future__ import annotations

from typing_extensions import TypedDict

from rvbuild.settings.analyze import SampleSettings
from rvbuild.settings.area import OfArea
from rvbuild.settings.image import SceneImageSettings


class SceneStatsSettings(SceneImageSettings, OfArea, SampleSettings):
    """The settings of the statistics of one scene; `area` only if several splits share it."""

    seed: int
    """The seed of the sample; 0 if all pixels are used."""


class NoSettings(TypedDict):
    """The settings of statistics that only depend on the inputs: none."""
