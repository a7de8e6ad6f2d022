"""The settings of the stages of drafts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from rvbuild.learn.encoders.encoder import EncoderSettings


class FeaturesSettings(TypedDict):
    """Of `features`."""

    image: Mapping[str, Any]
    """How the image is read; see `rvbuild.geo.raster.open`."""
    channels: Sequence[int] | None
    encoder: EncoderSettings
    block_px: int
    """The side of a block."""


class SumsSettings(TypedDict):
    """Of `sums`."""

    task: str
    scene: str
    labels: Mapping[str, Any]
    """How labels are read; see `rvbuild.geo.labels.open`."""
    classes: Sequence[Mapping[str, Any]]
    null_id: int
    background: bool
    """Whether the null class counts, as the background of objects."""
    folds: int
    first_fold: int
    """The fold of the first block."""
    area: NotRequired[Mapping[str, Any]]
    """The part of the scene that counts; see `rvbuild.geo.area.aoi`."""


class HeadSettings(TypedDict):
    """Of `head`."""

    classes: Sequence[Mapping[str, Any]]
    null_id: int
    background: bool


class DraftSettings(TypedDict):
    """Of `draft`."""

    classes: Sequence[Mapping[str, Any]]
    null_id: int
    background: bool
    scores: bool
    """Whether `scores.tif` is written."""
