"""Chip classification applied to the tables of a project: chips are cells, all of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from rvbuild.project.applied.classifiers import size_problem
from rvbuild.project.applied.parts import Parts, of_task
from rvbuild.project.model import AnyLabels, RasterLabels, VectorLabels
from rvbuild.project.scenes.labels import RasterLabelsTable, VectorLabelsTable
from rvbuild.project.scenes.scene import SceneTable
from rvbuild.project.tables.chip import ChipTable
from rvbuild.project.tables.predict import PredictTable
from rvbuild.project.tables.train import TrainTable
from rvbuild.project.tasks.classification import SPEC
from rvbuild.project.toml.keys import Key, show
from rvbuild.project.toml.problems import Problems
from rvbuild.project.toml.table import Context, Finding, Pixels, Table, no_effect
from rvbuild.settings.labels import CellSettings
from rvbuild.settings.predict import CellFileSettings, CellForwardSettings, CellPredictSettings

_IOA_KEYS = ("ioa_thresh", "ioa_over", "pick")


def check(table: Table, context: Context) -> Iterator[Finding]:
    """Find settings that are invalid for cells."""
    if isinstance(table, RasterLabelsTable | VectorLabelsTable):
        if getattr(table, "rule", "ioa") == "area":
            for key in _IOA_KEYS:
                if table.is_set(key):
                    yield no_effect(key, 'with rule = "area"; set rule = "ioa", or remove it', "rule")
    elif isinstance(table, SceneTable) and isinstance(table.labels, tuple):
        rasters = [number for number, part in enumerate(table.labels) if isinstance(part, RasterLabelsTable)]
        if rasters:
            message = (
                f"{SPEC.name} takes the class of a cell from one raster, or from vectors; found a raster in a list. "
                "Merge the list into one raster, or into one vector layer"
            )
            yield Finding(("labels", rasters[0]), message)
    elif isinstance(table, ChipTable) and table.method == "sliding":
        for key in ("padding_px", "pad_direction"):
            if table.is_set(key):
                yield no_effect(key, "on cells, whose grid starts at the corner of the scene")
    elif isinstance(table, TrainTable):
        model = table.model or SPEC.models[0]
        if problem := size_problem(model, table.model_args, context.chip_px):
            yield Finding(("model",), f"{show(model)} {problem}", (("model_args",),))


def chip_px(chip: ChipTable, labels: list[Any]) -> int:
    """Return the side of chips, in pixels: that of cells if [chip] does not set it."""
    return chip.size_px if chip.is_set("size_px") else _cell_px_of(labels) or chip.size_px


def apply(parts: Parts, labels: Mapping[Key, Any], problems: Problems) -> Parts:
    """Return the parts with cells of one size."""
    chip = parts.chip
    cell_px = _cell_px_of(labels.values()) or chip.size_px
    for key, message in _different_sizes(labels, cell_px):
        problems.add(key, message)
    size_px = chip.size_px if chip.is_set("size_px") else cell_px
    scenes = tuple(replace(s, chip=s.chip and _fitted_chip(s.chip, cell_px, size_px)) for s in parts.scenes)
    scenes = tuple(replace(scene, labels=_with_cells(scene.labels, cell_px)) for scene in scenes)
    return replace(
        parts,
        scenes=scenes,
        chip=_fitted_chip(chip, cell_px, size_px),
        predict=of_task(CellPredictTable, parts.predict, stride_px=cell_px, cell_px=cell_px),
    )


def _with_cells(labels: AnyLabels | None, cell_px: int) -> AnyLabels | None:
    """Return labels with the settings of their cells."""
    if isinstance(labels, RasterLabels):
        return replace(labels, cells={"cell_px": cell_px})
    if isinstance(labels, VectorLabels):
        return replace(labels, cells=_cell_settings(labels.table, cell_px))
    return labels


def _cell_settings(table: VectorLabelsTable, cell_px: int) -> CellSettings:
    """Return the stage settings about the cells of vector labels."""
    settings: CellSettings = {"cell_px": cell_px, "cells": table.cells, "rule": table.rule}
    if table.rule == "area":
        return settings
    return {**settings, "ioa_thresh": table.ioa_thresh, "ioa_over": table.ioa_over, "pick": table.pick}


def _cell_px_of(tables: Iterable[Any]) -> int | None:
    """Return the first size of cells that labels give, or None."""
    return next((px for table in tables if (px := getattr(table, "cell_px", None))), None)


def _different_sizes(tables: Mapping[Key, Any], cell_px: int) -> Iterator[tuple[Key, str]]:
    """Yield key and message for labels whose cells differ in size from those of the others.

    Parameters
    ----------
    tables
        Labels by the key of their table.
    cell_px
        The size of the other cells.
    """
    for key, table in tables.items():
        own_px = getattr(table, "cell_px", None)
        if own_px is not None and own_px != cell_px:
            yield (
                (*key, "cell_px"),
                f"{show(own_px)} here, but {show(cell_px)} in other scenes; all cells of a model have one size",
            )


def _fitted_chip(chip: ChipTable, cell_px: int, size_px: int) -> ChipTable:
    """Return the chip settings for cells: of the size of a cell, stored at `size_px`, one cell apart."""
    update: dict[str, Any] = {"size_px": size_px}
    if chip.method == "sliding":
        update["stride_px"] = chip.stride_px or cell_px
    elif chip.size_limits_px is None and cell_px != size_px:
        update["size_limits_px"] = (cell_px, cell_px)
    if chip.keep is not None:
        # A chip has one class and counts once.
        update["keep"] = chip.keep.model_copy(update={"min_px": 1})
    fitted = chip.model_copy(update=update)
    if not chip.is_set("size_px"):
        fitted.model_fields_set.discard("size_px")
    return fitted


class CellPredictTable(PredictTable):
    """The prediction of cells: the same table, with the size of a cell."""

    cell_px: Pixels

    def stage_settings(self) -> CellPredictSettings:
        """Return the settings, including those of cells."""
        return {**super().stage_settings(), "cells": self.cells or "geojson", "cell_px": self.cell_px}

    def infer_settings(self) -> CellForwardSettings:
        """Return the settings that the raw result depends on: cells have no strides and are not blended."""
        return {"cell_px": self.cell_px, **self.forward_settings()}

    def writes_scores(self) -> bool:
        """Tell whether the raw result has scores with names: those of cells have class ids."""
        return False

    def derive_settings(self) -> CellFileSettings:
        """Return the settings that the derived files depend on."""
        return {"scores": self.scores, "rgb": self.rgb, "cells": self.cells or "geojson"}
