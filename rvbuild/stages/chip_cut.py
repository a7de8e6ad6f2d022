"""Cutting windows of one scene out as chips, block by block, in threads that read and write for themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rvbuild.geo.aoi import Aoi
from rvbuild.geo.classes import id_of
from rvbuild.geo.grid import Grid
from rvbuild.geo.image import SceneImage, open_scene_image
from rvbuild.geo.resample import resample
from rvbuild.geo.windows import Window
from rvbuild.stages.chip_blocks import Block, pieces
from rvbuild.stages.chip_shards import ShardWriter, Target
from rvbuild.stages.chip_windows import survives
from rvbuild.stages.read_ahead import read_ahead

if TYPE_CHECKING:
    from rvbuild.tasks.protocol import Labels, Task

THREADS = 2
"""That cut; each opens its own files."""

PIECES = 4
"""Pieces of work for each thread, at least: the larger the pieces, the fewer blocks of the files are decoded twice."""

Bools = npt.NDArray[np.bool_]
Inputs = Mapping[str, Sequence[Path]]
Sources = tuple[SceneImage, "Labels"]
"""The image, and what the task reads labels from."""


class Chips(NamedTuple):
    """The chips of a block."""

    number: int
    """Of the block."""
    shards: list[dict[str, Any]]
    """What the files of each shard are called, and how many chips it has."""
    windows: list[list[int]]
    class_counts: list[list[int]]
    """Both one for each chip, in the order of the shards."""

    def files(self, store: bool) -> list[str]:
        """Return the names of all files; without those of the images if these are not stored."""
        return [shard[kind] for shard in self.shards for kind in (("images", "labels") if store else ("labels",))]


def stores(settings: Mapping[str, Any]) -> bool:
    """Tell whether the images of chips are stored, by the settings of the stage."""
    return bool(settings["chip"].get("store", True))


class Cutter:
    """Cuts windows of one scene.

    Parameters
    ----------
    inputs, settings
        As the stage is given them.
    task
        That of the settings.
    grid, aoi
        Of the scene.
    outputs
        Receives the shards.
    """

    def __init__(
        self, inputs: Inputs, settings: Mapping[str, Any], task: Task, grid: Grid, aoi: Aoi | None, outputs: Path
    ) -> None:
        self._inputs, self._settings, self._task = inputs, settings, task
        self._grid, self._aoi, self._outputs = grid, aoi, outputs
        self._keep = _KeepRule(settings)
        self._labels: list[Labels] = []
        self._failed = threading.Event()
        self._store = stores(settings)

    def lend(self, labels: Labels) -> None:
        """Take labels that are open already, for one of the threads; the caller closes them."""
        self._labels.append(labels)

    def cut(self, blocks: Sequence[Block], advance: Callable[[int], None]) -> list[Chips]:
        """Return the chips of some blocks, in order, and write their shards.

        Parameters
        ----------
        blocks
            The blocks to cut.
        advance
            Is told how many windows are done, by any thread.
        """
        work = pieces(blocks, THREADS * PIECES)
        found: list[Chips] = []

        def cut_piece(sources: Sources, piece: list[Block]) -> list[Chips]:
            try:
                return self._cut(sources, piece, advance)
            except BaseException:
                self._failed.set()
                raise

        threads = max(1, min(THREADS, len(work)))
        for chips in read_ahead(self._open, cut_piece, work, threads=threads, depth=len(work)):
            found += chips
        return found

    @contextmanager
    def _open(self) -> Iterator[Sources]:
        """Open image and labels."""
        how, classes = self._settings["labels"], self._settings["classes"]
        with open_scene_image(self._inputs["image"], self._settings) as image:
            if self._labels:
                yield image, self._labels.pop()
            else:
                null_id = self._settings["null_id"]
                with self._task.labels(self._inputs["labels"], how, self._grid, classes, null_id) as labels:
                    yield image, labels

    def _cut(self, sources: Sources, piece: Sequence[Block], advance: Callable[[int], None]) -> list[Chips]:
        """Cut blocks side by side: a row of windows through all of them, then the next, as the files are stored."""
        image, size = sources[0], int(self._settings["chip"]["size_px"])
        shape = (image.count, size, size)
        found = [Chips(block.number, [], [], []) for block in piece]
        writers = [
            ShardWriter(
                self._outputs,
                block.number,
                self._task.pack,
                shape,
                image.dtype,
                len(block.windows),
                store=self._store,
            )
            for block in piece
        ]
        try:
            for window, place in sorted(
                (window, place) for place, block in enumerate(piece) for window in block.windows
            ):
                if self._failed.is_set():
                    break
                chip = self._chip(sources, window)
                if chip is not None:
                    pixels, valid, target, class_counts = chip
                    writers[place].add(window, pixels, valid, target)
                    found[place].windows.append(list(window))
                    found[place].class_counts.append(class_counts.tolist())
                advance(1)
            for chips, writer in zip(found, writers, strict=True):
                writer.finish()
                chips.shards.extend(writer.shards)
        finally:
            for writer in writers:
                writer.abandon()
        return found

    def _chip(
        self, sources: Sources, window: Window
    ) -> tuple[npt.NDArray[Any], Bools, Target, npt.NDArray[np.int64]] | None:
        """Return image, validity, target and class counts of a chip; None for a window that is none."""
        image, labels = sources
        settings, task = self._settings, self._task
        size, null_id = settings["chip"]["size_px"], settings["null_id"]
        pixels, valid = image.read(window)
        trainable: Bools | None = None
        # Most windows have data everywhere, and then there is nothing to mask.
        if not valid.all():
            trainable = np.logical_or.reduce(valid, axis=0)
            if 1 - np.count_nonzero(trainable) / trainable.size >= settings["chip"]["max_nodata"]:
                return None
        target = task.target(labels, window, settings["chip"])
        if target is None:
            return None
        if self._aoi is not None and not self._aoi.contains(window):
            inside = self._aoi.mask(window)
            trainable = inside if trainable is None else trainable & inside
        if trainable is not None and not trainable.all():
            target = task.mask(target, trainable, null_id)
        if (window.height, window.width) != (size, size):
            pixels, valid = resample(pixels, valid, size)
            target = task.resize(target, (window.height, window.width), size)
        class_counts = task.class_counts(target, len(settings["classes"]))
        return (pixels, valid, target, class_counts) if self._keep(window, class_counts) else None


class _KeepRule:
    """Says whether a chip is kept, from the pixels of its classes."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._rule, self._seed = settings["chip"]["keep"], settings["seed"]
        self._ids = []
        if self._rule is not None:
            self._ids = [id_of(settings["classes"], name, "chip.keep.classes") for name in self._rule["classes"]]

    def __call__(self, window: Window, class_counts: npt.NDArray[np.int64]) -> bool:
        if self._rule is None or int(class_counts[self._ids].sum()) >= self._rule["min_px"]:
            return True
        return survives(window, self._seed, self._rule["otherwise"])
