"""The `[predict]` table: how scenes are predicted, and what is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, Strict

from rvbuild.project import boxes, cells
from rvbuild.project.keys import show
from rvbuild.project.table import Finding, Fraction, Known, Pixels, Table, expected


def _scores(value: object) -> object:
    """Reject numbers, which Python would take for booleans."""
    return value if isinstance(value, str | bool) and value is not True else expected('false, "float32" or "uint8"')


class VectorOutputTable(Table):
    """Polygons of one class."""

    class_: str = Field(alias="class", description="Class whose polygons are written.")
    format: Literal["geojson", "gpkg"] = Field(
        "geojson", description="geojson (longitude and latitude, RFC 7946) or gpkg (GeoPackage, the CRS of the scene)."
    )
    min_area_units: float = Field(0.0, ge=0, description="Polygons below this area are left out, in squared CRS units.")
    simplify_px: float = Field(
        0.0, ge=0, description="Tolerance of simplified borders, in pixels; neighbours stay tight."
    )
    denoise_px: int = Field(0, ge=0, description="Patches with fewer pixels are merged into their surroundings first.")


class PredictTable(Table):
    """How predictions are made and written. labels.tif is always written."""

    derived: ClassVar[frozenset[str]] = frozenset({"rgb", "vectors"})
    """The keys that decide what is made of the raw result, and not the raw result."""

    stride_px: Pixels | None = Field(
        None,
        description="Distance between windows, in pixels; less than chip.size_px overlaps them. Default: chip.size_px; "
        "for object_detection half of it, so that each object is seen whole.",
    )
    batch_size: int = Field(8, ge=1, description="Windows that are predicted together.")
    blend: Literal["none", "mean", "cosine"] = Field(
        "mean",
        description="How overlapping windows are merged: none (the last wins), mean, or cosine (centres count more).",
    )
    scores: Annotated[Literal[False, "float32", "uint8"], BeforeValidator(_scores)] = Field(
        False, description="Whether and how to write the score of every class to scores.tif."
    )
    rgb: bool = Field(False, description="Whether to write the classes in their colours to rgb.tif.")
    vectors: Annotated[tuple[VectorOutputTable, ...], Strict(False)] = Field(
        (), description="Classes to write as polygons, to CLASS.geojson or CLASS.gpkg."
    )
    cells: Literal["geojson", "gpkg"] | None = Field(
        None, description="For chip_classification: the format of the cells that are written. Default: geojson."
    )
    boxes: Literal["geojson", "gpkg"] | None = Field(
        None, description="For object_detection: the format of the boxes that are written. Default: geojson."
    )
    score_thresh: Fraction = Field(
        0.5, description="For object_detection: boxes with a lower score are left out. Changing it runs no model."
    )
    merge_thresh: Fraction = Field(
        0.5,
        description="For object_detection: of boxes of a class that overlap by more than this, intersection over "
        "union, the best one stays. Changing it runs no model.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to predict; auto takes a GPU if there is one."
    )

    def check(self, known: Known) -> Iterator[Finding]:
        """Find gaps between windows, unknown classes and outputs that overwrite each other."""
        yield from cells.check_predict(self, known)
        yield from boxes.check_predict(self, known)
        if self.stride_px is not None and known.chip_px is not None and self.stride_px > known.chip_px:
            yield Finding(
                ("stride_px",),
                f"{self.stride_px} is more than chip.size_px = {known.chip_px}, which would leave gaps between windows",
            )
        outputs: list[tuple[str, str]] = []
        for number, vector in enumerate(self.vectors):
            problem = known.class_problem(vector.class_, null=False)
            if problem:
                yield Finding(("vectors", number, "class"), problem)
            output = (vector.class_, vector.format)
            if output in outputs:
                first = outputs.index(output)
                yield Finding(
                    ("vectors", number), f"writes the same file as vectors[{first}]: {show('.'.join(output))}"
                )
            outputs.append(output)

    def slice(self) -> dict[str, Any]:
        """Return all settings, as a bundle holds them, without what is about cells or boxes."""
        return {key: value for key, value in super().slice().items() if key not in ("cells", *boxes.PREDICT_KEYS)}

    def infer_slice(self) -> dict[str, Any]:
        """Return the settings that what is inferred depends on."""
        return {key: value for key, value in self.slice().items() if key not in self.derived}

    def derive_slice(self) -> dict[str, Any]:
        """Return the settings that only what is derived from it depends on: they never run the network."""
        return {key: value for key, value in self.slice().items() if key in self.derived}


class CellPredictTable(PredictTable):
    """How the cells of a project are predicted: the same table, with the size of a cell."""

    derived: ClassVar[frozenset[str]] = frozenset({"rgb", "scores", "cells"})

    cell_px: Pixels

    def infer_slice(self) -> dict[str, Any]:
        """Return the settings that what is inferred depends on: cells have no strides and do not blend."""
        return {
            key: value for key, value in super().infer_slice().items() if key in ("cell_px", "batch_size", "device")
        }

    def slice(self) -> dict[str, Any]:
        """Return the settings, with what is said of cells."""
        return {**super().slice(), "cells": self.cells or "geojson", "cell_px": self.cell_px}

    @classmethod
    def of(cls, table: PredictTable, cell_px: int) -> CellPredictTable:
        """Return the table for cells of a size."""
        fields = {name: getattr(table, name) for name in type(table).model_fields}
        return cls.model_construct(**{**fields, "stride_px": cell_px, "cell_px": cell_px})


class BoxPredictTable(PredictTable):
    """How the boxes of a project are predicted: the same table, with what is said of boxes."""

    derived: ClassVar[frozenset[str]] = frozenset(boxes.PREDICT_KEYS)

    def infer_slice(self) -> dict[str, Any]:
        """Return the settings that what is inferred depends on: boxes do not blend."""
        own = ("stride_px", "batch_size", "device")
        return {key: value for key, value in super().infer_slice().items() if key in own}

    def slice(self) -> dict[str, Any]:
        """Return the settings, with what is said of boxes."""
        own = {"boxes": self.boxes or "geojson", "score_thresh": self.score_thresh, "merge_thresh": self.merge_thresh}
        return {**super().slice(), **own}
