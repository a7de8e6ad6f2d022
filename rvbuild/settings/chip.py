"""The settings `chip`: how chips are cut from a scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NotRequired

from typing_extensions import TypedDict


class KeepSettings(TypedDict):
    """Which chips are kept, by the classes in them."""

    classes: list[str]
    min_px: int
    otherwise: float


class ChipSettings(TypedDict):
    """How chips are cut. Lengths are in pixels, and pairs are [rows, columns]."""

    size_px: int
    stride_px: int | list[int]
    method: Literal["sliding", "random"]
    per_scene: int
    size_limits_px: list[int] | None
    """[min, max]."""
    height_limits_px: NotRequired[list[int]]
    width_limits_px: NotRequired[list[int]]
    max_attempts: NotRequired[int]
    padding_px: NotRequired[int | list[int]]
    pad_direction: NotRequired[Literal["end", "start", "both"]]
    within_aoi: bool
    max_nodata: float
    keep: KeepSettings | None
    store: NotRequired[bool]
    """Given, as false, to the chip stage only; no other key depends on it."""
    ioa_thresh: NotRequired[float]
    """Given for object detection, as are the next three keys."""
    clip: NotRequired[bool]
    neg_ratio: NotRequired[float | None]
    neg_ioa_thresh: NotRequired[float]


class ShownBoxes(TypedDict):
    """Which boxes a chip shows."""

    ioa_thresh: float
    """Those with at least this share of their area in it."""
    clip: bool
    """Whether they end at its edges."""


class ReadChipSettings(TypedDict):
    """How the images of a user's own chips are read."""

    channels: Sequence[int] | None
    """The bands to use, from 0; None for all that are not alpha."""
    palette: NotRequired[bool]
    """Whether indices become the colours of their table."""
