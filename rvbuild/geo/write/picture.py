"""Small pictures for people: previews of imagery, class colours, sheets of chips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rvbuild.geo.classes import Classes, names, palette

if TYPE_CHECKING:
    from PIL import Image

Picture = NDArray[np.uint8]
"""(H, W, 3) red, green, blue."""

_GAP_PX = 4
_SEAM_PX = 6
_PAPER = (245, 245, 245)
_INK = (20, 20, 20)


Stretch = tuple[tuple[float, float], ...] | None
"""Lowest and highest value of red, green and blue; None for uint8, which is shown as it is."""


def stretch_of(image: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Stretch:
    """Return the 2nd and the 98th percentile of the bands that `rgb_preview` shows.

    Parameters
    ----------
    image
        (C, H, W) of any real dtype.
    valid
        (C, H, W) bool: the pixels that count.
    """
    if image.dtype == np.uint8:
        return None
    limits = []
    for band in _shown_bands(image):
        known = _known(image, valid, band)
        values = image[band][known].astype(np.float64)
        low, high = np.percentile(values, (2, 98)) if values.size else (0.0, 1.0)
        limits.append((float(low), float(high)))
    return tuple(limits)


def rgb_preview(image: NDArray[Any], valid: NDArray[np.bool_] | None = None, stretch: Stretch | None = None) -> Picture:
    """Return a picture of the first three bands, or of the first as grey if there are fewer.

    Parameters
    ----------
    image
        (C, H, W) of any real dtype. uint8 is shown as it is; all else is stretched, band by band.
    valid
        (C, H, W) bool; invalid pixels are black.
    stretch
        From `stretch_of`, which is also the default.
    """
    picture = np.zeros((*image.shape[1:], 3), dtype=np.uint8)
    limits = stretch_of(image, valid) if stretch is None else stretch
    for channel, band in enumerate(_shown_bands(image)):
        known = _known(image, valid, band)
        if limits is None:
            picture[..., channel] = np.where(known, image[band], 0)
        else:
            low, high = limits[channel]
            span = high - low if high > low else 1.0
            scaled = (np.where(known, image[band], low).astype(np.float64) - low) / span
            picture[..., channel] = np.rint(scaled.clip(0, 1) * 255) * known
    return picture


def _shown_bands(image: NDArray[Any]) -> tuple[int, int, int]:
    return (0, 1, 2) if image.shape[0] >= 3 else (0, 0, 0)


def _known(image: NDArray[Any], valid: NDArray[np.bool_] | None, band: int) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_] = np.isfinite(image[band])
    return finite if valid is None else valid[band] & finite


def colourize(labels: NDArray[np.uint8], classes: Classes) -> Picture:
    """Return class ids (H, W) as the colours of the classes; black without a class."""
    return palette(classes)[labels]


def blend(picture: Picture, labels: NDArray[np.uint8], classes: Classes, share: float = 0.4) -> Picture:
    """Return a picture with the class colours laid over it; `share` is the weight of the colours."""
    mixed = picture * (1 - share) + colourize(labels, classes) * share
    return np.rint(mixed).astype(np.uint8)


def resized(picture: Picture, size_px: int) -> Picture:
    """Return a picture at `size_px` square, averaged where it shrinks."""
    from PIL import Image  # imported late: predictions need no pictures

    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BOX))


def side_by_side(*pictures: Picture) -> Picture:
    """Return pictures of one height with white gaps between them."""
    gap = np.full((pictures[0].shape[0], _SEAM_PX, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)


def draw_boxes(
    picture: Picture, boxes: NDArray[np.floating], ids: NDArray[np.integer], classes: Classes, width_px: int = 1
) -> Picture:
    """Return a picture with boxes, (N, 4) x0, y0, x1, y1 in its pixels, in the colours of their class ids (N,)."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(np.ascontiguousarray(picture))
    pen, colors = ImageDraw.Draw(image), palette(classes)
    for (x0, y0, x1, y1), class_id in zip(np.asarray(boxes).tolist(), np.asarray(ids).tolist(), strict=True):
        left, top = math.floor(x0), math.floor(y0)
        # The last pixel inside an edge is the one before it.
        corners = (left, top, max(left, math.ceil(x1) - 1), max(top, math.ceil(y1) - 1))
        pen.rectangle(corners, outline=tuple(map(int, colors[class_id])), width=width_px)
    return np.asarray(image)


def contact_sheet(
    chips: Sequence[tuple[Picture, Picture]],
    path: Path,
    *,
    classes: Classes | None = None,
    tile_px: int = 128,
    columns: int = 4,
) -> None:
    """Write a PNG of chips, each as a pair of pictures side by side, with the class colours below.

    Parameters
    ----------
    chips
        Pairs (image, labels) of pictures, of any sizes; see `rgb_preview` and `colourize`.
    path
        The PNG to write.
    classes
        For the legend; None: no legend.
    tile_px
        Side of each picture on the sheet.
    columns
        Pairs in a row.
    """
    from PIL import Image

    columns = max(1, min(columns, len(chips)))
    rows = -(-len(chips) // columns)
    pair_px = 2 * tile_px + _GAP_PX
    width = columns * (pair_px + 2 * _GAP_PX) + 2 * _GAP_PX
    legend = _legend_rows(names(classes), width) if classes else []
    height = rows * (tile_px + _GAP_PX) + _GAP_PX + _LINE_PX * len(legend)
    sheet = Image.new("RGB", (width, max(height, 1)), _PAPER)
    for index, pair in enumerate(chips):
        top = _GAP_PX + (index // columns) * (tile_px + _GAP_PX)
        left = 2 * _GAP_PX + (index % columns) * (pair_px + 2 * _GAP_PX)
        for place, (picture, method) in enumerate(
            zip(pair, (Image.Resampling.BOX, Image.Resampling.NEAREST), strict=True)
        ):
            tile = Image.fromarray(np.ascontiguousarray(picture)).resize((tile_px, tile_px), method)
            sheet.paste(tile, (left + place * (tile_px + _GAP_PX), top))
    if classes:
        _draw_legend(sheet, legend, classes, height - _LINE_PX * len(legend))
    sheet.save(path, format="PNG", optimize=False, compress_level=1)


_LINE_PX = 18
_SWATCH_PX = 12
_CHARACTER_PX = 7


def _legend_rows(labels: Sequence[str], width: int) -> list[list[int]]:
    """Return which classes stand in which line of the legend."""
    lines: list[list[int]] = [[]]
    used = _GAP_PX
    for index, label in enumerate(labels):
        needed = _entry_px(label)
        if lines[-1] and used + needed > width:
            lines.append([])
            used = _GAP_PX
        lines[-1].append(index)
        used += needed
    return lines


def _entry_px(label: str) -> int:
    return _SWATCH_PX + 3 * _GAP_PX + _CHARACTER_PX * len(label)


def _draw_legend(sheet: Image.Image, lines: Sequence[Sequence[int]], classes: Classes, top: int) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(sheet)
    labels, colors = names(classes), palette(classes)
    for line in lines:
        left = 2 * _GAP_PX
        for index in line:
            swatch = (left, top + 2, left + _SWATCH_PX, top + 2 + _SWATCH_PX)
            draw.rectangle(swatch, fill=tuple(map(int, colors[index])), outline=_INK)
            draw.text((left + _SWATCH_PX + _GAP_PX, top + 2), labels[index], fill=_INK)
            left += _entry_px(labels[index])
        top += _LINE_PX
