"""Users' pre-cut chips: converts the files of a folder, or of one split of it, to images with targets, for each task.

The layouts are those that Raster Vision writes and reads: `<class>/<n>.png` for classification, `img/<n>.png` beside
`labels/<n>.png` for segmentation, and `img/<n>.png` beside a COCO `labels.json` for detection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from rvbuild.errors import DataError, nearest
from rvbuild.geo.classes import Classes, names
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.raster.tags import Apply
from rvbuild.geo.vector.box_files import coco_rows
from rvbuild.geo.vector.box_images import parts_of
from rvbuild.learn.hooks import Target

Shape = tuple[int, int]

Chip = tuple[Path, Callable[[Shape], Target]]
"""The file of an image, and a function from the image's (height, width) to its target."""


def by_class_folder(relative: Sequence[str], files: Sequence[Path], classes: Classes, null_id: int) -> list[Chip]:
    """Return chips of `<class>/<n>.png`."""
    known = names(classes)
    chips: list[Chip] = []
    for name, path in zip(relative, files, strict=True):
        parts = PurePosixPath(name).parts
        if len(parts) != 2:
            raise DataError(f"{path}: expected <class>/<image>, found {name}; put images into a folder for each class")
        if parts[0] not in known or known.index(parts[0]) == null_id:
            trained = [other for index, other in enumerate(known) if index != null_id]
            raise DataError(
                f"{path}: {parts[0]!r} is not a class{nearest(parts[0], trained)}; the classes are {', '.join(trained)}"
            )
        target = {"classes": np.array(known.index(parts[0]), dtype=np.uint8)}
        chips.append((path, partial(_same, target)))
    return chips


def by_label_image(relative: Sequence[str], files: Sequence[Path], classes: Classes, null_id: int) -> list[Chip]:
    """Return chips of `img/<n>.*` with class ids in `labels/<n>.png`."""
    images, labels = _under("img", relative, files), _under("labels", relative, files)
    for stem, other, folder in (*((s, labels, "labels") for s in images), *((s, images, "img") for s in labels)):
        if stem not in other:
            path = (images if other is labels else labels)[stem]
            raise DataError(
                f"{path}: there is no file {stem}.* in {folder}/; images and labels must have the same names"
            )
    return [(images[stem], partial(_label_image, labels[stem], len(classes))) for stem in sorted(images)]


def by_coco(relative: Sequence[str], files: Sequence[Path], classes: Classes, null_id: int) -> list[Chip]:
    """Return chips of `img/<n>.*` with boxes in `labels.json`; images without a box are background."""
    images = _under("img", relative, files, whole=True)
    described = [path for name, path in zip(relative, files, strict=True) if name == "labels.json"]
    if not described:
        raise DataError(f"{files[0]}: expected a COCO file labels.json beside the folder img/, found none")
    images_listed, rows = coco_rows(described[0])
    listed = [parts_of(image.name)[-1] for image in images_listed]
    if twice := [name for name, count in Counter(listed).items() if count > 1]:
        raise DataError(f"{described[0]}: lists {twice[0]} more than once; the images in img/ have unique names")
    known = names(classes)
    boxes: dict[str, list[tuple[float, ...]]] = {name: [] for name in listed}
    ids: dict[str, list[int]] = {name: [] for name in listed}
    for row in rows:
        if row.label is None:
            problem = "an annotation has no category" if row.id is None else f"the category {row.id} has no name"
            raise DataError(f"{described[0]}: {problem}; expected the name of a class in `categories`")
        if row.image is None or row.label not in known or known.index(row.label) == null_id:
            raise DataError(f"{described[0]}: {row.label!r} is not a class{nearest(row.label, known)}; see [classes]")
        boxes[listed[row.image]].append(row.box)
        ids[listed[row.image]].append(known.index(row.label))
    if missing := [name for name in listed if name not in images]:
        raise DataError(f"{described[0]}: lists {len(missing)} images that are not in img/, for example {missing[0]}")
    return [(images[name], partial(_boxes, boxes[name], ids[name])) for name in sorted(set(listed))]


def _under(folder: str, relative: Sequence[str], files: Sequence[Path], whole: bool = False) -> dict[str, Path]:
    """Return the files right in a folder, by stem or, if `whole`, by name."""
    files_by_name = {}
    for name, path in zip(relative, files, strict=True):
        parts = PurePosixPath(name)
        if parts.parts[:-1] == (folder,):
            files_by_name[parts.name if whole else parts.stem] = path
    if not files_by_name:
        raise DataError(f"{files[0]}: expected files in {folder}/, found none; see [train] chips in the reference")
    return files_by_name


def _same(target: Target, shape: Shape) -> Target:
    return target


def _label_image(path: Path, n_classes: int, shape: Shape) -> Target:
    with open_image([path], nodata=(), apply=Apply(alpha=True)) as source:
        layout = (source.count, source.grid.height, source.grid.width)
        if layout != (1, *shape):
            raise DataError(
                f"{path}: expected one band of {shape[1]} x {shape[0]} px, as the image has, found {layout}"
            )
        pixels, _ = source.read(source.grid.window)
    if pixels.dtype.kind not in "iu":
        raise DataError(f"{path}: holds values of {pixels.dtype}, expected class ids from 0 to {n_classes - 1}")
    if pixels.max() >= n_classes or pixels.min() < 0:
        value = int(pixels.max() if pixels.max() >= n_classes else pixels.min())
        raise DataError(f"{path}: holds the value {value}, expected class ids from 0 to {n_classes - 1}")
    return {"labels": pixels[0].astype(np.uint8)}


def _boxes(boxes: Sequence[Sequence[float]], ids: Sequence[int], shape: Shape) -> Target:
    height, width = shape
    clipped = np.array(boxes, dtype=np.float32).reshape(-1, 4).clip(0, [width, height, width, height])
    wide = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(axis=1)
    return {"boxes": clipped[wide].astype(np.float32), "classes": np.array(ids, dtype=np.uint8)[wide]}
