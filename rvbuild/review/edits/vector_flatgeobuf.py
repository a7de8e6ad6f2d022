"""Features of a FlatGeobuf, which can only be written as a whole: schema, CRS and order are those that it has."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from rvbuild.errors import DataError
from rvbuild.geo.vector.files import read_features
from rvbuild.geo.write.vectors.layer import geometry_type, rewrite_layer
from rvbuild.review.edits.edit import Edit
from rvbuild.review.shapes import fitted


def edit_flatgeobuf(path: Path, edits: Sequence[Edit]) -> None:
    """Edit features.

    A spatial index puts features in an order of its own, and later labels cover earlier ones: where it would change
    the order, the file is written without one.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    before = read_features(path)
    shapes = _fitting(path, edits)
    change = {
        edit.number: None if edit.action == "remove" else (edit.values, shape)
        for edit, shape in zip(edits, shapes, strict=True)
        if edit.number is not None
    }
    added = [
        (edit.values, shape, {} if edit.shared is None else dict.fromkeys(edit.shared.names, edit.shared.number))
        for edit, shape in zip(edits, shapes, strict=True)
        if edit.action == "add"
    ]
    kept = [
        shape if change.get(number) is None or change[number][1] is None else change[number][1]  # type: ignore[index]
        for shape, number in zip(before.geometries, before.numbers, strict=True)
        if not (number in change and change[number] is None)
    ]
    expected = [shapely.to_wkb(shape) for shape in (*kept, *(shape for _, shape, _ in added))]
    original = path.with_name(f".{path.name}.before")
    shutil.copy2(path, original)
    try:
        rewrite_layer(path, change, added)
        if not np.array_equal([shapely.to_wkb(shape) for shape in read_features(path).geometries], expected):
            shutil.copy2(original, path)
            rewrite_layer(path, change, added, SPATIAL_INDEX="NO")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be written as FlatGeobuf: {error}") from error
    finally:
        original.unlink(missing_ok=True)


def _fitting(path: Path, edits: Sequence[Edit]) -> list[Any]:
    """Return the new geometry of each edit as the type of geometries of the file; None where it keeps its own.

    Raises
    ------
    DataError
        The file cannot hold one.
    """
    kind = geometry_type(path)
    shapes: list[Any] = []
    for edit in edits:
        shapes.append(None if edit.shape is None else fitted(edit.shape, kind))
        if edit.shape is not None and shapes[-1] is None:
            why = ", with heights" if kind.startswith("3D ") else ""
            raise DataError(
                f"{path}: holds geometries of the type {kind}{why}, not {edit.shape.geom_type}. Draw the outline there "
                "by hand, or reject the verdict"
            )
    return shapes
