"""Box files: COCO JSON, Pascal VOC XML and CSV, whose boxes are in the pixels of one image.

Coordinates are edges, sub-pixel: x from the left edge of the first column, y from the upper edge of the first row. VOC
files count pixels from 0 here, as nearly all tools do today. A COCO file or a CSV may be about many images; the boxes
of one are read. Crowds of COCO (`iscrowd`) are no objects, and rows of a CSV whose coordinates are all 0 or missing say
that an image has none: both are left out.
"""

from __future__ import annotations

import csv
import json
import math
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from rvbuild.errors import DataError, nearest
from rvbuild.readers import reading

_NAMES = {"coco": "COCO JSON", "voc": "Pascal VOC XML", "csv": "a CSV of boxes"}
KINDS = tuple(_NAMES)

_CSV_COLUMNS = ("xmin", "ymin", "xmax", "ymax")
_CSV_IMAGE = "image_path"
_CSV_LABEL = "label"


class FileBoxes(NamedTuple):
    """The boxes of one image, in the order of the file."""

    path: Path
    boxes: NDArray[np.float64]
    """(N, 4) x0, y0, x1, y1 in pixels, as they are written."""
    labels: list[str | None]
    """What the file calls each; None where it does not say."""
    numbers: list[int]
    """The place of each in the file, from 0."""


class _Row(NamedTuple):
    image: str | None
    box: tuple[float, float, float, float]
    label: str | None


def read_box_file(path: Path, settings: Mapping[str, Any]) -> FileBoxes:
    """Read the boxes of one image.

    Parameters
    ----------
    path
        The file.
    settings
        `kind`: coco, voc or csv. `image`: the name of the image in the file, or None for `scene_image`, the name of the
        scene's image file, or whatever it is called if the file is about one image alone. Folders do not count.

    Raises
    ------
    DataError
        The file is not of its kind, a box is none, or the image is not in the file.
    """
    kind = settings["kind"]
    with reading(path, f"as {_NAMES[kind]}"):
        images, rows = {"coco": coco_rows, "voc": _voc, "csv": _csv}[kind](path)
    wanted = _image(path, images, settings)
    numbers = [n for n, row in enumerate(rows) if wanted is None or row.image == wanted]
    for number in numbers:
        x0, y0, x1, y1 = rows[number].box
        if not all(map(math.isfinite, rows[number].box)) or x1 < x0 or y1 < y0:
            raise DataError(
                f"{path}: box {number} (from 0): expected finite xmin <= xmax and ymin <= ymax, found {x0:g}, {y0:g}, "
                f"{x1:g}, {y1:g}"
            )
    boxes = np.array([rows[number].box for number in numbers], dtype=np.float64).reshape(-1, 4)
    return FileBoxes(path, boxes, [rows[number].label for number in numbers], numbers)


def digest(paths: Sequence[Path], args: Mapping[str, Any]) -> str:
    """Return what box files mean for one image, as 32 hexadecimal digits (xxh3_128).

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
        found = read_box_file(path, args)
        state.update(struct.pack("<q", len(found.boxes)))
        state.update(np.ascontiguousarray(found.boxes, dtype="<f8").tobytes())
        if args["labels"]:
            state.update(json.dumps(found.labels).encode())
    return str(state.hexdigest())


def _image(path: Path, images: Sequence[str], settings: Mapping[str, Any]) -> str | None:
    """Return the name of the image whose boxes are wanted; None for all that there are."""
    given = settings.get("image")
    wanted = given or settings.get("scene_image")
    if wanted in images:
        return str(wanted)
    if not images or (given is None and len(images) == 1):
        return None
    raise DataError(
        f'{path}: has no image "{wanted}"{nearest(str(wanted), images)}; it is about {_some(images)}. Say how the '
        "image is called there with `image` in `labels`"
    )


def _some(images: Sequence[str]) -> str:
    shown = ", ".join(images[:3])
    return f"{shown}, … ({len(images)} images)" if len(images) > 3 else shown


def _name(text: str) -> str:
    """Return the last part of a path that Windows or another system wrote."""
    return text.replace("\\", "/").rsplit("/", 1)[-1]


def coco_rows(path: Path) -> tuple[list[str], list[_Row]]:
    """Return the images that a COCO file lists, and its boxes: image, (x0, y0, x1, y1) and class of each."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        images = {entry["id"]: _name(str(entry["file_name"])) for entry in content["images"]}
        names = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
        rows = []
        for number, entry in enumerate(content.get("annotations", [])):
            if entry.get("iscrowd"):
                continue
            x, y, width, height = (float(value) for value in entry["bbox"])
            if entry["image_id"] not in images:
                raise DataError(f"{path}: annotation {number} (from 0) is of an image with the id {entry['image_id']!r}"
                                ", which is not listed in `images`")  # fmt: skip
            label = names.get(entry["category_id"], str(entry["category_id"]))
            rows.append(_Row(images[entry["image_id"]], (x, y, x + width, y + height), label))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: cannot be read as COCO JSON ({type(error).__name__}: {error}); expected `images` with id and "
            "file_name, `categories` with id and name, `annotations` with image_id, category_id and bbox "
            "[x, y, width, height]"
        ) from error
    return list(images.values()), rows


def _voc(path: Path) -> tuple[list[str], list[_Row]]:
    try:
        root = ElementTree.parse(path).getroot()
        rows = []
        for entry in root.iterfind("object"):
            corners = [entry.findtext(f"bndbox/{key}") for key in _CSV_COLUMNS]
            x0, y0, x1, y1 = (float(text or "nothing") for text in corners)
            rows.append(_Row(None, (x0, y0, x1, y1), (entry.findtext("name") or "").strip() or None))
        if root.tag != "annotation":
            raise ValueError(f"its root is <{root.tag}>")
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as Pascal VOC XML ({error}); expected <annotation> with an <object> for each box, "
            "which has a <name> and a <bndbox> of <xmin>, <ymin>, <xmax>, <ymax>"
        ) from error
    return [], rows


def _csv(path: Path) -> tuple[list[str], list[_Row]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
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
        images: dict[str, None] = {}
        rows = []
        for number, record in enumerate(reader):
            image = _name((record.get(_CSV_IMAGE) or "").strip()) or None
            if image is not None:
                images[image] = None
            texts = [(record[name] or "").strip() for name in _CSV_COLUMNS]
            try:
                x0, y0, x1, y1 = (float(text or 0) for text in texts)
            except ValueError as error:
                raise DataError(f"{path}: row {number} (from 0): expected numbers, found {', '.join(texts)}") from error
            if any((x0, y0, x1, y1)):
                rows.append(_Row(image, (x0, y0, x1, y1), (record.get(_CSV_LABEL) or "").strip() or None))
    return list(images), rows
