"""Whether an edited copy of a label file is what was asked for, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from rvbuild.errors import DataError
from rvbuild.geo.classes import names
from rvbuild.geo.vector.box_files import read_box_file
from rvbuild.geo.vector.files import Features, read_features
from rvbuild.review.applying.changes import SceneChanges
from rvbuild.review.current import CurrentLabels
from rvbuild.review.edits.edit import Edit
from rvbuild.review.edits.files import FileEdits
from rvbuild.review.labels import LabelObject
from rvbuild.review.shapes import rings_of
from rvbuild.review.suspect import fingerprint

_CLOSE_IOU = 0.95
"""A new outline and what is read of it overlap so much at least; formats and CRSs round."""

_CLOSE_PX = 1.0
"""A new point is so close to where it should be."""

_RELATIVE = 1e-9


def verify_file(path: Path, edited: Path, edits: FileEdits) -> None:
    """Compare a file with its edited copy, feature by feature.

    Raises
    ------
    DataError
        Something else has changed, or not what should.
    """
    if edits.kind == "vector":
        before, after = (_whole(each, edits) for each in (path, edited))
        if (before.crs, before.layer, set(before.columns)) != (after.crs, after.layer, set(after.columns)):
            raise _failed(edits, "the CRS, the layer or the attributes are others")
        _verify_features(before, after, edits)


def _whole(path: Path, edits: FileEdits) -> Features:
    """Return all features of a file with all attributes."""
    columns = read_features(path, layer=edits.layer, attributes=("",), encoding=edits.encoding).columns
    return read_features(path, layer=edits.layer, attributes=columns, encoding=edits.encoding)


def _verify_features(before: Features, after: Features, edits: FileEdits) -> None:
    by_number = {edit.number: edit for edit in edits.edits if edit.action != "add"}
    expected: list[tuple[object, Mapping[str, object], Any, bool]] = []
    rows = zip(before.ids, before.numbers, before.attributes, before.geometries, strict=True)
    for feature_id, number, attributes, shape in rows:
        edit = by_number.get(number, Edit("change"))
        if edit.action != "remove":
            new = shape if edit.shape is None else edit.shape
            expected.append((feature_id, {**attributes, **edit.values}, new, edit.shape is not None))
    added = [edit for edit in edits.edits if edit.action == "add"]
    if len(after.numbers) != len(expected) + len(added):
        raise _failed(edits, f"has {len(after.numbers)} features, expected {len(expected) + len(added)}")
    keeps_ids = edits.path.suffix.lower() != ".fgb"  # whose ids are places
    for place, (feature_id, attributes, shape, drawn) in enumerate(expected):
        if keeps_ids and after.ids[place] != feature_id:
            raise _failed(edits, f"feature {feature_id} has another id, {after.ids[place]}")
        if not _equal(after.attributes[place], attributes):
            raise _failed(edits, f"feature {feature_id} has other attributes: {dict(after.attributes[place])}")
        if not (_close(after.geometries[place], shape) if drawn else after.geometries[place].equals_exact(shape, 0)):
            raise _failed(edits, f"feature {feature_id} has another geometry")
    originals = dict(zip(before.numbers, before.attributes, strict=True))
    for place, edit in enumerate(added, len(expected)):
        values = {name: value for name, value in after.attributes[place].items() if value is not None}
        shared = (
            {} if edit.shared is None else {name: originals[edit.shared.number][name] for name in edit.shared.names}
        )
        if not _equal(values, {**shared, **edit.values}) or not _close(after.geometries[place], edit.shape):
            raise _failed(edits, f"the new feature is another: {values}")


def _equal(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return one.keys() == other.keys() and all(
        one[name] == other[name] or (one[name] != one[name] and other[name] != other[name]) for name in one
    )


def _close(one: Any, other: Any) -> bool:
    """Tell whether two geometries are the same but for the order of points, and one alone as one of several parts."""
    one, other = (shapely.GeometryCollection(list(shapely.get_parts(each))).normalize() for each in (one, other))
    return bool(one.equals_exact(other, _RELATIVE * max(1.0, np.abs(shapely.total_bounds(other)).max())))


Key = tuple[Path, str | None, int]
"""A label: its file, layer, and place in it."""


def verify_scenes(scenes: Sequence[SceneChanges], edited: Mapping[Path, Path]) -> None:
    """Read the labels of scenes from edited files, and look whether they are what they should be.

    Scenes may share files, and see the changes of each other.

    Parameters
    ----------
    scenes
        What should have changed.
    edited
        The copy of each file that was edited.

    Raises
    ------
    DataError
        Labels are not read as they should be.
    """
    wanted: dict[Key, dict[str, Any]] = {}
    for changes in scenes:
        for label, class_name, area in changes.changed:
            value = wanted.setdefault(_key(changes.current, label), {"class": None, "area": None, "scene": None})
            own = names(changes.current.classes)[label.class_id]
            if class_name is None or class_name != own or value["class"] is None:
                value["class"], value["removed"] = class_name, class_name is None
            if area is not None:
                value["area"], value["scene"] = area, changes.scene.id
    for changes in scenes:
        old = changes.current
        files = [edited.get(path, path) for path in old.files]
        new = CurrentLabels(old.task, files, old.settings, old.grid, old.classes, old.null_id)
        _verify_pixels(changes, new)
        if old.objects:
            _verify_objects(changes, new, wanted)


def _key(current: CurrentLabels, label: LabelObject) -> Key:
    assert label.origin is not None
    return current.files[label.source.file], label.origin.layer, label.origin.number


def _verify_pixels(changes: SceneChanges, new: CurrentLabels) -> None:
    old = changes.current
    for part, mine in zip(new.rasters, old.rasters, strict=True):
        if mine.first not in changes.pixels:
            continue
        expected = old.pixels(mine).copy()
        for edit in changes.pixels[mine.first]:
            expected[edit.window.slices_in(old.grid.window)][edit.mask] = names(old.classes).index(edit.class_name)
        if not np.array_equal(new.pixels(part), expected):
            raise DataError(f"{mine.files[0]}: cannot be edited exactly: pixels are not read as they should be")


def _verify_objects(changes: SceneChanges, new: CurrentLabels, wanted: Mapping[Key, Mapping[str, Any]]) -> None:
    old, scene = changes.current, changes.scene
    null = names(old.classes)[old.null_id]
    expected, drawn = Counter[str](), list(changes.added)
    for label in old.objects:
        change = wanted.get(_key(old, label))
        if change is None:
            expected[old.object_digest(label)] += 1
        elif change["area"] is not None:
            if change["scene"] == scene.id:
                drawn.append((change["class"], change["area"]))
        elif not change["removed"] and change["class"] != null:
            expected[fingerprint(change["class"], rings_of(label.shape))] += 1
    found = Counter(new.object_digest(label) for label in new.objects)
    if missing := expected - found:
        raise DataError(
            f"{scene.label_names[0]}: {missing.total()} labels of scene {scene.id} would not be read as they should be "
            "after the edit (`where`, `class_where` or `unknown` in `labels`?); edit them by hand"
        )
    others = [label for label in new.objects if (found - expected)[new.object_digest(label)] > 0]
    for class_name, outline in drawn:
        area = old.as_read(outline)
        if not any(_is(label.shape, area) and names(new.classes)[label.class_id] == class_name for label in others):
            raise DataError(
                f"{scene.label_names[0]}: the new outline of a {class_name} in scene {scene.id} would not be read as "
                "it should be; draw it by hand"
            )


def _is(shape: Any, area: Any) -> bool:
    union = shapely.union(shape, area).area
    overlap = shapely.intersection(shape, area).area / union if union else 0.0
    return overlap > _CLOSE_IOU or shapely.distance(shape.centroid, area.centroid) < _CLOSE_PX


def verify_boxes(path: Path, edited: Path, edits: FileEdits, settings: Any) -> None:
    """Compare the boxes of the image of a scene before and after.

    Raises
    ------
    DataError
        A box is another one than it should be.
    """
    before, after = read_box_file(path, settings), read_box_file(edited, settings)
    by_number = {edit.number: edit for edit in edits.edits if edit.action != "add"}
    expected: list[tuple[Sequence[float], object, object]] = []
    rows = zip(before.entries, before.boxes.tolist(), before.labels, before.given_ids, strict=True)
    for entry, box, label, given in rows:
        edit = by_number.get(entry, Edit("change"))
        if edit.action != "remove":
            new = box if edit.shape is None else list(edit.shape.bounds)
            expected.append((new, edit.values.get("label") or label, given))
    found = list(zip(after.boxes.tolist(), after.labels, after.given_ids, strict=True))
    image = None if before.image is None else before.image.name
    added = [list(edit.shape.bounds) for edit in edits.edits if edit.action == "add" and edit.image == image]
    same = len(found) == len(expected) + len(added) and all(
        np.allclose(box, other, rtol=0, atol=1e-6) and given == id_
        for (box, _, id_), (other, _, given) in zip(found, expected, strict=False)
    )
    new_boxes = [box for box, _, _ in found[len(expected) :]]
    if not same or not np.allclose(np.array(new_boxes), np.array(added), rtol=0, atol=1e-6):
        raise _failed(edits, "boxes are others than they should be")


def _failed(edits: FileEdits, why: str) -> DataError:
    return DataError(
        f"{edits.name}: cannot be edited exactly ({why}), so nothing was written. Convert it to a GeoPackage or a "
        "GeoJSON, or edit it by hand"
    )
