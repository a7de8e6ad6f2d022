"""Labels from vector files: features burnt to class ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.errors import DataError, nearest
from rvbuild.geo.classes import Classes, id_of, names
from rvbuild.geo.grid import Grid
from rvbuild.geo.rasterize import Burner
from rvbuild.geo.vectors import Features, polygons, read_features, to_pixels, used_attributes
from rvbuild.geo.windows import Window

_SINGLE = {
    "MultiPoint": "Point",
    "MultiLineString": "LineString",
    "LinearRing": "LineString",
    "MultiPolygon": "Polygon",
}


class VectorLabels:
    """Class ids from features: of their class inside them, of the background elsewhere."""

    def __init__(
        self, files: Sequence[Path], settings: Mapping[str, Any], grid: Grid, classes: Classes, null_id: int
    ) -> None:
        self.grid = grid
        self._null_id = null_id
        background = settings.get("background")
        shapes, values = read_areas(files, settings, grid, classes)
        self._burner = Burner(
            shapes,
            values,
            height=grid.height,
            width=grid.width,
            background=null_id if background is None else id_of(classes, background, "labels.background"),
            all_touched=bool(settings.get("all_touched", False)),
        )

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return the class ids in a window: (H, W) uint8."""
        return self._burner.read(window, outside=self._null_id)

    def digest(self, window: Window) -> str:
        """Return a digest of the features in and around a window: equal ones, equal class ids."""
        return self._burner.digest(window)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_areas(
    files: Sequence[Path], settings: Mapping[str, Any], grid: Grid, classes: Classes
) -> tuple[list[Any], list[int]]:
    """Read the features of vector labels that have a class, in the order of the files.

    Parameters
    ----------
    files, settings, grid, classes
        As for `rvbuild.geo.labels.open_labels`.

    Returns
    -------
    areas : list of shapely polygons and multipolygons, valid, not empty, in pixel coordinates (x = column, y = row)
    class_ids : list of int, one for each area
    """
    shapes: list[Any] = []
    values: list[int] = []
    for path in files:
        features = read_features(path, layer=settings.get("layer"), attributes=used_attributes(settings))
        ids = _class_ids(features, settings, classes)
        for geometry, class_id, number in zip(to_pixels(features, grid), ids, features.numbers, strict=True):
            if class_id is None:
                continue
            area = _area(geometry, settings.get("buffer_px") or {}, path, number)
            if not area.is_empty:
                shapes.append(area)
                values.append(class_id)
    return shapes, values


def _class_ids(features: Features, settings: Mapping[str, Any], classes: Classes) -> list[int | None]:
    """Return the class id of each feature; None for one to drop.

    Raises
    ------
    DataError
        A feature has no class of the project, and `labels.unknown` is `error`.
    """
    count = len(features.numbers)
    if settings.get("class") is not None:
        return [id_of(classes, settings["class"], "labels.class")] * count
    unknown = settings.get("unknown", "error")
    substitute = None if unknown in ("error", "drop") else id_of(classes, unknown, "labels.unknown")
    mapping = settings.get("class_map")
    table = {
        key: id_of(classes, name, f"labels.class_map.{key}")
        for key, name in ({} if mapping is None else mapping).items()
    }
    known = names(classes)
    ids: list[int | None] = []
    strangers: list[int] = []
    for index in range(count):
        value = _first_value(features.attributes[index])
        found = _lookup(value, known) if mapping is None else table.get(_text(value))
        if found is None:
            strangers.append(index)
        ids.append(substitute if found is None else found)
    if strangers and unknown == "error":
        raise DataError(_complain(features, strangers, settings, known, list(table)))
    return ids


def _first_value(attributes: Mapping[str, Any]) -> Any:
    return next((value for value in attributes.values() if value is not None), None)


def _lookup(value: Any, known: Sequence[str]) -> int | None:
    """Return the class id that an attribute's value means: a class name, or else a class id."""
    text = _text(value)
    if text in known:
        return known.index(text)
    return int(text) if text.isascii() and text.isdigit() and int(text) < len(known) else None


def _text(value: Any) -> str:
    """Return an attribute's value as a key: formats differ in whether a whole number is 1, 1.0 or "1"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _complain(
    features: Features, strangers: Sequence[int], settings: Mapping[str, Any], known: Sequence[str], keys: Sequence[str]
) -> str:
    asked = used_attributes(settings)
    value = _first_value(features.attributes[strangers[0]])
    expected = f"a key of `class_map` ({', '.join(keys)})" if keys else f"a class ({', '.join(known)}) or its id"
    where = f"{features.path}: feature {features.numbers[strangers[0]]} (from 0)"
    more = f"; {len(strangers)} features are so" if len(strangers) > 1 else ""
    if value is None:
        found = f"has no value in {' or '.join(f'`{name}`' for name in asked)}"
    else:
        name = next(name for name in asked if features.attributes[strangers[0]][name] is not None)
        found = f"has `{name}` = {value!r}{nearest(_text(value), keys or known)}"
    return (
        f"{where} {found}, expected {expected}{more}. Name the attribute with `class_attribute`, give all features one "
        'class with `class`, or set `unknown = "drop"` or a class in `labels`'
    )


def _area(geometry: Any, buffer_px: Mapping[str, float], path: Path, number: int) -> Any:
    """Return the polygons of a feature; points and lines are widened by `buffer_px`, by geometry type."""
    kind = _SINGLE.get(geometry.geom_type, geometry.geom_type)
    if kind == "GeometryCollection":
        parts = [_area(part, buffer_px, path, number) for part in shapely.get_parts(geometry)]
        return shapely.union_all(parts) if parts else geometry
    distance = buffer_px.get(kind)
    if kind == "Polygon":
        return polygons(geometry if not distance else polygons(geometry).buffer(distance))
    if not distance:
        raise DataError(
            f"{path}: feature {number} (from 0) is a {geometry.geom_type}, which has no area. Widen such features with "
            f"`buffer_px = {{ {kind} = 1 }}` in `labels`"
        )
    return polygons(geometry.buffer(distance))
