"""The contact sheet: some chips of a scene beside their targets, for a person to look at."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rvbuild.geo.classes import Classes
from rvbuild.geo.picture import Picture, contact_sheet, resized, rgb_preview
from rvbuild.geo.windows import Window
from rvbuild.stages.chip_shards import Target
from rvbuild.stages.chip_windows import uniform

CHIPS = 12
"""On a sheet at most."""

TILE_PX = 144


class _Chip(NamedTuple):
    rank: float
    """The chip of the lowest rank is given up first."""
    number: int
    """The place among all chips; no two are equal."""
    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    target: Target


class ContactSheet:
    """Gathers chips as they come and keeps a few, drawn by the seed; those with labels first."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._kept: list[_Chip] = []
        self._offered = 0

    def offer(
        self, window: Window, image: npt.NDArray[Any], valid: npt.NDArray[np.bool_], target: Target, labelled: bool
    ) -> None:
        """Consider a chip.

        Parameters
        ----------
        window
            Its place, which with the seed decides whether it is drawn.
        image, valid
            (C, H, W); the arrays are not kept.
        target
            Of the chip; kept as it is.
        labelled
            Whether there is anything to see in the target.
        """
        self._offered += 1
        rank = -uniform(self._seed, "contact", *window) - (0 if labelled else 1)
        if len(self._kept) == CHIPS and rank <= self._kept[0].rank:
            return
        # What a tile will not show is not kept: chips may be large.
        step = max(1, image.shape[-1] // (2 * TILE_PX))
        few = np.s_[:3, ::step, ::step]
        chip = _Chip(rank, self._offered, image[few].copy(), valid[few].copy(), target)
        if len(self._kept) < CHIPS:
            heapq.heappush(self._kept, chip)
        else:
            heapq.heapreplace(self._kept, chip)

    def write(self, path: Path, classes: Classes, draw: Callable[[Target, Picture], Picture]) -> None:
        """Write the chips as a PNG in the order they came; nothing without chips.

        `draw` makes a picture of a target, given that of its image at `TILE_PX`.
        """
        kept = sorted(self._kept, key=lambda chip: chip.number)
        images = [resized(rgb_preview(chip.image, chip.valid), TILE_PX) for chip in kept]
        chips = [(image, draw(chip.target, image)) for chip, image in zip(kept, images, strict=True)]
        if chips:
            contact_sheet(chips, path, classes=classes, tile_px=TILE_PX)
