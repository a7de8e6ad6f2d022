"""The chip stage: windows of one scene cut out as images and targets to train on.

A window is dropped if its share of nodata pixels (no valid band; beyond the edge of the scene too) reaches
`max_nodata`, and by the `keep` rule: with fewer than `min_px` pixels of `classes` it is kept with the probability
`otherwise`, decided by the seed and the window alone. Targets hide what must not be trained on: pixels outside the area
of interest and nodata pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rvbuild import tasks
from rvbuild.errors import DataError
from rvbuild.geo.aoi import Aoi, open_aoi
from rvbuild.geo.classes import id_of, names
from rvbuild.geo.labels import LabelSource
from rvbuild.geo.raster import RasterSource, open_image
from rvbuild.geo.windows import Window
from rvbuild.progress import Progress
from rvbuild.stages.chip_contact import TILE_PX, ContactSheet
from rvbuild.stages.chip_resample import resample
from rvbuild.stages.chip_shards import ShardWriter, Target
from rvbuild.stages.chip_windows import candidates, survives
from rvbuild.stages.read_ahead import read_ahead

THREADS = 2
"""That read windows; reading is most of the work."""

READ_AHEAD = 8
"""Windows that are read before they are needed."""


class _Cut(NamedTuple):
    """A window that was read."""

    window: Window
    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    seen: npt.NDArray[np.bool_]
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
    task = tasks.get(settings["task"])
    if not inputs.get("labels"):
        raise DataError(f"scene {scene}: expected labels to cut chips with, found none; give the scene `labels`")
    with _open_image(inputs, settings) as source:
        grid, dtype, bands = source.grid, source.dtype, source.count
    aoi = open_aoi(inputs.get("aoi", ()), grid)
    windows = candidates(grid, aoi, chip, seed)
    if chip["method"] == "random" and len(windows) < chip["per_scene"]:
        progress.note(f"scene {scene}: the area of interest has room for {len(windows)} of {chip['per_scene']} windows")

    @contextmanager
    def open_sources() -> Iterator[tuple[RasterSource, LabelSource]]:
        with (
            _open_image(inputs, settings) as image,
            task.labels(inputs["labels"], settings["labels"], grid, classes, settings["null_id"]) as labels,
        ):
            yield image, labels

    def cut(sources: tuple[RasterSource, LabelSource], window: Window) -> _Cut | None:
        image, valid = sources[0].read(window)
        seen: npt.NDArray[np.bool_] = np.any(valid, axis=0)
        if 1 - np.count_nonzero(seen) / seen.size >= chip["max_nodata"]:
            return None
        return _Cut(window, image, valid, seen, task.target(sources[1], window))

    size = chip["size_px"]
    keep = _KeepRule(chip["keep"], classes, seed)
    contact = ContactSheet(seed)
    counts: list[list[int]] = []
    progress.start(f"chip {scene}", len(windows), "windows")
    with ShardWriter(outputs, task.pack, (bands, size, size), dtype, len(windows)) as shards:
        for found in read_ahead(open_sources, cut, windows, threads=THREADS, depth=READ_AHEAD):
            progress.advance()
            if found is None:
                continue
            window, image, valid, _, target = found
            trainable = _trainable(found, aoi)
            if not trainable.all():
                target = task.mask(target, trainable, settings["null_id"])
            if (window.height, window.width) != (size, size):
                image, valid = resample(image, valid, size)
                target = task.resize(target, size)
            class_counts = task.class_counts(target, len(classes))
            if keep(window, class_counts):
                shards.add(window, image, valid, target)
                counts.append(class_counts.tolist())
                labelled = class_counts.sum() > class_counts[settings["null_id"]]
                contact.offer(window, image, valid, target, bool(labelled))
    contact.write(outputs / "contact.png", classes, lambda target: task.draw(task.resize(target, TILE_PX), classes))
    index = {
        "scene": scene,
        "task": settings["task"],
        "size_px": size,
        "dtype": dtype.name,
        "bands": bands,
        "classes": names(classes),
        "count": len(counts),
        "shards": shards.shards,
        "class_counts": np.array(counts, dtype=np.int64).reshape(-1, len(classes)).sum(axis=0).tolist(),
        "chip_class_counts": counts,
    }
    (outputs / "index.json").write_text(json.dumps(index, sort_keys=True) + "\n", encoding="utf-8")


def _open_image(inputs: Mapping[str, Sequence[Path]], settings: Mapping[str, Any]) -> RasterSource:
    return open_image(inputs["image"], nodata=settings["image"]["nodata"], channels=settings["channels"])


def _trainable(cut: _Cut, aoi: Aoi | None) -> npt.NDArray[np.bool_]:
    """Return the pixels (H, W) that may be trained on."""
    if aoi is None or aoi.contains(cut.window):
        return cut.seen
    return cut.seen & aoi.mask(cut.window)


class _KeepRule:
    """Says whether a chip is kept, from the pixels of its classes."""

    def __init__(self, rule: Mapping[str, Any] | None, classes: Sequence[Mapping[str, Any]], seed: int) -> None:
        self._rule, self._seed = rule, seed
        self._ids = [id_of(classes, name, "chip.keep.classes") for name in rule["classes"]] if rule else []

    def __call__(self, window: Window, class_counts: npt.NDArray[np.int64]) -> bool:
        if self._rule is None or int(class_counts[self._ids].sum()) >= self._rule["min_px"]:
            return True
        return survives(window, self._seed, self._rule["otherwise"])
