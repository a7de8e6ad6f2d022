"""The settings `predict`: how scenes are predicted and what is written.

A bundle holds all settings of a task. The infer stage gets those that the raw result depends on, and the predict stage
those that the derived files depend on, so that a change of one does not repeat the other.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypeAlias

from annotated_types import Ge, Le, Len
from typing_extensions import TypedDict

from rvbuild.files.formats import VectorFormat
from rvbuild.settings.limits import MAX_PX, Fraction, NotNegative, Pixels, Positive

VectorKind: TypeAlias = Literal["polygons", "buildings", "points"]

ScoreType: TypeAlias = Literal[False, "float32", "uint8"]
"""Whether scores are written, and how."""

_VectorClass = TypedDict("_VectorClass", {"class": str})


class VectorSettings(_VectorClass):
    """Vectors of one class of a segmentation."""

    kind: NotRequired[VectorKind]
    """Omitted for polygons."""
    format: NotRequired[VectorFormat]
    """Omitted if `file` has a suffix that says it."""
    file: NotRequired[str]
    """The name of the file, if it is not the class's."""
    min_area_units: NotNegative
    simplify_px: NotNegative
    denoise_px: Annotated[int, Ge(0), Le(1 << 30)]
    split: NotRequired[Fraction]
    """Of buildings, as the next one."""
    side_px: NotRequired[Positive]


Vectors: TypeAlias = Annotated[list[VectorSettings], Len(0, MAX_PX)]


TestTime: TypeAlias = Literal["flips", "d4"]
"""In which orientations windows are predicted: mirrored in 4 ways, or mirrored and turned in 8."""


class ForwardSettings(TypedDict):
    """How windows go through the model; what every task needs for its raw result."""

    batch_size: Pixels
    device: str
    tta: NotRequired[TestTime]
    """Omitted if windows are only predicted as they are."""


class BlendSettings(ForwardSettings):
    """The raw result of a segmentation."""

    stride_px: Pixels
    blend: Literal["none", "mean", "cosine"]
    scores: ScoreType


class CellForwardSettings(ForwardSettings):
    """The raw result of cells, which do not overlap."""

    cell_px: Pixels


class BoxForwardSettings(ForwardSettings):
    """The raw result of boxes."""

    stride_px: Pixels


class FileSettings(TypedDict):
    """The files derived from a raw result: each task has its own."""


class RasterFileSettings(FileSettings):
    """The files derived from the raw result of a segmentation."""

    scores: ScoreType
    rgb: bool
    vectors: Vectors


class CellFileSettings(FileSettings):
    """The files derived from cells."""

    scores: ScoreType
    rgb: bool
    cells: VectorFormat


class BoxResultSettings(FileSettings):
    """The files derived from boxes."""

    boxes: VectorFormat
    score_thresh: Fraction
    merge_thresh: Fraction


class PredictSettings(BlendSettings):
    """All settings of a segmentation; every task has these, even those that it does not use."""

    rgb: bool
    vectors: Vectors


class CellPredictSettings(PredictSettings):
    """All settings of a chip classification."""

    cell_px: Pixels
    cells: VectorFormat


class BoxPredictSettings(PredictSettings, BoxResultSettings):
    """All settings of an object detection."""
