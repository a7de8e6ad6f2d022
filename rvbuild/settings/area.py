"""The setting `area`: the part of a scene that counts. It is omitted if all of the scene, or of its AOI, counts."""

from __future__ import annotations

from typing import Literal, NotRequired, TypeAlias, final

from typing_extensions import TypedDict

from rvbuild.settings.labels import FilterSettings
from rvbuild.settings.parts import PartSettings

Split: TypeAlias = Literal["train", "validation", "test"]
"""The split of a scene."""


@final
class FractionShare(TypedDict):
    """A fraction of all blocks or scenes."""

    fraction: float


@final
class FoldShare(TypedDict):
    """One of several parts of equal size."""

    folds: int
    """The number of parts."""
    fold: int
    """The part, from 0."""


Share: TypeAlias = FractionShare | FoldShare
"""What one split takes of all."""


class SplitBlockSettings(TypedDict):
    """Which blocks of a scene are in a split."""

    split: Split
    block_px: int
    seed: int
    validation: Share | None
    """What validation takes; None if it takes nothing, or does not affect this split."""
    test: Share | None


class AoiTableSettings(FilterSettings):
    """Which features are the area of interest."""

    layer: NotRequired[str]
    """Omitted for the only one."""


class AoiPartSettings(AoiTableSettings, PartSettings):
    """One of several tables of an area of interest."""


@final
class AreaSettings(TypedDict):
    """The part of a scene that counts."""

    parts: NotRequired[list[AoiPartSettings]]
    """How the files of the area of interest are read, if the project has settings for them."""
    blocks: NotRequired[SplitBlockSettings]
    """Which blocks of the scene count, if several splits share it."""


class OfArea(TypedDict):
    """The settings of every stage that may be limited to a part of a scene."""

    area: NotRequired[AreaSettings]
