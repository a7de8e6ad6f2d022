"""The mosaic stage: the predicted classes of all scenes as one raster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import TypedDict

from rvbuild.geo.write.mosaic import arrange, write_cog, write_vrt
from rvbuild.geo.write.qgis import write_raster_style
from rvbuild.progress import Progress
from rvbuild.settings.classes import ClassSettings

VIRTUAL, ONE = "labels.vrt", "labels.tif"


class MosaicSettings(TypedDict):
    """The settings of a mosaic."""

    classes: list[ClassSettings]
    null_id: int
    scenes: list[str]
    """The ids, in the order in which the scenes are drawn."""
    cog: bool
    """Whether a raster with all pixels is written as well."""


def run(inputs: Mapping[str, Sequence[Path]], settings: MosaicSettings, outputs: Path, progress: Progress) -> None:
    """Join the scenes of a project.

    Parameters
    ----------
    inputs
        `labels/SCENE`: its `labels.tif`, for each scene.
    settings
        The scenes and the files to write.
    outputs
        Receives `labels.vrt`, which finds the scenes in directories beside it by their ids; its style; and if `cog` is
        true, `labels.tif` with all pixels.
    progress
        Receives the bands of rows of `labels.tif`.

    Raises
    ------
    DataError
        The scenes differ in CRS or pixels.
    """
    rasters = {scene: inputs[f"labels/{scene}"][0] for scene in settings["scenes"]}
    grid, placed = arrange(rasters)
    where = {scene: f"{scene}/{path.name}" for scene, path in rasters.items()}
    write_vrt(outputs / VIRTUAL, grid, placed, settings["classes"], where)
    write_raster_style(outputs / VIRTUAL, [c for c in settings["classes"] if c["id"] != settings["null_id"]])
    if settings["cog"]:
        write_cog(outputs / ONE, grid, placed, settings["classes"], progress)
