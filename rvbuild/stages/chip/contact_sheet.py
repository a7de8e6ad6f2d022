"""The contact sheet: a picture of some chips of a scene beside their targets."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rvbuild.geo.classes import Classes
from rvbuild.geo.windows import Window
from rvbuild.geo.write.picture import Picture, contact_sheet, resized, rgb_preview
from rvbuild.stages.chip.windows import uniform

CHIPS = 12
"""Maximum number on a sheet."""

SHEET = "contact.png"

TILE_PX = 144

Shown = tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None, Callable[[Picture], Picture]]
"""Image and validity (C, H, W), where None means that all is valid, and a function that draws the target on the image
at `TILE_PX`."""


def choose(seed: int, chips: Iterable[tuple[Window, bool]]) -> list[int]:
    """Return which chips are on the sheet, as positions in increasing order.

    Parameters
    ----------
    seed
        Together with the position of a chip, it decides whether the chip is drawn.
    chips
        The window of each chip, and whether its target shows anything: such chips come first.
    """
    ranks = ((0 if labelled else 1, uniform(seed, "contact", *window)) for window, labelled in chips)
    return sorted(position for _, position in heapq.nsmallest(CHIPS, ((r, i) for i, r in enumerate(ranks))))


def write_sheet(path: Path, positions: Sequence[int], classes: Classes, read: Callable[[int], Shown]) -> None:
    """Write the chips at `positions`, which `read` returns one by one, as a PNG; nothing without chips."""
    if positions:
        contact_sheet([_pair(*read(position)) for position in positions], path, classes=classes, tile_px=TILE_PX)


def _pair(
    image: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None, draw: Callable[[Picture], Picture]
) -> tuple[Picture, Picture]:
    # Only as much as a tile shows: chips may be large.
    step = max(1, image.shape[-1] // (2 * TILE_PX))
    few = np.s_[:3, ::step, ::step]
    picture = resized(rgb_preview(image[few], None if valid is None else valid[few]), TILE_PX)
    return picture, draw(picture)
