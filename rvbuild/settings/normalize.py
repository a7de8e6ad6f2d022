"""The entry `normalize` of a `model.json`: how raw values become input. One type for each kind."""

from __future__ import annotations

from typing import Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from rvbuild.settings.limits import PerBand, Positive


class StandardSettings(TypedDict):
    """The mean and the standard deviation of each band that pretrained weights expect, of values from 0 to 1."""

    mean: PerBand
    std: PerBand


class _OfModel(TypedDict):
    standard: NotRequired[StandardSettings]
    """Applied last, if the weights expect it."""


class ScaleNormalize(_OfModel):
    """Values from 0 to `max`, as those of 8-bit imagery."""

    kind: Literal["scale"]
    max: Positive


class DeviationsNormalize(_OfModel):
    """Standard deviations from the mean, clipped at `max_stds`."""

    kind: Literal["zscore", "stats"]
    """`stats` gives 256 steps from 0 to 1, `zscore` values from -1 to 1."""
    mean: PerBand
    std: PerBand
    max_stds: Positive


class LinearNormalize(_OfModel):
    """Values from `low` to `high` of each band."""

    kind: Literal["linear"]
    low: PerBand
    high: PerBand


NormalizeSettings: TypeAlias = ScaleNormalize | DeviationsNormalize | LinearNormalize
