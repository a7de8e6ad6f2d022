"""Boxes of a COCO file: only the values that change are written anew; all other bytes stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvbuild.errors import DataError
from rvbuild.files.marks import decoded
from rvbuild.review.edits import json_text
from rvbuild.review.edits.edit import Edit
from rvbuild.review.edits.json_text import Replacement


def edit_coco(path: Path, edits: Sequence[Edit]) -> None:
    """Edit annotations.

    Raises
    ------
    DataError
        The file has no category of the name that an annotation shall have, or is no COCO file.
    """
    data = path.read_bytes()
    try:
        mark, text = decoded(data)
        parsed = json.loads(text)
        array = json_text.members_of(text, json_text.value_at(text, 0))["annotations"]
        spans = json_text.elements_of(text, array)
        annotations = parsed["annotations"]
        number = max((entry["id"] for entry in annotations if type(entry.get("id")) is int), default=0)
        replacements: list[Replacement] = []
        removed, added = set[int](), []
        for edit in edits:
            values = _values(path, parsed, edit)
            if edit.action == "remove":
                assert edit.number is not None
                removed.add(edit.number)
            elif edit.action == "change":
                assert edit.number is not None
                known = annotations[edit.number]
                for name, value in values.items():
                    if name in known or name in ("category_id", "bbox"):
                        replacements.append(json_text.set_member(text, spans[edit.number], name, value))
            else:
                number += 1
                image = _image_id(parsed["images"], edit.image)
                whole = {"id": number, "image_id": image, **values, "iscrowd": 0}
                added.append(json_text.dumped(whole))
        replacements += json_text.without(spans, removed)
        if added:
            replacements.append(json_text.appended(text, array, spans, removed, added))
        written = mark + json_text.replaced(text, replacements)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be edited as COCO JSON: {error!r}") from error
    path.write_bytes(written.encode())


def _values(path: Path, parsed: Mapping[str, Any], edit: Edit) -> dict[str, Any]:
    """Return the members of an annotation that an edit sets."""
    values: dict[str, Any] = {}
    if (label := edit.values.get("label")) is not None:
        categories = parsed.get("categories") or []
        ids = [entry["id"] for entry in categories if str(entry.get("name")) == label]
        used = {entry.get("category_id") for entry in parsed["annotations"]}
        ids += [category for category in sorted(used - {None}, key=str) if not ids and str(category) == label]
        if not ids:
            names = ", ".join(str(entry.get("name")) for entry in categories)
            raise DataError(f'{path}: has no category "{label}"; add it to `categories` (it has {names})')
        values["category_id"] = ids[0]
    elif edit.action == "add" and len(parsed.get("categories") or []) == 1:
        values["category_id"] = parsed["categories"][0]["id"]
    if edit.shape is not None:
        x0, y0, x1, y1 = map(_short, edit.shape.bounds)
        width, height = _short(x1 - x0), _short(y1 - y0)
        values["bbox"] = [x0, y0, width, height]
        values["area"] = _short(width * height)
        values["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    return values


def _image_id(images: Sequence[Mapping[str, Any]], name: str | None) -> Any:
    names = [entry["id"] for entry in images if str(entry["file_name"]) == name]
    if len(names) != 1:
        raise ValueError("the image of the scene is not clear")
    return names[0]


def _short(value: float) -> float | int:
    """Return a number as briefly as it is exact."""
    return int(value) if float(value).is_integer() else value
