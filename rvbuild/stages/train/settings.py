"""The settings of the train stage, with torch or with a training backend."""

from __future__ import annotations

from typing import NotRequired, TypeAlias

from typing_extensions import TypedDict

from rvbuild.settings.chip import ShownBoxes
from rvbuild.settings.classes import ClassName
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.train import BackendSettings, TrainSettings
from rvbuild.settings.transforms import OfStatisticsStep

Pixels: TypeAlias = dict[str, SceneImageSettings]
"""How the images are read of scenes whose chips have none, by split and scene: `train/a`."""


class _OfTraining(TypedDict):
    task: str
    classes: list[ClassName]
    null_id: int
    chip_px: int
    seed: int
    pixels: NotRequired[Pixels]
    """In no key."""


class TrainStageSettings(_OfTraining, OfStatisticsStep):
    """The settings of a training with torch."""

    train: TrainSettings
    boxes: NotRequired[ShownBoxes]
    """Which boxes a part of a chip shows, if an augmentation changes the size of objects."""


class BackendStageSettings(_OfTraining):
    """The settings of a training with a backend."""

    train: BackendSettings
