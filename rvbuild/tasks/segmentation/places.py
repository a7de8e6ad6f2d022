"""A place of a segmentation scene as pictures: labels, predictions, and which pixels are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rasterio.windows import Window as RasterioWindow

from rvbuild.geo.area.aoi import Aoi
from rvbuild.geo.classes import NODATA, Classes
from rvbuild.geo.labels.open import LabelSource
from rvbuild.geo.raster.file import open_dataset
from rvbuild.geo.windows import Window
from rvbuild.geo.write.overview import Overlay, class_overlay, lay_over
from rvbuild.geo.write.picture import Picture
from rvbuild.tasks.metrics.places import OUTSIDE, WRONG
from rvbuild.tasks.protocol import Panels


def panels(predictions: Path, source: LabelSource, aoi: Aoi | None, classes: Classes, null_id: int) -> Panels:
    """Return a function that draws labels, predictions and wrong pixels; what is not evaluated is dark."""

    def draw(picture: Picture, window: Window) -> tuple[Picture, Picture, Picture]:
        with open_dataset(predictions) as dataset:
            predicted = dataset.read(1, window=RasterioWindow(window.col, window.row, window.width, window.height))
        truth = source.read(window)
        counted = truth != null_id
        if aoi is not None:
            counted &= aoi.mask(window)
        overlays = [class_overlay(np.where(counted, ids, np.uint8(NODATA)), classes) for ids in (truth, predicted)]
        errors = np.zeros((*truth.shape, 4), dtype=np.uint8)
        errors[counted & (truth != predicted)] = WRONG
        of_labels, of_predictions, of_errors = (
            _darkened(lay_over(picture, overlay), counted) for overlay in (*overlays, errors)
        )
        return of_labels, of_predictions, of_errors

    return draw


def _darkened(picture: Picture, counted: np.ndarray) -> Picture:
    shade: Overlay = np.zeros((*counted.shape, 4), dtype=np.uint8)
    shade[~counted] = OUTSIDE
    return lay_over(picture, shade)
