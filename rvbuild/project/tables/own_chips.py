"""The `[train.chips]` table: pre-cut chips of the user."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from rvbuild.project.toml.table import SomeLocalPaths, Table
from rvbuild.settings.chip import ReadChipSettings


class ChipsTable(Table):
    """Pre-cut chips of the user."""

    not_settings = ("folder",)  # the files are an input
    omitted_defaults = ("palette",)

    folder: SomeLocalPaths = Field(
        description="Folder with train/ and perhaps valid/: images in a folder for each class (chip_classification), "
        "img/ and labels/ with class ids (semantic_segmentation), or img/ and a COCO labels.json (object_detection). "
        "Or a zip of that, a folder of zips, or a list of folders and zips."
    )
    channels: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False)] | None = Field(
        None, description="Bands to use, from 0. Default: every band that is not alpha."
    )
    palette: bool | None = Field(
        None,
        description="As palette of an image: whether the values of files with a colour table become their colours.",
    )

    def stage_settings(self) -> ReadChipSettings:
        """Return the settings to read the images."""
        return self.settings_as(ReadChipSettings)
