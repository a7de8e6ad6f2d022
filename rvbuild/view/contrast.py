"""The contrast of an image: which values are black and which are white, for each band."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.raster.stats import BandStats
from rvbuild.geo.windows import Window
from rvbuild.view.scenes import ViewedScene

SHARES = (0.02, 0.98)
"""The shares of all values that are below black, and below white."""

PROBES, PROBE_PX = 8, 32
"""Where there are no statistics: so many windows in each direction are read, of this side."""

Limits = NDArray[np.float64]
"""(C, 2) the values of black and of white, for each band."""


def limits(scene: ViewedScene) -> Limits:
    """Return the limits of the image of a scene: from the statistics of the project, or else from samples of it."""
    limits_known = _from_statistics(scene)
    with scene.image() as image:
        if limits_known is not None and len(limits_known) == image.count:
            return limits_known
        return _from_samples(image)


def stretched(image: Image, bands: Sequence[int], limits: Limits | None) -> NDArray[np.uint8]:
    """Return three bands of an image (C, H, W) as (H, W, 3) uint8; without limits as they are."""
    picture = np.zeros((*image.shape[1:], 3), dtype=np.uint8)
    for place, band in enumerate(bands):
        if limits is None:
            picture[..., place] = image[band]
            continue
        low, high = limits[band]
        with np.errstate(invalid="ignore"):
            scaled = (image[band].astype(np.float64) - low) * (255 / (high - low if high > low else 1.0))
        picture[..., place] = np.rint(np.nan_to_num(scaled).clip(0, 255))
    return picture


def _from_statistics(scene: ViewedScene) -> Limits | None:
    shown = scene.seen.output("analyze", None, "stats.json")
    if shown is None:
        return None
    try:
        bands = [BandStats.from_json(band) for band in json.loads(shown[0].read_text(encoding="utf-8"))["bands"]]
        pairs = [
            [band.histogram.quantile(share, float(band.min or 0), float(band.max or 0)) for share in SHARES]
            for band in bands
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is being written, or by another version; samples do as well
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _from_samples(image: Layer) -> Limits:
    grid = image.grid
    values: list[list[NDArray[Any]]] = [[] for _ in range(image.count)]
    rows, cols = (_starts(length) for length in (grid.height, grid.width))
    for row in rows:
        for col in cols:
            window = Window(row, col, min(PROBE_PX, grid.height), min(PROBE_PX, grid.width))
            pixels, valid = image.read(window)
            for band in range(image.count):
                values[band].append(pixels[band][valid[band]])
    limits_of_bands = np.zeros((image.count, 2))
    for band, parts in enumerate(values):
        known = np.concatenate(parts).astype(np.float64)
        limits_of_bands[band] = np.quantile(known, SHARES) if len(known) else (0.0, 1.0)
    return limits_of_bands


def _starts(length: int) -> list[int]:
    """Return where the probes begin along one axis, without repetition."""
    last = max(0, length - PROBE_PX)
    return sorted({round(last * (number + 0.5) / PROBES) for number in range(PROBES)})


def opaque(valid: Mask, bands: Sequence[int]) -> NDArray[np.bool_]:
    """Return where some of the bands that are shown has data: (H, W) bool."""
    shown: NDArray[np.bool_] = np.logical_or.reduce(valid[list(bands)])
    return shown
