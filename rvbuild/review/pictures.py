"""Pictures of suspects: image, label and prediction side by side, with the outlines drawn on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.windows
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rvbuild.geo.classes import Classes
from rvbuild.geo.raster.file import open_dataset
from rvbuild.geo.raster.open import SceneImage
from rvbuild.geo.windows import Window
from rvbuild.geo.write.overview import class_overlay, lay_over
from rvbuild.geo.write.picture import Picture, Stretch, rgb_preview, side_by_side
from rvbuild.review.shapes import area_of, rings_of
from rvbuild.review.suspect import Rings, Suspect

PANEL_PX = 256
"""Side of each picture."""

LEAST_PX, MOST_PX = 48, 2048
"""Side of the part of a scene that is shown."""

LABEL, PROPOSED = (255, 214, 0), (0, 229, 255)
"""Colours of outlines: of the label, and of what is proposed. Some people cannot tell red from green."""

_HALO = (0, 0, 0)


def shown_window(suspect: Suspect) -> Window:
    """Return the square of a scene that shows a suspect with some of what surrounds it; it may overhang the scene."""
    bounds = [area_of(rings).bounds for rings in (suspect.polygon, suspect.proposed_polygon) if rings]
    x0, y0 = (min(box[axis] for box in bounds) for axis in (0, 1))
    x1, y1 = (max(box[axis] for box in bounds) for axis in (2, 3))
    side = int(min(MOST_PX, max(LEAST_PX, 2 * (x1 - x0), 2 * (y1 - y0))))
    return Window(int((y0 + y1 - side) / 2), int((x0 + x1 - side) / 2), side, side)


def picture(
    suspect: Suspect,
    image: SceneImage,
    stretch: Stretch,
    classes: Classes,
    labels: Sequence[Any],
    predicted: Path | None,
) -> Picture:
    """Return the image, the labels on it, and the same on the prediction where there is a map of predictions.

    Parameters
    ----------
    suspect
        The suspect.
    image
        The image of its scene.
    stretch
        How values of the image become colours.
    classes
        All classes in id order.
    labels
        Polygons around the place, in pixels of the scene: labels that are drawn, too.
    predicted
        A raster of class ids on the grid of the image, or None.
    """
    window = shown_window(suspect)
    plain = _scaled(rgb_preview(*image.read(window), stretch))
    panels = [plain, _outlined(plain, window, suspect, labels)]
    if predicted is not None:
        overlay = class_overlay(_class_ids(predicted, window), classes)
        panels.append(_outlined(lay_over(plain, _nearest(overlay)), window, suspect, labels))
    return side_by_side(*panels)


def _outlined(panel: Picture, window: Window, suspect: Suspect, labels: Sequence[Any]) -> Picture:
    """Return a picture with the outlines of labels, thick of the suspected one, and of what is proposed."""
    image = Image.fromarray(np.ascontiguousarray(panel))
    pen = ImageDraw.Draw(image)
    for label in labels:
        _draw(pen, rings_of(label), window, LABEL, 1)
    if suspect.kind != "missing":
        _draw(pen, suspect.polygon, window, LABEL, 3)
    if suspect.proposed_polygon is not None:
        _draw(pen, suspect.proposed_polygon, window, PROPOSED, 3)
    return np.asarray(image)


def _draw(pen: Any, rings: Rings, window: Window, color: tuple[int, int, int], width: int) -> None:
    scale = PANEL_PX / window.width
    for ring in rings:
        points = [((x - window.col) * scale, (y - window.row) * scale) for x, y in ring]
        pen.line(points, fill=_HALO, width=width + 2, joint="curve")
        pen.line(points, fill=color, width=width, joint="curve")


def _class_ids(path: Path, window: Window) -> NDArray[np.uint8]:
    """Return the class ids of a window of a raster: (H, W) uint8, 255 outside."""
    ids = np.full((window.height, window.width), 255, dtype=np.uint8)
    with open_dataset(path) as dataset:
        part = window.clip(dataset.height, dataset.width)
        if part.height and part.width:
            place = rasterio.windows.Window(part.col, part.row, part.width, part.height)
            ids[part.slices_in(window)] = dataset.read(1, window=place)
    return ids


def _scaled(panel: Picture) -> Picture:
    """Return a picture at the size of panels: averaged where it shrinks, smooth where it grows."""
    method = Image.Resampling.BOX if panel.shape[0] > PANEL_PX else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.ascontiguousarray(panel)).resize((PANEL_PX, PANEL_PX), method))


def _nearest(overlay: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(overlay).resize((PANEL_PX, PANEL_PX), Image.Resampling.NEAREST))
