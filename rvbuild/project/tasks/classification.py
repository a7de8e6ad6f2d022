"""Cells: what chip classification adds to the labels of a scene, and how its tables fit together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rvbuild.project.toml.keys import Key, show
from rvbuild.project.toml.table import Finding, Known, no_effect

if TYPE_CHECKING:
    from rvbuild.project.scenes.labels import RasterLabelsTable, VectorLabelsTable
    from rvbuild.project.tables.chip import ChipTable
    from rvbuild.project.tables.predict import PredictTable

TASK = "chip_classification"

KEYS = ("cell_px", "cells", "rule", "ioa_thresh", "ioa_over", "pick")
"""The keys of labels that are about cells."""

_IOA_KEYS = ("ioa_thresh", "ioa_over", "pick")


def check_labels(table: RasterLabelsTable | VectorLabelsTable, known: Known) -> Iterator[Finding]:
    """Find keys about cells where there are none, and keys that have no effect on cells."""
    given = [key for key in KEYS if table.given(key)]
    if known.task != TASK:
        for key in given:
            yield Finding((key,), f"is about cells, which belong to chip_classification; the task is {known.task}")
        return
    if table.given("all_touched"):
        yield no_effect("all_touched", "on cells, which are judged by exact areas")
    if getattr(table, "rule", "ioa") == "area":
        for key in _IOA_KEYS:
            if table.given(key):
                yield no_effect(key, 'with rule = "area"; set rule = "ioa", or remove it', "rule")


def check_predict(table: PredictTable, known: Known) -> Iterator[Finding]:
    """Find keys of predictions that have no effect on cells, or only on cells."""
    if known.task != TASK:
        if table.given("cells"):
            yield Finding(("cells",), f"is about cells, which belong to chip_classification; the task is {known.task}")
        return
    if table.given("stride_px"):
        yield no_effect("stride_px", "on cells, which do not overlap; their size is labels.cell_px")
    if table.given("blend"):
        yield no_effect("blend", "on cells, which do not overlap")
    if table.given("vectors"):
        yield no_effect(
            "vectors", 'on cells, which are always written as polygons; see cells = "geojson", "gpkg" or "fgb"'
        )


def cell_settings(table: RasterLabelsTable | VectorLabelsTable, cell_px: int) -> dict[str, Any]:
    """Return what the stages are told of the cells of labels."""
    if not hasattr(table, "rule"):
        return {"cell_px": cell_px}
    keys = KEYS[1:] if table.rule == "ioa" else KEYS[1:3]
    return {"cell_px": cell_px, **{key: getattr(table, key) for key in keys}}


def cell_px_of(tables: Iterable[Any]) -> int | None:
    """Return the first size of cells that labels give, or None."""
    return next((px for table in tables if (px := getattr(table, "cell_px", None))), None)


def different_sizes(tables: Mapping[Key, Any], cell_px: int) -> Iterator[tuple[Key, str]]:
    """Yield key and message for labels whose cells are of another size than those of the others.

    Parameters
    ----------
    tables
        Labels by the key of their table.
    cell_px
        The size of the others.
    """
    for key, table in tables.items():
        found = getattr(table, "cell_px", None)
        if found is not None and found != cell_px:
            yield (
                (*key, "cell_px"),
                f"{show(found)} here, but {show(cell_px)} elsewhere; a model knows one size of cells",
            )


def fitted_chip(chip: ChipTable, cell_px: int, size_px: int) -> ChipTable:
    """Return how chips are cut if they are cells: of the size of a cell, stored at `size_px`, one cell apart."""
    update: dict[str, Any] = {"size_px": size_px}
    if chip.method == "sliding":
        update["stride_px"] = chip.stride_px or cell_px
    elif chip.size_limits_px is None and cell_px != size_px:
        update["size_limits_px"] = (cell_px, cell_px)
    if chip.keep is not None:
        # A chip has one class, and counts once.
        update["keep"] = chip.keep.model_copy(update={"min_px": 1})
    fitted = chip.model_copy(update=update)
    if not chip.given("size_px"):
        fitted.model_fields_set.discard("size_px")
    return fitted
