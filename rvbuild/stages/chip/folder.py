"""The chip stage for a user's own chips: the files of one split, in folders and zips, as shards to train on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rvbuild import tasks
from rvbuild.errors import DataError
from rvbuild.files.budget import require
from rvbuild.files.leftovers import is_leftover
from rvbuild.files.zipped import Zipped, members
from rvbuild.geo.classes import names
from rvbuild.geo.raster.file import Image, Mask, open_dataset
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.raster.resample import resample
from rvbuild.geo.raster.tags import Apply, is_grey, looks_like_alpha, palette_of
from rvbuild.geo.windows import Window
from rvbuild.progress import Progress
from rvbuild.stages.chip.contact_sheet import TILE_PX, Shown, choose, write_sheet
from rvbuild.stages.chip.settings import FolderPartSettings, OwnChipSettings, ZipPartSettings
from rvbuild.stages.chip.shards import ShardWriter
from rvbuild.tasks.protocol import ClassList, Task

_ARRAYS = ".npy"

MOST_PX = 1 << 26
"""Maximum number of pixels of a chip."""


def run(inputs: Mapping[str, Sequence[Path]], settings: OwnChipSettings, outputs: Path, progress: Progress) -> None:
    """Write the chips of one split.

    Parameters
    ----------
    inputs
        `files/<n>`: all files of the split in the nth folder, or the nth zip.
    settings
        The files of each part, and how they are read.
    outputs
        Receives the same files as in the chip stage of a scene.
    progress
        Receives the chips.

    Raises
    ------
    DataError
        The files are not laid out as the task needs, or an image or a label is invalid.
    """
    task, classes, size = tasks.get(settings["task"]), settings["classes"], settings["size_px"]
    chips = [
        chip
        for number, part in enumerate(settings["parts"])
        for chip in _chips(task, part, inputs.get(f"files/{number}", ()), classes, settings["null_id"])
    ]
    if not chips:
        raise DataError(f"train.chips.folder: there are no files for {settings['split']}")
    images = [path for path, _ in chips if path.suffix.lower() != _ARRAYS]
    # All are read alike: a single dark chip would look like anything.
    palette = settings.get("palette")
    apply = Apply(alpha=not images or looks_like_alpha(images, open_dataset), palette=bool(palette))
    if palette is None and images and _has_colors(images[0]):
        progress.note(
            f"{images[0]}: has a colour table: its values are indices, not grey values; `palette = true` in "
            "train.chips reads the colours, `palette = false` the indices"
        )

    def load(position: int) -> tuple[Image, Mask, Any]:
        path, target_of = chips[position]
        image, valid = _read(path, settings["channels"], apply)
        shape = (image.shape[1], image.shape[2])
        target = target_of(shape)
        if shape != (size, size):
            if not settings["resize"]:
                raise DataError(
                    f"{path}: has {shape[1]} x {shape[0]} px, but chip.size_px is {size} by default; set chip.size_px: "
                    "chips of another size are resampled to it"
                )
            image, valid = resample(image, valid, size)
            target = task.resize(target, shape, size)
        return image, valid, target

    progress.start(f"chips of {settings['split']}", len(chips), "chips")
    first, _, _ = load(0)
    writer = ShardWriter(outputs, 0, task.pack, first.shape, first.dtype, len(chips))
    counts = []
    try:
        for position in range(len(chips)):
            image, valid, target = load(position)
            if (image.shape, image.dtype) != (first.shape, first.dtype):
                raise DataError(
                    f"{chips[position][0]}: has {image.shape[0]} bands of {image.dtype}, but {chips[0][0]} has "
                    f"{first.shape[0]} of {first.dtype}; all images of a model must be alike"
                )
            writer.add(Window(0, 0, size, size), image, valid, target)
            counts.append(task.class_counts(target, len(classes)).tolist())
            progress.advance()
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    index = {
        "scene": settings["split"],
        "task": settings["task"],
        "size_px": size,
        "dtype": first.dtype.name,
        "bands": first.shape[0],
        "classes": names(classes),
        "count": len(counts),
        "shards": writer.shards,
        "class_counts": np.array(counts, dtype=np.int64).sum(axis=0).tolist(),
        "chip_class_counts": counts,
    }
    (outputs / "index.json").write_text(json.dumps(index, sort_keys=True) + "\n", encoding="utf-8")

    def show(position: int) -> Shown:
        image, valid, target = load(position)
        small = task.resize(target, (size, size), TILE_PX)
        return image, valid, lambda picture: task.draw(small, picture, classes)

    seen = ((Window(position, 0, size, size), True) for position in range(len(chips)))
    write_sheet(outputs / "contact.png", choose(settings["seed"], seen), classes, show)


def _chips(
    task: Task, part: FolderPartSettings | ZipPartSettings, files: Sequence[Path], classes: ClassList, null_id: int
) -> list[tuple[Path, Callable[[tuple[int, int]], Any]]]:
    """Return the chips of one folder or zip."""
    if "relative" in part:
        relative = part["relative"]
    else:
        (archive,), inside = files, part["inside"]
        names = [name for name in members(archive) if name.startswith(inside)]
        names = [name for name in names if not is_leftover(name.removeprefix(inside))]
        relative, files = [name.removeprefix(inside) for name in names], [Zipped(archive, name) for name in names]
    return task.own_chips(relative, files, classes, null_id) if files else []


def _has_colors(path: Path) -> bool:
    """Tell whether the values of an image are indices into a table of colours."""
    with open_dataset(path) as dataset:
        table = palette_of(dataset)
        return table is not None and not is_grey(table)


def _read(path: Path, channels: Sequence[int] | None, apply: Apply) -> tuple[Image, Mask]:
    """Return an image (C, H, W) and its validity; `.npy` files hold (H, W, C) or (H, W)."""
    if path.suffix.lower() != _ARRAYS:
        with open_image([path], channels=channels, apply=apply) as source:
            grid = source.grid
            # The size of an image file says little about its memory: images of one colour compress well.
            _require_small(path, grid.height, grid.width)
            return source.read(grid.window)
    try:
        with path.open("rb") as file:
            # Memory would be allocated by the header before the first value is read.
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            if min(shape, default=0) < 0:  # numpy 1 reads all that there is
                raise ValueError(f"an array of {shape} cannot be")
            if len(shape) in (2, 3):
                _require_small(path, *shape[:2])
            require(math.prod(shape) * dtype.itemsize, f"{path}: its array of {shape}", "Cut it")
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a NumPy array: {error}") from error
    if array.ndim not in (2, 3) or array.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected an image (height, width, bands), found {array.shape} of {array.dtype}")
    image = np.moveaxis(np.atleast_3d(array), -1, 0)
    if channels is not None:
        if max(channels) >= len(image):
            raise DataError(f"{path}: there is no band {max(channels)}; it has {len(image)}")
        image = image[list(channels)]
    valid = np.isfinite(image)
    return np.where(valid, image, 0).astype(array.dtype), valid


def _require_small(path: Path, height: int, width: int) -> None:
    """Raise a DataError if an image has more pixels than a chip can have."""
    if height * width > MOST_PX:
        raise DataError(f"{path}: has {width} x {height} px, too large for a chip; cut it, or use it as a scene")
