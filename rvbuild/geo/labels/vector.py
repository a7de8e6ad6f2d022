"""Labels from vector files: features burnt to class ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from rvbuild.errors import DataError, nearest
from rvbuild.geo.classes import NamedClasses, id_of, names
from rvbuild.geo.grid import Grid
from rvbuild.geo.vector.files import Features, read_features, some
from rvbuild.geo.vector.placing import to_pixels
from rvbuild.geo.vector.rasterize import Burner
from rvbuild.geo.vector.reading import class_attribute, class_attributes, label_reading, label_tables
from rvbuild.geo.vector.records import SINGLE, Origin, features_have
from rvbuild.geo.vector.shapes import polygons
from rvbuild.geo.windows import Window
from rvbuild.settings.labels import AnyVectorSettings, BoxFileSettings, FeatureSettings

_POLYGON = 3
"""Of `shapely.get_type_id`."""


class Areas(NamedTuple):
    """The areas of the features of one label table, in pixel coordinates (x = column, y = row)."""

    shapes: list[Any]
    """Valid polygons and multipolygons, not empty, in the order of the files."""
    class_ids: list[int]
    """One for each shape."""
    all_touched: bool
    """Whether they burn every pixel that they touch."""
    notes: list[str]
    """Repairs and omissions, a line for each file and kind."""
    origins: list[Origin]
    """Where each shape comes from."""


class VectorLabels:
    """Class ids from features: their class inside them, the background elsewhere. Later features cover earlier ones."""

    def __init__(
        self, files: Sequence[Path], settings: AnyVectorSettings, grid: Grid, classes: NamedClasses, null_id: int
    ) -> None:
        self.grid = grid
        self._null_id = null_id
        background = None if "files" in settings else settings.get("background")  # a part has none of its own
        tables = read_tables(files, settings, grid, classes)
        self.notes: Sequence[str] = tuple(note for table in tables for note in table.notes)
        self._burner = Burner(
            [shape for table in tables for shape in table.shapes],
            [class_id for table in tables for class_id in table.class_ids],
            height=grid.height,
            width=grid.width,
            background=null_id if background is None else id_of(classes, background, "labels.background"),
            all_touched=[table.all_touched for table in tables for _ in table.shapes],
        )

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return the class ids in a window: (H, W) uint8."""
        return self._burner.read(window, outside=self._null_id)

    def digest(self, window: Window) -> str:
        """Return a digest of the features in and around a window: equal ones, equal class ids."""
        return self._burner.digest(window)

    def close(self) -> None:
        """Do nothing: no file is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_areas(
    files: Sequence[Path], settings: AnyVectorSettings, grid: Grid, classes: NamedClasses
) -> tuple[list[Any], list[int]]:
    """Read the features of vector labels that have a class, in the order of the files.

    Parameters
    ----------
    files, settings, grid, classes
        As for `rvbuild.geo.labels.open.open_labels`.

    Returns
    -------
    areas : list of shapely polygons and multipolygons, valid, not empty, in pixel coordinates (x = column, y = row)
    class_ids : list of int, one for each area
    """
    tables = read_tables(files, settings, grid, classes)
    return [shape for t in tables for shape in t.shapes], [class_id for t in tables for class_id in t.class_ids]


def read_tables(
    files: Sequence[Path], settings: AnyVectorSettings, grid: Grid, classes: NamedClasses, first: int = 0
) -> list[Areas]:
    """Read the features that have a class, of each table of vector labels.

    The first of the files is the one at the place `first` among all files of the labels.
    """
    tables = []
    for paths, table in label_tables(files, settings):
        tables.append(_read_table(paths, table, grid, classes, first))
        first += len(paths)
    return tables


def _read_table(
    files: Sequence[Path], settings: FeatureSettings, grid: Grid, classes: NamedClasses, first: int
) -> Areas:
    """Read a table whose first file is the one at `first` among those of the labels."""
    areas = Areas([], [], bool(settings.get("all_touched", False)), [], [])
    known: list[str] = names(classes)
    buffer_px: Mapping[str, object] = settings.get("buffer_px", {})
    for file, path in enumerate(files, first):
        features = read_features(path, **label_reading(settings))
        areas.notes.extend(features.notes)
        ids = class_ids(features, settings, classes)
        placed = to_pixels(features, grid, shift_m=settings.get("shift_m"), shift_px=settings.get("shift_px"))
        valid = shapely.is_valid(placed)
        # Most features are polygons that need no processing.
        plain = valid & (shapely.get_type_id(placed) == _POLYGON) & ~shapely.is_empty(placed)
        if "Polygon" in buffer_px:
            plain[:] = False
        invalid: list[int] = []
        for index, class_id in enumerate(ids):
            if class_id is None:
                continue
            if not valid[index]:
                invalid.append(features.numbers[index])
            area = placed[index]
            if not plain[index]:
                area = _area(area, buffer_px, known[class_id], path, features.numbers[index])
            if plain[index] or not area.is_empty:
                areas.shapes.append(area)
                areas.class_ids.append(class_id)
                feature_id = features.ids[index]
                areas.origins.append(Origin(file, index, features.numbers[index], features.layer, feature_id))
        if invalid:
            areas.notes.append(f"{path}: {features_have(invalid)} invalid geometry, which was repaired")
        dropped = [number for number, class_id in zip(features.numbers, ids, strict=True) if class_id is None]
        if dropped:
            areas.notes.append(f"{path}: {features_have(dropped)} no class of the project and was left out")
    return areas


def class_ids(
    features: Features, settings: FeatureSettings | BoxFileSettings, classes: NamedClasses
) -> list[int | None]:
    """Return the class id of each feature; None for one to drop.

    The first that there is, of: `class`; what the attribute (`class_attribute`, or else `class_id`, `class_name` or
    `label`, through `class_map`) names; the first of `class_where` that the feature passes; `unknown`. A number is the
    id of a class only in `class_id` or in `class_attribute`: elsewhere it is a number of the file's own, and so it is
    in `class_id` if a name beside it says another class.

    Raises
    ------
    DataError
        A feature has no class of the project, and `labels.unknown` is `error`.
    """
    count = len(features.numbers)
    if (class_of_all := settings.get("class")) is not None:
        return [id_of(classes, class_of_all, "labels.class")] * count
    unknown = settings.get("unknown", "error")
    substitute = None if unknown in ("error", "drop") else id_of(classes, unknown, "labels.unknown")
    mapping = settings.get("class_map")
    table = {
        key: id_of(classes, name, f"labels.class_map.{key}")
        for key, name in ({} if mapping is None else mapping).items()
    }
    tests = []
    if "class_where" in settings:
        tests = [id_of(classes, name, "labels.class_where") for name, _ in settings["class_where"]]
    known, numbered = names(classes), {"class_id", class_attribute(settings)}
    ids: list[int | None] = []
    unclassed: list[int] = []
    for index in range(count):
        values = [(name, value) for name, value in features.attributes[index].items() if value is not None]
        meanings = (
            _lookup(value, known, name in numbered) if mapping is None else table.get(text_of(value))
            for name, value in values
        )
        class_id = next((class_id for class_id in meanings if class_id is not None), None)
        if mapping is None and _contradiction(features.attributes[index], known):
            class_id = None
        passed = features.passed[index]
        if class_id is None and passed is not None:
            class_id = tests[passed]
        if class_id is None:
            unclassed.append(index)
        ids.append(substitute if class_id is None else class_id)
    if unclassed and unknown == "error":
        raise DataError(_unclassed_message(features, unclassed, settings, known, list(table)))
    return ids


def _lookup(value: object, known: Sequence[str], numbered: bool) -> int | None:
    """Return the class id that an attribute's value means: a class name, or else, if it may be a number, a class id."""
    text = text_of(value)
    if text in known:
        return known.index(text)
    return int(text) if numbered and text.isascii() and text.isdigit() and int(text) < len(known) else None


def _contradiction(values: Mapping[str, object], known: Sequence[str]) -> str:
    """Return the attribute whose class differs from that in `class_id`; empty if there is none.

    Such a number is an id in another list of classes. The content of `label` may not be a class name at all.
    """
    number = values.get("class_id")
    class_id = None if number is None else _lookup(number, known, numbered=True)
    if class_id is None:
        return ""
    for name in ("class_name", "label"):
        text = "" if values.get(name) is None else text_of(values[name])
        if text and text not in (known[class_id], text_of(number)) and (name == "class_name" or text in known):
            return name
    return ""


def text_of(value: object) -> str:
    """Return an attribute's value as a key: formats differ in whether a whole number is 1, 1.0 or "1"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _unclassed_message(
    features: Features,
    unclassed: Sequence[int],
    settings: FeatureSettings | BoxFileSettings,
    known: Sequence[str],
    keys: Sequence[str],
) -> str:
    """Return the message about features without a class: the first of them, its attributes, and what to do."""
    is_vector = settings.get("kind", "vector") == "vector"
    asked, values = class_attributes(settings), features.attributes[unclassed[0]]
    expected = f"a key of `class_map` ({', '.join(keys)})" if keys else f"a class ({', '.join(known)})"
    if not keys and is_vector and {"class_id", class_attribute(settings)} & set(asked):
        expected += " or its id"
    if settings.get("class_where"):
        expected += ", or a feature that passes one of `class_where`"
    where = f"{features.path}: {'feature' if is_vector else 'box'} {features.numbers[unclassed[0]]} (from 0)"
    more = f"; this concerns {len(unclassed)} {'features' if is_vector else 'boxes'}" if len(unclassed) > 1 else ""
    advice = (
        "Name the attribute with `class_attribute`, map its values to classes" if is_vector else "Map it to a class"
    )
    advice += ' with `class_map`, give all one class with `class`, or set `unknown = "drop"` or a class, in `labels`'
    name, value = next(((name, value) for name, value in values.items() if value is not None), ("", None))
    contradiction = "" if keys else _contradiction(values, known)
    if contradiction:
        class_id = _lookup(value, known, numbered=True)
        assert class_id is not None
        problem = f"has `class_id` = {value!r}, which is {known[class_id]}, and "
        problem += f"`{contradiction}` = {values[contradiction]!r}"
        choice = f'Choose one of them with `class_attribute = "class_id"` or "{contradiction}", '
        advice = choice + advice.partition(", ")[2]
    elif value is not None:
        problem = f"has `{name}` = {value!r}{nearest(text_of(value), keys or known)}"
        advice = _in_another_encoding(value, keys or known) or advice
    elif features.columns and not set(asked) & set(features.columns):
        hint = nearest(asked[0], features.columns) if len(asked) == 1 else ""
        problem = f"has no attribute {' or '.join(f'`{name}`' for name in asked)}{hint} (there are "
        problem += f"{some(features.columns)})"
    else:
        problem = f"has no value in {' or '.join(f'`{name}`' for name in asked)}"
    comma = " Expected" if problem.endswith("?") else ", expected"
    return f"{where} {problem}{comma} {expected}{more}. {advice}"


_ENCODINGS = ("UTF-8", "windows-1252", "windows-1250", "windows-1251", "CP850", "CP437", "CP866")
"""Encodings to try if a text makes no sense."""


def _in_another_encoding(value: object, known: Sequence[str]) -> str:
    """Return advice to name the encoding in which a text becomes one of the known ones, if there is one.

    A shapefile without a `.cpg` file is read as ISO-8859-1, in which every byte is a letter.
    """
    for read_as in ("ISO-8859-1", "windows-1252"):
        for encoding in _ENCODINGS:
            try:
                text = text_of(value).encode(read_as).decode(encoding)
            except UnicodeError:
                continue
            if text in known:
                return f'In {encoding} it reads {text!r}: set `encoding = "{encoding}"` in `labels`, or write `.cpg`'
    return ""


def _area(geometry: Any, buffer_px: Mapping[str, object], class_name: str, path: Path, number: int) -> Any:
    """Return the polygons of a feature, widened by `buffer_px`: geometry type → pixels, or class → pixels."""
    kind = SINGLE.get(geometry.geom_type, geometry.geom_type)
    if kind == "GeometryCollection":
        areas = [_area(part, buffer_px, class_name, path, number) for part in shapely.get_parts(geometry)]
        return shapely.union_all(areas) if areas else geometry
    distance = buffer_px.get(kind)
    if isinstance(distance, Mapping):
        distance = distance.get(class_name)
    if kind == "Polygon":
        return polygons(geometry if not distance else polygons(geometry).buffer(distance))
    if not distance:
        raise DataError(
            f"{path}: feature {number} (from 0) is a {geometry.geom_type}, which has no area. Widen such features with "
            f"`buffer_px = {{ {kind} = 1 }}` in `labels`"
        )
    return polygons(geometry.buffer(distance))
