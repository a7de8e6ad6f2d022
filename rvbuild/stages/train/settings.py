"""The settings of the train stage."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from rvbuild.settings.classes import ClassName
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.train import TrainSettings
from rvbuild.settings.transforms import StatisticsStep


class TrainStageSettings(TypedDict):
    """The settings of the train stage."""

    task: str
    classes: list[ClassName]
    null_id: int
    chip_px: int
    train: TrainSettings
    seed: int
    normalize: NotRequired[StatisticsStep]
    """The transform of the images that needs statistics, if there is one."""
    pixels: NotRequired[dict[str, SceneImageSettings]]
    """How the images are read of scenes whose chips have none, by split and scene: `train/a`. In no key."""


class WorkerSettings(TypedDict):
    """The settings of `[train]` that do not affect the result."""

    workers: int


class TrainHints(TypedDict):
    """The settings that are in no key."""

    train: WorkerSettings
    pixels: NotRequired[dict[str, SceneImageSettings]]
