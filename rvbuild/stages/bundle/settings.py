"""The settings of the bundle stage, which are also the content of `project.json` in a bundle."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, NotRequired, TypeVar

from annotated_types import Len
from typing_extensions import TypedDict

from rvbuild.settings.classes import ClassSettings
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.limits import ClassPosition, Fraction, Pixels
from rvbuild.settings.predict import PredictSettings
from rvbuild.settings.train import TrainedSettings

MOST_CLASSES = 255
"""Class ids are bytes, and 255 is no class."""

Predict = TypeVar("Predict", bound=PredictSettings)


class AnyPredictSettings(PredictSettings):
    """The settings of any task, with those keys of one task or another that the stage looks at."""

    cell_px: NotRequired[Pixels]
    merge_thresh: NotRequired[Fraction]


class BundleSettings(SceneImageSettings, Generic[Predict]):
    """The settings of a prediction with the bundle. Each task has keys of its own in `predict`."""

    task: str
    classes: Annotated[list[ClassSettings], Len(2, MOST_CLASSES)]
    null_id: ClassPosition
    chip_px: Pixels
    predict: Predict


class PortableSettings(TypedDict):
    """What the description of a portable model tells of its training."""

    version: int
    """The version of what the bundle holds with ONNX alone. In the key, and nowhere else."""
    splits: dict[str, int]
    """The number of scenes of each split."""
    start: Literal["random", "torchvision", "file", "bundle"]
    """The initial weights."""
    select: Literal["last", "best"]
    select_metric: str
    ema: NotRequired[float]
    """The decay of the average of weights that was kept in place of the weights."""


class BundleStageSettings(BundleSettings[PredictSettings]):
    """The settings of the stage."""

    onnx: NotRequired[PortableSettings]
    """Given if the bundle also holds the network as ONNX, and what describes it."""
    trained: NotRequired[TrainedSettings]
    """The model that the project names. In no key."""
