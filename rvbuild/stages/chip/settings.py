"""The settings of the stage chip, for the chips of a scene and for a user's own chips."""

from __future__ import annotations

from typing import final

from typing_extensions import TypedDict

from rvbuild.settings.area import OfArea, Split
from rvbuild.settings.chip import ChipSettings, ReadChipSettings
from rvbuild.settings.classes import ClassSettings
from rvbuild.settings.image import SceneImageSettings
from rvbuild.settings.labels import LabelSettings


class SceneChipSettings(SceneImageSettings, OfArea):
    """The settings to cut the chips of one scene."""

    task: str
    scene: str
    labels: LabelSettings
    classes: list[ClassSettings]
    null_id: int
    chip: ChipSettings
    seed: int


@final
class FolderPartSettings(TypedDict):
    """The chips of one split in a folder."""

    relative: list[str]
    """The path of each file in the folder of the split."""


@final
class ZipPartSettings(TypedDict):
    """The chips of one split in a zip."""

    inside: str
    """The folder of the split in the zip, with a slash."""


class OwnChipSettings(ReadChipSettings):
    """The settings of a user's own chips of one split."""

    task: str
    split: Split
    classes: list[ClassSettings]
    null_id: int
    size_px: int
    resize: bool
    """Whether chips of another size are resampled."""
    parts: list[FolderPartSettings | ZipPartSettings]
    """One for each input."""
    seed: int
