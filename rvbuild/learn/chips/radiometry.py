"""Changes of the values of training chips, for any number of bands and any range of values.

The value range is what normalisation spreads over its own: 255 for uint8, twice `max_stds` standard deviations of the
band for z-scores, or from the lowest to the highest value of a stretch. Results are rounded and clipped to the source
dtype. Null stays as it is, and is no part of means and blurs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from rvbuild.learn.chips.valid import valid_of
from rvbuild.learn.hooks import Sample
from rvbuild.settings.normalize import NormalizeSettings

_REACH = 3
"""A blur reaches as many standard deviations."""


class Radiometry:
    """Changes values, relative to the value range of each band.

    Parameters
    ----------
    normalize
        The `normalize` entry of the model, with the range of values.
    bands
        Of the chips.
    """

    def __init__(self, normalize: NormalizeSettings, bands: int) -> None:
        self._lows, self._spans = _ranges(normalize, bands)

    def brightness(self, sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
        """Return a sample with an offset to each band."""
        offsets = self._spans * args["offset"] * _draw(rng, len(self._spans), args["per_band"])
        return replace(sample, image=_linear(sample.image, np.ones_like(offsets), offsets))

    def contrast(self, sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
        """Return a sample whose values are farther from the mean of their band, or nearer."""
        gains = 1.0 + args["gain"] * _draw(rng, len(self._spans), args["per_band"])
        return replace(sample, image=_linear(sample.image, gains, _means(sample) * (1.0 - gains)))

    def gamma(self, sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
        """Return a sample whose values, from 0 to 1 of their range, are raised to a power."""
        powers = np.exp(math.log1p(args["gamma"]) * _draw(rng, len(self._spans), args["per_band"]))
        lows, spans = self._lows[:, None], self._spans[:, None]

        def curve(values: np.ndarray) -> np.ndarray:
            """Return `(C, n)` values after the change."""
            shares = np.clip((values - lows) / spans, 0, 1)
            return np.asarray(lows + spans * shares ** powers[:, None])

        if sample.image.dtype == np.uint8:
            tables = as_dtype(curve(np.broadcast_to(np.arange(256.0), (len(powers), 256))), np.dtype(np.uint8))
            return replace(sample, image=_by_table(sample.image, tables))
        flat = sample.image.reshape(len(powers), -1).astype(np.float64)
        image = as_dtype(curve(flat).reshape(sample.image.shape), sample.image.dtype)
        return replace(sample, image=np.where(valid_of(sample), image, sample.image))

    def blur(self, sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
        """Return a blurred sample; each value is a weighted mean of the data around it."""
        if rng.random() >= args["probability"]:
            return sample
        sigma = rng.uniform(0, args["sigma_px"])
        valid, work = valid_of(sample), _work_type(sample.image.dtype)
        values, weights = np.where(valid, sample.image, 0).astype(work), valid.astype(work)
        for axis in (1, 2):
            values, weights = _blurred(values, sigma, axis), _blurred(weights, sigma, axis)
        # Every value that is data has at least its own weight.
        image = as_dtype(values / np.where(valid, weights, 1), sample.image.dtype)
        return replace(sample, image=np.where(valid, image, sample.image))

    def noise(self, sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
        """Return a sample with noise."""
        if rng.random() >= args["probability"]:
            return sample
        work = _work_type(sample.image.dtype)
        deviations = (self._spans * rng.uniform(0, args["std"])).astype(work)[:, None, None]
        image: np.ndarray = rng.standard_normal(sample.image.shape, dtype=work)
        image = sample.image + image * deviations
        return replace(sample, image=np.where(valid_of(sample), as_dtype(image, sample.image.dtype), sample.image))


def band_drop(sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
    """Return a sample without some of its bands, which become null."""
    bands = len(sample.image)
    dropped = rng.random(bands) < args["probability"]
    kept = int(rng.integers(bands))
    if dropped.all():
        dropped[kept] = False
    if not dropped.any():
        return sample
    return replace(sample, valid=valid_of(sample) & ~dropped[:, None, None])


def saturation(sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
    """Return a sample whose colours are stronger, or weaker."""
    from torchvision.transforms.v2 import functional  # it is slow to import, and seldom wanted

    factor = 1.0 + rng.uniform(-args["factor"], args["factor"])
    return replace(sample, image=functional.adjust_saturation(as_tensor(sample.image), factor).numpy())


def hue(sample: Sample, rng: np.random.Generator, args: Mapping[str, float]) -> Sample:
    """Return a sample whose colours are shifted on the colour circle."""
    from torchvision.transforms.v2 import functional

    shift = rng.uniform(-args["shift"], args["shift"])
    return replace(sample, image=functional.adjust_hue(as_tensor(sample.image), shift).numpy())


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a copy as a tensor: shards are mapped read-only, and views may have negative strides."""
    return torch.from_numpy(np.array(array, order="C"))


def as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return values in a dtype, rounded and clipped to its range if it has one."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)


def _ranges(normalize: NormalizeSettings, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest value of each band, and the range of its values, `(C,)` float64."""
    if normalize["kind"] == "scale":
        return np.zeros(bands), np.full(bands, float(normalize["max"]))
    if normalize["kind"] == "linear":
        low = np.asarray(normalize["low"], dtype=np.float64)
        return low, np.asarray(normalize["high"], dtype=np.float64) - low
    spans = 2.0 * float(normalize["max_stds"]) * np.asarray(normalize["std"], dtype=np.float64)
    return np.asarray(normalize["mean"], dtype=np.float64) - spans / 2, spans


def _draw(rng: np.random.Generator, bands: int, per_band: float) -> np.ndarray:
    """Return a number in [-1, 1] per band, a part of it drawn for each alone."""
    common, own = rng.uniform(-1, 1), rng.uniform(-1, 1, size=bands)
    return (1 - per_band) * common + per_band * np.asarray(own)


def _means(sample: Sample) -> np.ndarray:
    """Return the mean of the valid values of each band, `(C,)` float64; 0 of a band without any."""
    if sample.valid is None:
        return np.asarray(np.nan_to_num(sample.image.mean(axis=(1, 2), dtype=np.float64)))
    total = np.sum(sample.image, axis=(1, 2), dtype=np.float64, where=sample.valid)
    return np.asarray(total / np.maximum(sample.valid.sum(axis=(1, 2)), 1))


def _linear(image: np.ndarray, gains: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return `image * gains + offsets` per band, rounded and clipped to the dtype of `image`."""
    if image.dtype == np.uint8:
        values = np.arange(256, dtype=np.float64)
        return _by_table(image, as_dtype(values * gains[:, None] + offsets[:, None], image.dtype))
    work = _work_type(image.dtype)
    return as_dtype(image * gains[:, None, None].astype(work) + offsets[:, None, None].astype(work), image.dtype)


def _by_table(image: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Return each value of a uint8 image looked up in the table of its band, `(C, 256)`."""
    return np.stack([table[band] for table, band in zip(tables, image, strict=True)])


def _work_type(dtype: np.dtype) -> type[np.float32] | type[np.float64]:
    """Return the type to compute in for values of a type."""
    return np.float32 if dtype.itemsize <= 2 or dtype == np.float32 else np.float64


def _blurred(values: np.ndarray, sigma: float, axis: int) -> np.ndarray:
    """Return `(C, H, W)` with the weighted sum of neighbours along an axis; beyond the edges there are none."""
    length = values.shape[axis]
    reach = min(math.ceil(_REACH * sigma), length - 1)
    result = values.copy()  # the weights are relative to that of the middle
    for distance in range(1, reach + 1):
        weight = values.dtype.type(math.exp(-0.5 * (distance / sigma) ** 2))
        before, after = [slice(None)] * 3, [slice(None)] * 3
        before[axis], after[axis] = slice(None, length - distance), slice(distance, None)
        result[tuple(before)] += weight * values[tuple(after)]
        result[tuple(after)] += weight * values[tuple(before)]
    return result
