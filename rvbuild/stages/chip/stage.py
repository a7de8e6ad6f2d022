"""The chip stage: windows of one scene are cut into images and targets to train on.

A window is dropped if its share of nodata pixels (no valid band; beyond the edge of the scene too) reaches
`max_nodata`, and by the `keep` rule: with fewer than `min_px` pixels of `classes` it is kept with the probability
`otherwise`, decided by the seed and the window alone. Targets hide what must not be trained on: pixels outside the area
of interest and nodata pixels.

With `chip.store = false` the images of chips are read but not written: a training reads them from the scene again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rvbuild import tasks
from rvbuild.errors import DataError
from rvbuild.geo.area.aoi import open_aoi
from rvbuild.geo.classes import names
from rvbuild.geo.raster.open import SceneImage, open_scene_image
from rvbuild.geo.raster.resample import read_resampled
from rvbuild.geo.windows import Window
from rvbuild.learn.chips.shards import open_shard, unpack_image
from rvbuild.progress import Progress
from rvbuild.stages.chip.blocks import Block, blocks, side_of
from rvbuild.stages.chip.contact_sheet import CHIPS, SHEET, TILE_PX, Shown, choose, write_sheet
from rvbuild.stages.chip.cut import Chips, Cutter, stores, thread_count
from rvbuild.stages.chip.previous import Known, digest_of, known, write_blocks
from rvbuild.stages.chip.settings import SceneChipSettings
from rvbuild.stages.chip.windows import candidates, uniform, why_none
from rvbuild.stages.threads.block_cache import block_cache

if TYPE_CHECKING:
    from rvbuild.tasks.protocol import Labels, Task


def run(
    inputs: Mapping[str, Sequence[Path]],
    settings: SceneChipSettings,
    outputs: Path,
    progress: Progress,
    previous: Mapping[str, Path] | None = None,
) -> list[str]:
    """Cut one scene into chips.

    Parameters
    ----------
    inputs
        `image` and `labels`: the files of the scene; `aoi`: none or more.
    settings
        How image and labels are read, and how chips are cut.
    outputs
        Receives `index.json`, the shards, `contact.png` if there is a chip, and `blocks.json` if the labels are such
        that it can save work.
    progress
        Receives progress, in windows.
    previous
        The files of a previous result by name, which differs from this one in its labels at the most.

    Returns
    -------
    list of str
        The reused files of the previous result, which are not written again.

    Raises
    ------
    DataError
        The image, the labels or the area of interest do not match the settings.
    """
    scene, classes, chip, seed = settings["scene"], settings["classes"], settings["chip"], settings["seed"]
    size, task = chip["size_px"], tasks.get(settings["task"])
    if not inputs.get("labels"):
        raise DataError(f"scene {scene}: expected labels to cut chips with, found none; give the scene `labels`")
    with ExitStack() as opened:
        image = opened.enter_context(open_scene_image(inputs["image"], settings))
        grid, bands, dtype = image.grid, image.count, image.dtype
        opened.enter_context(block_cache(image, size, readers=thread_count(), labels=True))
        aoi = open_aoi(inputs.get("aoi", ()), grid, settings.get("area"))
        prescribed = None
        if chip["method"] == "sliding":
            prescribed = task.chip_windows(inputs["labels"], settings["labels"], grid, classes, chip)
        area = grid.window if aoi is None else aoi.bounds
        side_px = side_of(chip, bands * size * size * dtype.itemsize, area.height * area.width)
        cutter = Cutter(inputs, settings, task, grid, aoi, outputs)
        labels = opened.enter_context(
            task.labels(inputs["labels"], settings["labels"], grid, classes, settings["null_id"])
        )
        aim = task.aim(labels, chip, functools.partial(uniform, seed, "aim"))
        windows = candidates(grid, aoi, chip, seed, prescribed, aim)
        if not windows:
            progress.note(f"scene {scene}: {why_none(grid, aoi, chip)}")
        elif chip["method"] == "random" and len(windows) < chip["per_scene"]:
            where = "the area of interest" if aim is None else "the scene"
            progress.note(f"scene {scene}: {where} has room for {len(windows)} of {chip['per_scene']} windows")
        every = blocks(windows, grid, side_px)
        digests = _digests(every, task, labels)
        before = known(previous, settings, digests) if previous else Known({}, None)
        changed = [block for block in every if block.number not in before.blocks]
        progress.start(f"chip {scene}", sum(len(block.windows) for block in changed), "windows")
        cutter.lend(image, labels)
        cut = sorted([*before.blocks.values(), *cutter.cut(changed, progress.advance)], key=lambda chips: chips.number)
        for note in labels.notes:
            progress.note(note)
    kept = {name: (previous or {})[name] for chips in before.blocks.values() for name in chips.files(stores(settings))}
    sheet = _choose(cut, settings, before)
    stays = sheet == before.sheet and all(number in before.blocks for number, _ in sheet)
    if not stays:
        with nullcontext() if stores(settings) else open_scene_image(inputs["image"], settings) as scene_image:
            _write_sheet(outputs, kept, cut, sheet, settings, task, scene_image)
    if digests:
        write_blocks(outputs, settings, digests, cut, sheet)
    class_counts = [counts for chips in cut for counts in chips.class_counts]
    if windows and not class_counts:
        each = "its window was" if len(windows) == 1 else f"all of its {len(windows)} windows were"
        progress.note(f"scene {scene}: no chips, because {each} dropped; see chip.keep and chip.max_nodata")
    index = {
        "scene": scene,
        "task": settings["task"],
        "size_px": size,
        "dtype": dtype.name,
        "bands": bands,
        "classes": names(classes),
        "count": len(class_counts),
        "shards": [shard for chips in cut for shard in chips.shards],
        "class_counts": np.array(class_counts, dtype=np.int64).reshape(-1, len(classes)).sum(axis=0).tolist(),
        "chip_class_counts": class_counts,
    }
    (outputs / "index.json").write_text(json.dumps(index, sort_keys=True) + "\n", encoding="utf-8")
    return [*sorted(kept), *([SHEET] if stays else [])]


def _digests(every: Sequence[Block], task: Task, labels: Labels) -> dict[int, str]:
    """Return the digest of each block by its number; empty if the labels cannot provide digests."""
    digests = {}
    for block in every:
        of_labels = task.label_digest(labels, block.area)
        if of_labels is None:
            return {}
        digests[block.number] = digest_of(block, of_labels)
    return digests


def _choose(cut: Sequence[Chips], settings: SceneChipSettings, before: Known) -> list[list[int]]:
    """Return the chips for the contact sheet, each as the number of its block and its position in the block."""
    null_id, by_number = settings["null_id"], {chips.number: chips for chips in cut}
    places = [[chips.number, place] for chips in cut for place in range(len(chips.windows))]
    if before.sheet is not None and len(before.sheet) == CHIPS and all(n in before.blocks for n, _ in before.sheet):
        # Kept chips that were on the sheet come first, in their order; all others follow.
        places = sorted([*before.sheet, *(place for place in places if place[0] not in before.blocks)])
    seen = ((by_number[number].windows[place], by_number[number].class_counts[place]) for number, place in places)
    chips_seen = ((Window(*window), sum(counts) > counts[null_id]) for window, counts in seen)
    return [places[position] for position in choose(settings["seed"], chips_seen)]


def _write_sheet(
    outputs: Path,
    kept: Mapping[str, Path],
    cut: Sequence[Chips],
    sheet: Sequence[Sequence[int]],
    settings: SceneChipSettings,
    task: Task,
    scene_image: SceneImage | None,
) -> None:
    """Write `contact.png` from the shards, some of which are `kept` in another directory, or from the image."""
    size, by_number = settings["chip"]["size_px"], {chips.number: chips for chips in cut}

    # Several of the chips are in one shard.
    opened = functools.cache(open_shard)

    def read(position: int) -> Shown:
        number, place = sheet[position]
        for shard in by_number[number].shards:
            if place < shard["count"]:
                break
            place -= shard["count"]
        labels = opened(kept.get(shard["labels"], outputs / shard["labels"]))
        valid: npt.NDArray[np.bool_] | None
        if scene_image is not None:
            image, valid = read_resampled(scene_image, Window(*labels["windows"][place].tolist()), size)
        else:
            image, valid = unpack_image(opened(kept.get(shard["images"], outputs / shard["images"])), place)
        target = task.resize(task.unpack(labels, place), (size, size), TILE_PX)
        return image, valid, lambda picture: task.draw(target, picture, settings["classes"])

    write_sheet(outputs / SHEET, range(len(sheet)), settings["classes"], read)
