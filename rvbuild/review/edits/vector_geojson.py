"""Features of a GeoJSON: only the values that change are written anew; all other bytes stay as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shapely
import shapely.geometry

from rvbuild.errors import DataError
from rvbuild.files.marks import decoded
from rvbuild.review.edits import json_text
from rvbuild.review.edits.edit import Edit
from rvbuild.review.edits.json_text import Replacement, Span


def edit_geojson(path: Path, edits: Sequence[Edit]) -> None:
    """Edit features of a collection.

    Raises
    ------
    DataError
        The file is no FeatureCollection in UTF-8, or an outline would lose its heights.
    """
    data = path.read_bytes()
    try:
        mark, text = decoded(data)
        array = json_text.members_of(text, json_text.value_at(text, 0))["features"]
        features = json_text.elements_of(text, array)
        replacements: list[Replacement] = []
        removed, added = set[int](), []
        for edit in edits:
            if edit.action == "add":
                added.append(_feature(edit, text, features))
            elif edit.action == "remove":
                assert edit.number is not None
                removed.add(edit.number)
            else:
                assert edit.number is not None
                replacements += _change(path, text, features[edit.number], edit)
        replacements += json_text.without(features, removed)
        if added:
            replacements.append(json_text.appended(text, array, features, removed, added))
        written = mark + json_text.replaced(text, replacements)
    except (ValueError, LookupError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be edited as a GeoJSON FeatureCollection ({error!r}); save it as one, or as a GeoPackage"
        ) from error
    path.write_bytes(written.encode())


def _change(path: Path, text: str, feature: Span, edit: Edit) -> list[Replacement]:
    members = json_text.members_of(text, feature)
    changes = []
    if edit.values:
        properties = members.get("properties")
        if properties is None or text[properties.start] != "{":
            changes.append(json_text.set_member(text, feature, "properties", dict(edit.values)))
        else:
            known = json_text.members_of(text, properties)
            changes += [
                json_text.set_member(text, properties, name, value)
                for name, value in edit.values.items()
                if name in known
            ]
            if new := {name: value for name, value in edit.values.items() if name not in known}:
                name, value = new.popitem()
                assert not new, "only the attribute of the class is ever added"
                changes.append(json_text.set_member(text, properties, name, value))
    if edit.shape is not None:
        span = members["geometry"]
        geometry = json.loads(text[span.start : span.stop]) or {}
        if _has_heights(geometry.get("coordinates")):
            raise DataError(
                f"{path}: the geometry of feature {edit.number} (from 0) has heights, which an outline of a review "
                "does not have. Draw it there by hand, or reject the verdict"
            )
        changes.append(Replacement(span, json_text.dumped(_geometry(edit.shape, geometry.get("type")))))
        if "bbox" in members:
            changes.append(Replacement(members["bbox"], json_text.dumped(list(edit.shape.bounds))))
    return changes


def _has_heights(coordinates: Any) -> bool:
    """Tell whether the first position of a geometry has more than two numbers."""
    while isinstance(coordinates, list) and coordinates and isinstance(coordinates[0], list):
        coordinates = coordinates[0]
    return isinstance(coordinates, list) and len(coordinates) > 2


def _geometry(shape: Any, kind: str | None) -> Any:
    """Return a geometry as JSON data; of several parts if the one before it was of such a type."""
    shape = shapely.orient_polygons(shape)
    if kind == f"Multi{shape.geom_type}":
        multi = shapely.MultiPolygon if shape.geom_type == "Polygon" else shapely.MultiPoint
        shape = multi([shape])
    return shapely.geometry.mapping(shape)


def _properties(text: str, features: Sequence[Span]) -> list[str]:
    """Return the names of the properties of the first feature, which a new one gets, too."""
    if not features:
        return []
    first = json.loads(text[features[0].start : features[0].stop])
    return list(first.get("properties") or {})


def _feature(edit: Edit, text: str, features: Sequence[Span]) -> str:
    properties = {**dict.fromkeys(_properties(text, features)), **edit.values}
    if edit.shared is not None:
        span = features[edit.shared.number]
        others = json.loads(text[span.start : span.stop])["properties"]
        properties |= {name: others[name] for name in edit.shared.names}
    content = {"type": "Feature", "properties": properties, "geometry": _geometry(edit.shape, None)}
    return json_text.dumped(content)
