"""Cuts the windows of one scene into chips, block by block, in threads with files of their own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rvbuild.cores import cores
from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import id_of
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.open import SceneImage, open_scene_image
from rvbuild.geo.raster.resample import resample
from rvbuild.geo.windows import Window
from rvbuild.learn.chips.index import ShardEntry
from rvbuild.stages.chip.blocks import Block, pieces
from rvbuild.stages.chip.settings import SceneChipSettings
from rvbuild.stages.chip.shards import ShardWriter, Target
from rvbuild.stages.chip.windows import survives
from rvbuild.stages.threads.read_ahead import read_ahead

if TYPE_CHECKING:
    from rvbuild.tasks.protocol import Labels, Task

THREADS = 2
"""Maximum number of threads that cut; each opens its own files."""

PIECES = 4
"""Minimum number of pieces of work for each thread: with larger pieces, fewer blocks of the files are decoded twice."""

FEW = 4
"""Up to this many blocks are cut with the labels that are already open: opening them again takes longer."""

Bools = npt.NDArray[np.bool_]
Inputs = Mapping[str, Sequence[Path]]
Sources = tuple[SceneImage, "Labels"]
"""The image and the labels of a thread."""

Chip = tuple[npt.NDArray[Any], Bools | None, Target, npt.NDArray[np.int64]]
"""Image, validity, target and class counts. None: all values are valid."""


def thread_count() -> int:
    """Return the number of threads that cut: a second one on the same core would only open files once more."""
    return min(THREADS, cores())


class Chips(NamedTuple):
    """The chips of a block."""

    number: int
    """The number of the block."""
    shards: list[ShardEntry]
    windows: list[list[int]]
    class_counts: list[list[int]]
    """Windows and class counts of each chip, in the order of the shards."""

    def files(self, store: bool) -> list[str]:
        """Return the names of all files; without those of images unless these are stored."""
        return [
            name
            for shard in self.shards
            for name in ((shard["images"], shard["labels"]) if store else (shard["labels"],))
        ]


def stores(settings: SceneChipSettings) -> bool:
    """Tell whether the images of chips are stored."""
    return settings["chip"].get("store", True)


class Cutter:
    """Cuts windows of one scene.

    Parameters
    ----------
    inputs, settings
        The inputs and the settings of the stage.
    task
        The task of the settings.
    grid, aoi
        The grid and the area of interest of the scene.
    outputs
        Receives the shards.
    """

    def __init__(
        self, inputs: Inputs, settings: SceneChipSettings, task: Task, grid: Grid, aoi: Aoi | None, outputs: Path
    ) -> None:
        self._inputs, self._settings, self._task = inputs, settings, task
        self._grid, self._aoi, self._outputs = grid, aoi, outputs
        self._keep = _KeepRule(settings)
        self._lent: list[Sources] = []
        self._failed = threading.Event()
        self._store = stores(settings)

    def lend(self, image: SceneImage, labels: Labels) -> None:
        """Use an image and labels that are already open in one of the threads; the caller closes them."""
        self._lent.append((image, labels))

    def cut(self, blocks: Sequence[Block], advance: Callable[[int], None]) -> list[Chips]:
        """Return the chips of some blocks, in order, and write their shards.

        Parameters
        ----------
        blocks
            The blocks to cut.
        advance
            Receives the number of finished windows, from any thread.
        """
        threads = thread_count()
        if self._lent and threads == 1:
            sources = self._lent.pop()
            return [chips for piece in pieces(blocks, 1) for chips in self._cut(sources, piece, advance)]
        if self._lent and len(blocks) <= FEW:
            return self._cut_few(self._lent.pop()[1], blocks, advance, threads)
        work = pieces(blocks, threads * PIECES)
        cut: list[Chips] = []

        def cut_piece(sources: Sources, piece: list[Block]) -> list[Chips]:
            try:
                return self._cut(sources, piece, advance)
            except BaseException:
                self._failed.set()
                raise

        threads = max(1, min(threads, len(work)))
        for chips in read_ahead(self._open, cut_piece, work, threads=threads, depth=len(work)):
            cut += chips
        return cut

    @contextmanager
    def _open(self) -> Iterator[Sources]:
        """Open image and labels."""
        if self._lent:
            yield self._lent.pop()
            return
        settings, classes, null_id = self._settings["labels"], self._settings["classes"], self._settings["null_id"]
        with (
            open_scene_image(self._inputs["image"], self._settings) as image,
            self._task.labels(self._inputs["labels"], settings, self._grid, classes, null_id) as labels,
        ):
            yield image, labels

    def _cut_few(
        self, labels: Labels, blocks: Sequence[Block], advance: Callable[[int], None], threads: int
    ) -> list[Chips]:
        """Cut a few blocks: each thread reads a band of a block; everything else happens in this thread."""
        cut: list[Chips] = []
        bands = [(block, part) for block in blocks for part in _bands(block.windows, threads)]
        reads = read_ahead(
            lambda: open_scene_image(self._inputs["image"], self._settings),
            lambda image, windows: [image.read_data(window) for window in windows],
            [windows for _, windows in bands],
            threads=max(1, min(threads, len(bands))),
            depth=threads,
        )
        size, writer = self._settings["chip"]["size_px"], None
        try:
            for (block, windows), images in zip(bands, reads, strict=True):
                if writer is None or cut[-1].number != block.number:
                    _complete(cut, writer)
                    shape, dtype = (images[0][0].shape[0], size, size), images[0][0].dtype
                    cut.append(Chips(block.number, [], [], []))
                    writer = self._writer(block, shape, dtype)
                for window, (pixels, valid) in zip(windows, images, strict=True):
                    _add(cut[-1], writer, window, self._chip(labels, window, pixels, valid))
                    advance(1)
            _complete(cut, writer)
        finally:
            if writer is not None:
                writer.abandon()
        return cut

    def _writer(self, block: Block, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> ShardWriter:
        pack, most = self._task.pack, len(block.windows)
        return ShardWriter(self._outputs, block.number, pack, shape, dtype, most, store=self._store)

    def _cut(self, sources: Sources, piece: Sequence[Block], advance: Callable[[int], None]) -> list[Chips]:
        """Cut blocks side by side: row by row of windows across all blocks, in the order of the stored pixels."""
        (image, labels), size = sources, self._settings["chip"]["size_px"]
        shape = (image.count, size, size)
        cut = [Chips(block.number, [], [], []) for block in piece]
        writers = [self._writer(block, shape, image.dtype) for block in piece]
        try:
            for window, place in sorted(
                (window, place) for place, block in enumerate(piece) for window in block.windows
            ):
                if self._failed.is_set():
                    break
                _add(cut[place], writers[place], window, self._chip(labels, window, *image.read_data(window)))
                advance(1)
            for chips, writer in zip(cut, writers, strict=True):
                writer.finish()
                chips.shards.extend(writer.shards)
        finally:
            for writer in writers:
                writer.abandon()
        return cut

    def _chip(self, labels: Labels, window: Window, pixels: npt.NDArray[Any], valid: Bools | None) -> Chip | None:
        """Return the chip at a window whose image has been read; None if the window yields no chip."""
        settings, task = self._settings, self._task
        size, null_id = settings["chip"]["size_px"], settings["null_id"]
        trainable: Bools | None = None
        # Most windows have data everywhere, so nothing has to be masked.
        if valid is not None:
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


def _add(chips: Chips, writer: ShardWriter, window: Window, chip: Chip | None) -> None:
    """Add a chip to those of its block, and to the files of the block."""
    if chip is None:
        return
    pixels, valid, target, class_counts = chip
    writer.add(window, pixels, valid, target)
    chips.windows.append(list(window))
    chips.class_counts.append(class_counts.tolist())


def _complete(cut: Sequence[Chips], writer: ShardWriter | None) -> None:
    """Complete the files of the last block, if there is one."""
    if writer is not None:
        writer.finish()
        cut[-1].shards.extend(writer.shards)


def _bands(windows: Sequence[Window], threads: int) -> list[Sequence[Window]]:
    """Return the windows of a block, from top to bottom, as one part for each thread; a small block has fewer parts."""
    cuts = [len(windows) * part // threads for part in range(threads + 1)]
    return [windows[start:stop] for start, stop in itertools.pairwise(cuts) if start < stop]


class _KeepRule:
    """Decides whether to keep a chip, from the pixels of its classes."""

    def __init__(self, settings: SceneChipSettings) -> None:
        self._rule, self._seed = settings["chip"]["keep"], settings["seed"]
        self._ids: list[int] = []
        if self._rule is not None:
            self._ids = [id_of(settings["classes"], name, "chip.keep.classes") for name in self._rule["classes"]]

    def __call__(self, window: Window, class_counts: npt.NDArray[np.int64]) -> bool:
        if self._rule is None or int(class_counts[self._ids].sum()) >= self._rule["min_px"]:
            return True
        return survives(window, self._seed, self._rule["otherwise"])
