"""The contact sheet: some chips of a scene beside their targets, for a person to look at."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rvbuild.geo.classes import Classes
from rvbuild.geo.picture import Picture, contact_sheet, rgb_preview
from rvbuild.geo.windows import Window
from rvbuild.stages.chip_windows import uniform

CHIPS = 24
"""On a sheet at most."""

TILE_PX = 160


class ContactSheet:
    """Gathers chips as they come and keeps a few, drawn by the seed; those with labels first.

    Which are kept depends on the chips and the seed, not on their order. Only pictures are held in memory.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        # A heap whose first is the chip to give up next: (rank, number of the chip, window, pictures).
        self._kept: list[tuple[float, int, Window, tuple[Picture, Picture]]] = []
        self._offered = 0

    def offer(
        self,
        window: Window,
        image: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_],
        labelled: bool,
        draw: Callable[[], Picture],
    ) -> None:
        """Consider a chip; image and valid are (C, H, W), `draw` makes the picture of its target if it is needed."""
        self._offered += 1
        rank = -uniform(self._seed, "contact", *window) - (0 if labelled else 1)
        if len(self._kept) == CHIPS and rank <= self._kept[0][0]:
            return
        entry = (rank, self._offered, window, (rgb_preview(image, valid), draw()))
        if len(self._kept) < CHIPS:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heapreplace(self._kept, entry)

    def write(self, path: Path, classes: Classes) -> None:
        """Write the chips as a PNG in the order they came; nothing if there are none."""
        chips = [pictures for *_, pictures in sorted(self._kept, key=lambda entry: entry[1])]
        if chips:
            contact_sheet(chips, path, classes=classes, tile_px=TILE_PX)
