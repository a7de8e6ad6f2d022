"""Features of a GeoPackage: rows are updated, removed and added; ids, other layers, styles and metadata stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rvbuild.errors import DataError
from rvbuild.review import geopackage
from rvbuild.review.edits.edit import Edit
from rvbuild.review.shapes import fitted


def edit_geopackage(path: Path, layer: str | None, edits: Sequence[Edit]) -> None:
    """Edit features of a layer, all or none.

    Raises
    ------
    DataError
        The file is locked, the layer cannot hold what it shall, or a feature is missing.
    """
    assert layer is not None
    with geopackage.changed(path) as database:
        table = geopackage.feature_table(database, path, layer)
        name, key, geometry = map(geopackage.quoted, (table.name, table.key, table.geometry))
        shapes = []
        # New ones first: those that they are like may be changed or removed.
        for edit in sorted(edits, key=lambda edit: edit.action != "add"):
            values: dict[str, Any] = {geopackage.quoted(column): value for column, value in edit.values.items()}
            if edit.shape is not None:
                shape = _fitting(path, table, edit.shape)
                shapes.append(shape)
                values[geometry] = geopackage.blob_of(shape, table.srs_id)
            if edit.action == "add":
                shared = [] if edit.shared is None else list(map(geopackage.quoted, edit.shared.names))
                marks = ", ".join([*"?" * len(values), *shared])
                source = "" if edit.shared is None else f" from {name} where {key} = {int(str(edit.shared.id))}"
                columns = ", ".join([*values, *shared])
                database.execute(f"insert into {name} ({columns}) select {marks}{source}", (*values.values(),))
                continue
            if edit.action == "remove":
                done = database.execute(f"delete from {name} where {key} = ?", (int(str(edit.id)),))
            else:
                settings = ", ".join(f"{column} = ?" for column in values)
                done = database.execute(
                    f"update {name} set {settings} where {key} = ?", (*values.values(), int(str(edit.id)))
                )
            if done.rowcount != 1:
                raise DataError(f"{path}: there is no feature {edit.id} in the layer {table.name!r} any more")
        geopackage.touch(database, table, shapes)


def _fitting(path: Path, table: geopackage.FeatureTable, shape: Any) -> Any:
    """Return a shape as the type of geometries of a layer.

    Raises
    ------
    DataError
        The layer cannot hold it.
    """
    if table.third == 1 or table.measured == 1:
        raise DataError(
            f"{path}: the layer {table.name!r} has heights or measures, which an outline of a review does not have. "
            "Draw it there by hand, or reject the verdict"
        )
    if (fit := fitted(shape, table.type)) is None:
        own = shape.geom_type.upper()
        raise DataError(
            f"{path}: the layer {table.name!r} holds {table.type}, not {own}; the outline cannot be written to it"
        )
    return fit
