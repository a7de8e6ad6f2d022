"""The settings `image.transform`, one type for each kind of step; and `normalize`, of steps that need statistics."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypeAlias

from annotated_types import Len
from typing_extensions import TypedDict

from rvbuild.settings.limits import MAX_PX, Number

Dtype: TypeAlias = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
"""The types that pixels can be cast to."""


class CastSettings(TypedDict):
    """Pixels of another type."""

    kind: Literal["cast"]
    dtype: Dtype


class ReclassSettings(TypedDict):
    """Other values for some values."""

    kind: Literal["reclass"]
    map: dict[str, int]
    """The value, a whole number in its one spelling → the new value."""


class NodataSettings(TypedDict):
    """A value for pixels without data."""

    kind: Literal["nodata"]
    value: Number


class NanSettings(TypedDict):
    """A value for NaN."""

    kind: Literal["nan"]
    value: Number


class ExpressionSettings(TypedDict):
    """Bands that are computed from bands."""

    kind: Literal["expression"]
    bands: Annotated[list[list[str]], Len(1, MAX_PX)]
    """[name, expression] of each new band, in order."""
    keep: bool
    """Whether the input bands are kept, before the new ones."""


class FunctionSettings(TypedDict):
    """A user's function."""

    kind: Literal["function"]
    function: str
    """`package.module:name`."""
    args: dict[str, object]


TransformStep: TypeAlias = (
    CastSettings | ReclassSettings | NodataSettings | NanSettings | ExpressionSettings | FunctionSettings
)
"""A step that applies wherever an image is read."""


class StatsSettings(TypedDict):
    """Values in standard deviations from the mean."""

    kind: Literal["stats"]
    max_stds: float


class MinMaxSettings(TypedDict):
    """Values from the lowest to the highest one."""

    kind: Literal["min_max"]


class PercentileSettings(TypedDict):
    """Values from one percentile to another."""

    kind: Literal["percentile"]
    low: float
    high: float


StatisticsStep: TypeAlias = StatsSettings | MinMaxSettings | PercentileSettings
"""A step that needs statistics of the training scenes: it applies where a model normalises its chips."""


class OfStatisticsStep(TypedDict):
    """The settings of a training: the step that needs statistics, if the image of the project has one."""

    normalize: NotRequired[StatisticsStep]
