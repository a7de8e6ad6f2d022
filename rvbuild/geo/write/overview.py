"""A scene as one small image: a sample of its pixels, to see the whole scene at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rvbuild.geo.classes import Classes
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.open import SceneImage
from rvbuild.geo.windows import Window
from rvbuild.geo.write.picture import Picture, colourize

Overlay = NDArray[np.uint8]
"""(h, w, 4) red, green, blue and opacity, a pixel for each of an overview."""

OPACITY = 110
"""Of the colours of classes, of 255."""

QUALITY = 88
"""Of JPEG files."""


def step_of(grid: Grid, most_px: int) -> int:
    """Return the sampling step, so that no side has more than `most_px` pixels.

    >>> step_of(Grid(900, 2000, None, None), 1000)
    2
    """
    return max(1, -(-max(grid.height, grid.width) // most_px))


def shown_at(length: int, step: int) -> NDArray[np.int64]:
    """Return the rows (or columns) of a scene in an overview: the middle one of each `step`.

    >>> shown_at(10, 4).tolist()
    [2, 6, 9]
    """
    return np.minimum(np.arange(step // 2, length + step // 2, step, dtype=np.int64), length - 1)


def overview(image: SceneImage, step: int) -> tuple[Image, Mask]:
    """Read every `step`-th pixel of an image, row by row: memory does not grow with the scene.

    Returns
    -------
    image : (C, h, w) in the image's dtype
    valid : (C, h, w) bool
    """
    rows, cols = shown_at(image.grid.height, step), shown_at(image.grid.width, step)
    pixels = np.zeros((image.count, len(rows), len(cols)), dtype=image.dtype)
    valid = np.zeros(pixels.shape, dtype=bool)
    for place, row in enumerate(rows.tolist()):
        values, known = image.read(Window(row, 0, 1, image.grid.width))
        pixels[:, place], valid[:, place] = values[:, 0, cols], known[:, 0, cols]
    return pixels, valid


def class_overlay(ids: NDArray[np.uint8], classes: Classes) -> Overlay:
    """Return class ids (h, w) as an overlay in the colours of the classes; transparent without a class."""
    opacity = np.where(ids < len(classes), np.uint8(OPACITY), np.uint8(0))
    return np.concatenate([colourize(ids, classes), opacity[..., np.newaxis]], axis=-1)


def outlined(overlay: Overlay) -> Overlay:
    """Return the outer pixels of each area of one colour, opaque; the rest is transparent."""
    padded = np.pad(overlay, ((1, 1), (1, 1), (0, 0)), mode="edge")
    edge = np.zeros(overlay.shape[:2], dtype=bool)
    for row, col in ((0, 1), (2, 1), (1, 0), (1, 2)):
        neighbours = padded[row : row + overlay.shape[0], col : col + overlay.shape[1]]
        edge |= (neighbours != overlay).any(axis=-1)
    lines = np.zeros_like(overlay)
    shown = edge & (overlay[..., 3] > 0)
    lines[shown, :3], lines[shown, 3] = overlay[shown, :3], 255
    return lines


def lay_over(picture: Picture, overlay: Overlay) -> Picture:
    """Return a picture (h, w, 3) with an overlay of the same size on it."""
    share = overlay[..., 3:].astype(np.float32) / 255
    mixed = picture * (1 - share) + overlay[..., :3] * share
    return np.rint(mixed).astype(np.uint8)


def write_jpeg(path: Path, picture: Picture) -> None:
    """Write a picture as JPEG, with the same bytes each time."""
    from PIL import Image as Pillow  # imported late: predictions need no pictures

    Pillow.fromarray(np.ascontiguousarray(picture)).save(path, format="JPEG", quality=QUALITY)
