"""The chip stage: windows of one scene cut out as images and targets to train on.

A window is dropped if its share of nodata pixels (no valid band; beyond the edge of the scene too) reaches
`max_nodata`, and by the `keep` rule: with fewer than `min_px` pixels of `classes` it is kept with the probability
`otherwise`, decided by the seed and the window alone. Targets hide what must not be trained on: pixels outside the area
of interest and nodata pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rvbuild import tasks
from rvbuild.errors import DataError
from rvbuild.geo.aoi import Aoi, open_aoi
from rvbuild.geo.classes import id_of, names
from rvbuild.geo.grid import Grid
from rvbuild.geo.image import SceneImage, open_scene_image
from rvbuild.geo.windows import Window
from rvbuild.progress import Progress
from rvbuild.stages.block_cache import block_cache
from rvbuild.stages.chip_contact import TILE_PX, ContactSheet
from rvbuild.stages.chip_resample import resample
from rvbuild.stages.chip_shards import ShardWriter, Target
from rvbuild.stages.chip_windows import candidates, survives, uniform
from rvbuild.stages.read_ahead import read_ahead

if TYPE_CHECKING:
    from rvbuild.tasks.protocol import Labels, Task

THREADS = 2
"""That read windows; reading is most of the work."""

GROUP = 4
"""Windows that a thread reads at a time."""

READ_AHEAD = 4
"""Groups that are read before they are needed."""

Bools = npt.NDArray[np.bool_]
Sources = tuple[SceneImage, Any]
"""The image, and what the task reads labels from."""


class _Cut(NamedTuple):
    """A window as it was read."""

    window: Window
    image: npt.NDArray[Any]
    valid: Bools
    seen: Bools
    """(H, W) where any band is valid."""
    target: Target


def run(inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any], outputs: Path, progress: Progress) -> None:
    """Cut one scene into chips.

    Parameters
    ----------
    inputs
        `image` and `labels`: the files of the scene; `aoi`: none or more.
    settings
        task, scene, image, channels, labels, classes, null_id, chip, seed.
    outputs
        Receives `index.json`, the shards and, if there is a chip, `contact.png`.
    progress
        Receives the windows as they are cut.

    Raises
    ------
    DataError
        The image, the labels or the area of interest are not what the settings say.
    """
    scene, classes, chip, seed = settings["scene"], settings["classes"], settings["chip"], settings["seed"]
    size, task = chip["size_px"], tasks.get(settings["task"])
    if not inputs.get("labels"):
        raise DataError(f"scene {scene}: expected labels to cut chips with, found none; give the scene `labels`")
    with open_scene_image(inputs["image"], settings) as source:
        reader = _Reader(inputs, settings, task, source.grid)
        shape, dtype = (source.count, size, size), source.dtype
        cache = block_cache(source, size, readers=THREADS, labels=True)
    grid, aoi = reader.grid, open_aoi(inputs.get("aoi", ()), reader.grid, settings.get("area"))
    prescribed = None
    if chip["method"] == "sliding":
        prescribed = task.chip_windows(inputs["labels"], settings["labels"], grid, classes, chip)
    with reader.open_labels() as labels:
        aim = task.aim(labels, chip, partial(uniform, seed, "aim"))
    windows = candidates(grid, aoi, chip, seed, prescribed, aim)
    if chip["method"] == "random" and len(windows) < chip["per_scene"]:
        where = "the area of interest" if aim is None else "the scene"
        progress.note(f"scene {scene}: {where} has room for {len(windows)} of {chip['per_scene']} windows")
    keep = _KeepRule(chip["keep"], classes, seed)
    contact = ContactSheet(seed)
    counts: list[list[int]] = []
    progress.start(f"chip {scene}", len(windows), "windows")
    with (
        cache,
        ThreadPoolExecutor(max_workers=1) as beside,
        ShardWriter(outputs, task.pack, shape, dtype, len(windows)) as shards,
    ):
        groups = [windows[start : start + GROUP] for start in range(0, len(windows), GROUP)]
        for cuts in read_ahead(reader.open, reader.read, groups, threads=THREADS, depth=READ_AHEAD):
            for cut in filter(None, cuts):
                image, valid, target = _chip(cut, aoi, task, size, settings["null_id"])
                class_counts = task.class_counts(target, len(classes))
                if keep(cut.window, class_counts):
                    shards.add(cut.window, image, valid, target)
                    counts.append(class_counts.tolist())
                    labelled = class_counts.sum() > class_counts[settings["null_id"]]
                    contact.offer(cut.window, image, valid, target, bool(labelled))
            progress.advance(len(cuts))
        for note in reader.notes:
            progress.note(note)
        # While the last shard is written.
        sheet = beside.submit(contact.write, outputs / "contact.png", classes, partial(_draw, task, classes, size))
    sheet.result()
    index = {
        "scene": scene,
        "task": settings["task"],
        "size_px": size,
        "dtype": dtype.name,
        "bands": shape[0],
        "classes": names(classes),
        "count": len(counts),
        "shards": shards.shards,
        "class_counts": np.array(counts, dtype=np.int64).reshape(-1, len(classes)).sum(axis=0).tolist(),
        "chip_class_counts": counts,
    }
    (outputs / "index.json").write_text(json.dumps(index, sort_keys=True) + "\n", encoding="utf-8")


class _Reader:
    """Reads windows of one scene's image and labels, in threads that open their own files."""

    def __init__(
        self, inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any], task: Task, grid: Grid
    ) -> None:
        self._inputs, self._settings, self._task, self.grid = inputs, settings, task, grid
        self.notes: Sequence[str] = ()

    @contextmanager
    def open(self) -> Iterator[Sources]:
        """Open image and labels."""
        with open_scene_image(self._inputs["image"], self._settings) as image, self.open_labels() as labels:
            self.notes = labels.notes
            yield image, labels

    def open_labels(self) -> Labels:
        """Open the labels alone."""
        files, how = self._inputs["labels"], self._settings["labels"]
        return self._task.labels(files, how, self.grid, self._settings["classes"], self._settings["null_id"])

    def read(self, sources: Sources, windows: Sequence[Window]) -> list[_Cut | None]:
        """Read windows; None for one that is no chip: too much nodata (its labels are not even read), or no target."""
        return [self._read_one(sources, window) for window in windows]

    def _read_one(self, sources: Sources, window: Window) -> _Cut | None:
        image, labels = sources
        pixels, valid = image.read(window)
        seen: Bools = np.any(valid, axis=0)
        if 1 - np.count_nonzero(seen) / seen.size >= self._settings["chip"]["max_nodata"]:
            return None
        target = self._task.target(labels, window, self._settings["chip"])
        return None if target is None else _Cut(window, pixels, valid, seen, target)


def _chip(cut: _Cut, aoi: Aoi | None, task: Task, size: int, null_id: int) -> tuple[npt.NDArray[Any], Bools, Target]:
    """Return image, validity and target of a chip of `size` pixels, the target without what is not trained on."""
    image, valid, target, trainable = cut.image, cut.valid, cut.target, cut.seen
    if aoi is not None and not aoi.contains(cut.window):
        trainable = trainable & aoi.mask(cut.window)
    if not trainable.all():
        target = task.mask(target, trainable, null_id)
    if (cut.window.height, cut.window.width) != (size, size):
        image, valid = resample(image, valid, size)
        target = task.resize(target, (cut.window.height, cut.window.width), size)
    return image, valid, target


def _draw(
    task: Task, classes: Sequence[Mapping[str, Any]], size: int, target: Target, picture: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    return task.draw(task.resize(target, (size, size), TILE_PX), picture, classes)


class _KeepRule:
    """Says whether a chip is kept, from the pixels of its classes."""

    def __init__(self, rule: Mapping[str, Any] | None, classes: Sequence[Mapping[str, Any]], seed: int) -> None:
        self._rule, self._seed = rule, seed
        self._ids = [id_of(classes, name, "chip.keep.classes") for name in rule["classes"]] if rule else []

    def __call__(self, window: Window, class_counts: npt.NDArray[np.int64]) -> bool:
        if self._rule is None or int(class_counts[self._ids].sum()) >= self._rule["min_px"]:
            return True
        return survives(window, self._seed, self._rule["otherwise"])
