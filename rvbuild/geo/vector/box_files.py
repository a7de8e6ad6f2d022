"""Box files: COCO JSON, Pascal VOC XML and CSV, with boxes in the pixels of one image.

Coordinates are edges, sub-pixel: x from the left edge of the first column, y from the upper edge of the first row. VOC
files count pixels from 0 here, as nearly all tools do today. A COCO file or a CSV may be about many images; the boxes
of one are read, see `rvbuild.geo.vector.box_images`. Crowds of COCO (`iscrowd`) are no objects, and rows of a CSV whose
coordinates are all 0 or missing say that an image has none: both are left out.
"""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from rvbuild.errors import DataError
from rvbuild.files.budget import content_of
from rvbuild.files.formats import BOX_FILES, BoxFormat
from rvbuild.files.plain_xml import parse
from rvbuild.files.readers import reading, reason
from rvbuild.geo.vector.box_images import Listed, choose
from rvbuild.settings.labels import BoxFileSettings, BoxReadSettings

_CSV_COLUMNS = ("xmin", "ymin", "xmax", "ymax")
_CSV_IMAGE = "image_path"
_CSV_LABEL = "label"


class FileBoxes(NamedTuple):
    """The boxes of one image, in the order of the file."""

    path: Path
    boxes: NDArray[np.float64]
    """(N, 4) x0, y0, x1, y1 in pixels, as in the file."""
    labels: list[str | None]
    """Name of each in the file; None if it has none."""
    numbers: list[int]
    """The place of each in the file, from 0."""
    ids: list[str | None]
    """The id of a category that the file does not name, of each box; None of boxes with a label."""
    image: Listed | None
    """Description of the image in the file; None if there is none."""
    entries: list[int]
    """The place of each among all entries of the file, from 0; those that are no boxes count, too."""
    given_ids: list[object]
    """The id that the file gives each box; None if it gives none."""


class Row(NamedTuple):
    """One box of a box file."""

    image: int | None
    """The place of its image among those that the file lists."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1."""
    label: str | None
    """Name in the file."""
    id: str | None = None
    """Of its category, if this has no name."""
    entry: int = 0
    """Its place among all entries of the file, from 0."""
    given_id: object = None
    """Its own id, if it has one."""


def read_box_file(path: Path, settings: BoxReadSettings | BoxFileSettings) -> FileBoxes:
    """Read the boxes of one image.

    Parameters
    ----------
    path
        The file.
    settings
        `kind`: coco, voc or csv. `image` and `scene_image`: see `rvbuild.geo.vector.box_images.choose`.

    Raises
    ------
    DataError
        The file is not of its kind, a box is invalid, or the image is not in the file.
    """
    kind = settings["kind"]
    with reading(path, f"as {BOX_FILES[kind]}"):
        images, rows = _READERS[kind](path)
    wanted = choose(path, images, settings)
    # Rows without an image belong to the only one.
    mine = {wanted, None} if len(images) == 1 else {wanted}
    numbers = [n for n, row in enumerate(rows) if wanted is None or row.image in mine]
    for number in numbers:
        x0, y0, x1, y1 = rows[number].box
        if not all(map(math.isfinite, rows[number].box)) or x1 < x0 or y1 < y0:
            raise DataError(
                f"{path}: box {number} (from 0): expected finite xmin <= xmax and ymin <= ymax, found {x0:g}, {y0:g}, "
                f"{x1:g}, {y1:g}"
            )
    boxes = np.array([rows[number].box for number in numbers], dtype=np.float64).reshape(-1, 4)
    labels, ids = [rows[number].label for number in numbers], [rows[number].id for number in numbers]
    listed = images[0 if wanted is None else wanted] if wanted is not None or len(images) == 1 else None
    entries, given_ids = [rows[number].entry for number in numbers], [rows[number].given_id for number in numbers]
    return FileBoxes(path, boxes, labels, numbers, ids, listed, entries, given_ids)


def digest(paths: Sequence[Path], args: BoxReadSettings) -> str:
    """Return the digest of the boxes of one image, 32 hexadecimal digits (xxh3_128).

    Covers the coordinates and, if they are used, the labels of its boxes, in file order; not formatting, other images
    or other entries.

    Parameters
    ----------
    paths
        Box files, in the order in which they are read.
    args
        `kind`, `image` and `scene_image`, see `read_box_file`; and `labels`: whether labels are used.
    """
    state = xxhash.xxh3_128()
    for path in paths:
        content = read_box_file(path, args)
        state.update(struct.pack("<q", len(content.boxes)))
        state.update(np.ascontiguousarray(content.boxes, dtype="<f8").tobytes())
        if args["labels"]:
            pairs = zip(content.labels, content.ids, strict=True)
            labels = [label if id_ is None else {"id": id_} for label, id_ in pairs]
            state.update(json.dumps(labels).encode())
    return str(state.hexdigest())


def coco_rows(path: Path) -> tuple[list[Listed], list[Row]]:
    """Return the images that a COCO file lists, and its boxes."""
    try:
        content = json.loads(content_of(path).decode("utf-8-sig"))
        images = [Listed(str(entry["file_name"]), _size(entry.get)) for entry in content["images"]]
        places = {entry["id"]: place for place, entry in enumerate(content["images"])}
        if len(places) < len(images):
            raise ValueError("two of its images have the same id")
        names = _categories(path, content.get("categories") or [])
        rows = []
        for number, entry in enumerate(content.get("annotations", [])):
            if entry.get("iscrowd"):
                continue
            x, y, width, height = (float(value) for value in entry["bbox"])
            if entry["image_id"] not in places:
                image = f"the image with the id {entry['image_id']!r}, which is not listed in `images`"
                raise DataError(f"{path}: annotation {number} (from 0) belongs to {image}")
            category = entry.get("category_id")
            label = names.get(category)
            unnamed = str(category) if label is None and category is not None else None
            box = (x, y, x + width, y + height)
            rows.append(Row(places[entry["image_id"]], box, label, unnamed, number, entry.get("id")))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read as COCO JSON ({reason(error)}); expected `images` with id and "
            "file_name, `categories` with id and name, `annotations` with image_id, category_id and bbox "
            "[x, y, width, height]"
        ) from error
    return images, rows


def _categories(path: Path, entries: Sequence[Mapping[str, object]]) -> dict[object, str]:
    """Return the names of COCO categories by id, of those that have one."""
    names: dict[object, str] = {}
    for entry in entries:
        name = entry.get("name")
        if name is None or not str(name).strip():
            continue
        if names.setdefault(entry["id"], str(name)) != str(name):
            raise DataError(
                f"{path}: the category {entry['id']!r} has two names, {names[entry['id']]!r} and {str(name)!r}; give "
                "every category its own id"
            )
    return names


def _size(get: Callable[[str], Any]) -> tuple[int, int] | None:
    """Return the width and height of an image, if they are declared and positive."""
    try:
        width, height = int(get("width")), int(get("height"))
    except (TypeError, ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _voc(path: Path) -> tuple[list[Listed], list[Row]]:
    try:
        root = parse(content_of(path))
        rows = []
        for number, entry in enumerate(root.iterfind("object")):
            corners = [entry.findtext(f"bndbox/{key}") for key in _CSV_COLUMNS]
            x0, y0, x1, y1 = (float(text or "nothing") for text in corners)
            label = (entry.findtext("name") or "").strip() or None
            rows.append(Row(None, (x0, y0, x1, y1), label, entry=number))
        if root.tag != "annotation":
            raise ValueError(f"its root is <{root.tag}>")
    except ValueError as error:
        raise DataError(
            f"{path}: cannot be read as Pascal VOC XML ({error}); expected <annotation> with an <object> for each box, "
            "which has a <name> and a <bndbox> of <xmin>, <ymin>, <xmax>, <ymax>"
        ) from error
    folder, name = ((root.findtext(tag) or "").strip() for tag in ("folder", "filename"))
    size = _size(lambda key: root.findtext(f"size/{key}"))
    whole = "/".join(part for part in (folder, name) if part) if name else (root.findtext("path") or "").strip()
    return [Listed(whole, size)], rows


def _csv(path: Path) -> tuple[list[Listed], list[Row]]:
    with io.StringIO(content_of(path).decode("utf-8-sig"), newline="") as file:
        reader = csv.DictReader(file)
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        # An empty file has no boxes, and need not say in which columns.
        missing = [name for name in _CSV_COLUMNS if name not in columns] if columns else []
        if missing:
            raise DataError(
                f"{path}: expected the columns {_CSV_IMAGE}, {', '.join(_CSV_COLUMNS)} and {_CSV_LABEL}; "
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing, found {', '.join(columns)}"
            )
        places: dict[str, int] = {}
        rows = []
        for number, record in enumerate(reader):
            name = (record.get(_CSV_IMAGE) or "").strip()
            image = places.setdefault(name, len(places)) if name else None
            texts = [(record[name] or "").strip() for name in _CSV_COLUMNS]
            try:
                x0, y0, x1, y1 = (float(text or 0) for text in texts)
            except ValueError as error:
                raise DataError(f"{path}: row {number} (from 0): expected numbers, found {', '.join(texts)}") from error
            if any((x0, y0, x1, y1)):
                label = (record.get(_CSV_LABEL) or "").strip() or None
                rows.append(Row(image, (x0, y0, x1, y1), label, entry=number))
    return [Listed(name) for name in places], rows


_READERS: Mapping[BoxFormat, Callable[[Path], tuple[list[Listed], list[Row]]]] = {
    "coco": coco_rows,
    "voc": _voc,
    "csv": _csv,
}
