"""The `[scene]` table: the settings of every scene; `[scenes.by_id]` has the same keys for one scene."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, Strict

from rvbuild.project.scenes.image import ImageTable
from rvbuild.project.scenes.labels import AnyLabelsTable, check_layers
from rvbuild.project.scenes.vectors import AnyAoiTable
from rvbuild.project.tables.chip import SceneChipTable
from rvbuild.project.toml.table import Context, Finding, Table


class SceneTable(Table):
    """The imagery, labels and area of a scene. A path may hold {id}, ${NAME} and ${NAME:-default}."""

    image: ImageTable | None = Field(None, description="The image: a path, a list of paths (one mosaic), or a table.")
    channels: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False)] | None = Field(
        None, description="Bands to use, counted from 0, in this order. Default: every band that is not alpha."
    )
    labels: AnyLabelsTable | None = Field(
        None,
        description="The labels: a table with raster or vector, or a list of such tables, where later ones take "
        "precedence over earlier ones wherever they have labels; false for a scene without labels. Training and "
        "validation scenes need labels.",
    )
    aoi: AnyAoiTable | None = Field(
        None,
        description="Area of interest: vector files of polygons. Chips, predictions and scores are limited to them. "
        "A path, a list of paths, a table, or a list of tables. An empty list means the whole image.",
    )

    chip: SceneChipTable | None = Field(
        None, description="Only in [scenes.by_id.ID]: keys of [chip] that differ for this scene."
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """Find an empty list of channels, and contradictions between tables of labels."""
        if self.channels == ():
            yield Finding(("channels",), "the list is empty; name at least one band, or leave the key out to use all")
        if isinstance(self.labels, tuple):
            for finding in check_layers(self.labels, context):
                rests_on = tuple(("labels", *key) for key in finding.rests_on)
                yield Finding(("labels", *finding.key), finding.message, rests_on)
