"""The windows of images: those with labels, and those that may get some, measured row of blocks by row of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from rvbuild.cores import thread_count
from rvbuild.geo.windows import Window
from rvbuild.learn.linear.head import Head
from rvbuild.progress import Progress
from rvbuild.review.suggest.measure import Measured, joined, measure
from rvbuild.stages.draft.cells import Cells, SceneFeatures
from rvbuild.stages.suggest.ground import Ground, in_cells
from rvbuild.stages.threads.read_ahead import read_ahead

LEAST = 0.5
"""A window is suggested if at least this share of its pixels may get a label, and is labelled if as many have one."""

MOST = 16_384
"""Windows of a kind that are compared: of more, an even sample, so that time and memory are bounded."""

THREADS = 4
"""That measure rows of blocks, at most."""

Integers = npt.NDArray[np.int64]


class Place(NamedTuple):
    """A window of a scene."""

    scene: str
    row: int
    col: int
    side: int
    """All in pixels; a window may reach beyond the scene."""

    def number(self) -> int:
        """Return a number of 64 bits that no other window has, in no order."""
        text = f"{self.row} {self.col} {self.side} {self.scene}"
        return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


class Sample:
    """Windows of one kind: all of them, or an even sample of `most`, the same in whatever order they come."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._limit = 1 << 64
        self._places: list[Place] = []
        self._parts: list[Measured] = []

    def wants(self, place: Place) -> bool:
        """Tell whether a window may be in the sample."""
        return place.number() < self._limit

    def add(self, places: Sequence[Place], measured: Measured) -> None:
        """Take windows."""
        if places:
            self._places += places
            self._parts.append(measured)
        if len(self._places) > 2 * self._most:
            self._thin()

    def result(self) -> tuple[list[Place], Measured | None]:
        """Return the windows in the order of scenes and places, and what is known of them; None without windows."""
        self._thin()
        order = sorted(range(len(self._places)), key=self._places.__getitem__)
        measured = joined(self._parts).taken(order) if order else None
        return [self._places[number] for number in order], measured

    def _thin(self) -> None:
        """Keep those with the lowest numbers."""
        if len(self._places) <= self._most:
            return
        numbers = [place.number() for place in self._places]
        kept = sorted(sorted(range(len(numbers)), key=numbers.__getitem__)[: self._most])
        self._parts = [joined(self._parts).taken(kept)]
        self._places = [self._places[number] for number in kept]
        self._limit = 1 + max(numbers[number] for number in kept)


class Samples(NamedTuple):
    """The windows of all images."""

    free: Sample
    """Those that may be labelled."""
    labelled: Sample


def collect(
    scene: str,
    features: SceneFeatures,
    ground: Ground,
    head: Head | None,
    side: int,
    samples: Samples,
    progress: Progress,
) -> None:
    """Add the windows of an image.

    Parameters
    ----------
    scene
        The scene that the windows name.
    features
        Of the image.
    ground
        Its pixels.
    head
        The model; None if there is none.
    side
        Of a window in pixels: a whole part of a block.
    samples
        Receives the windows.
    progress
        Advances by a row of blocks.
    """
    cells = features.cells
    threads = min(THREADS, thread_count())

    def opened() -> AbstractContextManager[SceneFeatures]:
        return nullcontext(features)  # memory-mapped: threads share it

    def measured(source: SceneFeatures, item: _Row) -> list[tuple[Sample, list[Place], Measured]]:
        return [
            found
            for sample, pixels, model in ((samples.free, item.free, head), (samples.labelled, item.labelled, None))
            for found in _measured(scene, source, item.row, pixels, model, side, sample)
        ]

    for parts in read_ahead(opened, measured, _rows(cells, ground), threads=threads, depth=threads):
        for sample, places, values in parts:
            sample.add(places, values)
        progress.advance()


class _Row(NamedTuple):
    """A row of blocks: the pixels that count in each of its cells, (cells of a block, cells of the row)."""

    row: int
    free: Integers
    labelled: Integers


def _rows(cells: Cells, ground: Ground) -> Iterator[_Row]:
    shape = (cells.side, cells.cols * cells.side)
    for row in range(cells.rows):
        window = Window(row * cells.block_px, 0, cells.block_px, cells.width).clip(cells.height, cells.width)
        pixels = ground.read(window)
        yield _Row(row, *(in_cells(each, cells.stride_px, shape) for each in (pixels.free, pixels.labelled)))


def _measured(
    scene: str, features: SceneFeatures, row: int, pixels: Integers, head: Head | None, side: int, sample: Sample
) -> Iterator[tuple[Sample, list[Place], Measured]]:
    """Yield the windows of each block of a row that have enough pixels and that a sample wants."""
    cells = features.cells
    if not pixels.any():
        return
    parts, cells_of_side = cells.block_px // side, side // cells.stride_px
    split = pixels.reshape(parts, cells_of_side, cells.cols, parts, cells_of_side).transpose(2, 0, 3, 1, 4)
    in_windows = split.reshape(cells.cols, parts * parts, cells_of_side**2)
    enough = in_windows.sum(axis=2) >= LEAST * side**2
    for col in np.flatnonzero(enough.any(axis=1)).tolist():
        places = {
            number: Place(
                scene, row * cells.block_px + number // parts * side, col * cells.block_px + number % parts * side, side
            )
            for number in np.flatnonzero(enough[col]).tolist()
        }
        wanted = [number for number, place in places.items() if sample.wants(place)]
        if wanted:
            block = features.block(row, col).reshape(parts, cells_of_side, parts, cells_of_side, -1)
            windows = block.transpose(0, 2, 1, 3, 4).reshape(parts * parts, cells_of_side**2, -1)
            yield sample, [places[number] for number in wanted], measure(windows[wanted], in_windows[col][wanted], head)
