"""Random changes of training chips, the same for the same (seed, epoch, chip) in any process.

* `flip`: mirrored left to right, and top to bottom, each with probability 1/2.
* `rotate90`: turned by 0, 1, 2 or 3 quarter turns. Both are views: nothing is computed, the batch copies turned pixels.
* `brightness`: every value plus an offset of up to ±10 % of the value range, a fifth of it drawn for each band alone.
* `contrast`: each band's distance from the mean of its valid values times a gain of up to 1 ± 0.2, a fifth of it drawn
  for each band alone.
* `saturation`, `hue`: factor 1 ± 0.3, and shift ± 0.05 of the colour circle; for three-band uint8 imagery only, slow.
* `package.module:function`: called as `function(sample, rng)`, with `{"image": (C, H, W) tensor in the source dtype,
  "labels": ...}` (the task's targets) and a numpy Generator; returns the changed sample of the same shapes and dtypes.

The value range is what normalisation spreads over its own: 255 for uint8, twice `max_stds` standard deviations of the
band for z-scores, or from the lowest to the highest value of a stretch. Results are rounded and
clipped to the source dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rvbuild.errors import ModelError, RvbuildError, nearest
from rvbuild.language.user_code import load_object
from rvbuild.learn.device import seed_cpu
from rvbuild.learn.hooks import Sample, TargetOps
from rvbuild.settings.normalize import NormalizeSettings

GEOMETRIC = ("flip", "rotate90")
RADIOMETRIC = ("brightness", "contrast")
COLOUR = ("saturation", "hue")
NAMES = (*GEOMETRIC, *RADIOMETRIC, *COLOUR)

OFFSET = 0.1
GAIN = 0.2
BAND_SHARE = 0.2
SATURATION = 0.3
HUE = 0.05


class Augmenter:
    """Applies augmentations in the order of their names.

    Parameters
    ----------
    names
        `train.augment`.
    normalize
        The `normalize` entry of the model, with the range of values.
    dtype
        Of the chips, for example `"uint8"`.
    bands
        Of the chips.
    ops
        How the task's targets are turned.
    """

    def __init__(
        self, names: Sequence[str], normalize: NormalizeSettings, dtype: str, bands: int, ops: TargetOps
    ) -> None:
        self._arguments = (tuple(names), normalize, dtype, bands, ops)
        self._ops = ops
        self._spans = _spans(normalize, bands)
        self._steps = [self._step(name, dtype, bands) for name in names]
        self.own_code = any(":" in name for name in names)
        """Whether user functions are called, which may draw from global random generators."""

    def __reduce__(self) -> tuple[Any, ...]:
        # User functions are imported again in a loader process.
        return (Augmenter, self._arguments)

    def __call__(self, sample: Sample, seed: Sequence[int]) -> Sample:
        """Return a changed sample; `seed` decides everything."""
        rng = np.random.default_rng(list(seed))
        if self.own_code:
            seed_cpu(int(rng.integers(2**63)))
        for step in self._steps:
            sample = step(sample, rng)
        return sample

    def _step(self, name: str, dtype: str, bands: int) -> Callable[[Sample, np.random.Generator], Sample]:
        if ":" in name:
            function = load_object(name, "train.augment")
            return lambda sample, rng: _own(function, name, sample, rng)
        if name in COLOUR and (dtype != "uint8" or bands != 3):
            raise ModelError(
                f'train.augment: "{name}" needs uint8 imagery of three bands (red, green, blue), found {bands} bands '
                f'of {dtype}; "brightness" and "contrast" work for any imagery'
            )
        steps = {
            "flip": self._flip,
            "rotate90": self._rotate90,
            "brightness": self._brightness,
            "contrast": self._contrast,
            "saturation": _saturation,
            "hue": _hue,
        }
        if name not in steps:
            raise ModelError(
                f'train.augment: there is no augmentation "{name}"{nearest(name, NAMES)}; expected {", ".join(NAMES)}, '
                f'or "package.module:function"'
            )
        return steps[name]

    def _flip(self, sample: Sample, rng: np.random.Generator) -> Sample:
        mirror, upside_down = (bool(bit) for bit in rng.integers(2, size=2))
        # Top to bottom is left to right, turned by half.
        return self._orient(sample, mirror != upside_down, 2 if upside_down else 0)

    def _rotate90(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self._orient(sample, False, int(rng.integers(4)))

    def _orient(self, sample: Sample, mirror: bool, quarter_turns: int) -> Sample:
        if not mirror and not quarter_turns:
            return sample
        return Sample(
            image=orient(sample.image, mirror, quarter_turns),
            valid=None if sample.valid is None else orient(sample.valid, mirror, quarter_turns),
            target=self._ops.orient(sample.target, mirror, quarter_turns, sample.image.shape[-1]),
        )

    def _brightness(self, sample: Sample, rng: np.random.Generator) -> Sample:
        offsets = self._spans * OFFSET * _draw(rng, len(self._spans))
        return replace(sample, image=_linear(sample.image, np.ones_like(offsets), offsets))

    def _contrast(self, sample: Sample, rng: np.random.Generator) -> Sample:
        gains = 1.0 + GAIN * _draw(rng, len(self._spans))
        return replace(sample, image=_linear(sample.image, gains, _means(sample) * (1.0 - gains)))


def orient(array: np.ndarray, mirror: bool, quarter_turns: int) -> np.ndarray:
    """Return a view of `(..., H, W)`, mirrored left to right (or not), then turned counter-clockwise."""
    view = array[..., ::-1] if mirror else array
    turned: np.ndarray = np.rot90(view, quarter_turns, axes=(-2, -1))
    return turned


def _spans(normalize: NormalizeSettings, bands: int) -> np.ndarray:
    """Return the range of values of each band, `(C,)` float64."""
    if normalize["kind"] == "scale":
        return np.full(bands, float(normalize["max"]))
    if normalize["kind"] == "linear":
        return np.asarray(normalize["high"], dtype=np.float64) - np.asarray(normalize["low"], dtype=np.float64)
    return 2.0 * float(normalize["max_stds"]) * np.asarray(normalize["std"], dtype=np.float64)


def _draw(rng: np.random.Generator, bands: int) -> np.ndarray:
    """Return a number in [-1, 1] per band, most of it common to all."""
    common, own = rng.uniform(-1, 1), rng.uniform(-1, 1, size=bands)
    return (1 - BAND_SHARE) * common + BAND_SHARE * np.asarray(own)


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
        tables = np.clip(np.rint(values * gains[:, None] + offsets[:, None]), 0, 255).astype(np.uint8)
        return np.stack([table[band] for table, band in zip(tables, image, strict=True)])
    work = np.float32 if image.dtype.itemsize <= 2 or image.dtype == np.float32 else np.float64
    changed: np.ndarray = image * gains[:, None, None].astype(work) + offsets[:, None, None].astype(work)
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        changed = np.clip(np.rint(changed), limits.min, limits.max)
    return changed.astype(image.dtype)


def _saturation(sample: Sample, rng: np.random.Generator) -> Sample:
    from torchvision.transforms.v2 import functional  # it is slow to import, and seldom wanted

    factor = 1.0 + rng.uniform(-SATURATION, SATURATION)
    return replace(sample, image=functional.adjust_saturation(_tensor(sample.image), factor).numpy())


def _hue(sample: Sample, rng: np.random.Generator) -> Sample:
    from torchvision.transforms.v2 import functional

    shift = rng.uniform(-HUE, HUE)
    return replace(sample, image=functional.adjust_hue(_tensor(sample.image), shift).numpy())


def _own(function: Callable[..., Any], name: str, sample: Sample, rng: np.random.Generator) -> Sample:
    given = {"image": sample.image, **sample.target}
    try:
        result = function({key: _tensor(value) for key, value in given.items()}, rng)
    except RvbuildError:
        raise
    except Exception as error:
        raise ModelError(f'train.augment: "{name}" failed: {type(error).__name__}: {error}') from error
    if not isinstance(result, dict) or set(result) != set(given):
        raise ModelError(f'train.augment: "{name}" must return a dict with {", ".join(given)}; found {result!r:.200}')
    arrays = {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in result.items()}
    image, before = arrays.pop("image"), sample.image
    if image.dtype != before.dtype or image.shape != before.shape:
        raise ModelError(
            f'train.augment: "{name}" must keep the image {before.dtype} {before.shape}; found {image.dtype} '
            f"{image.shape}"
        )
    return replace(sample, image=image, target=arrays)


def _tensor(array: np.ndarray) -> torch.Tensor:
    # A copy: shards are mapped read-only, and views may have negative strides.
    return torch.from_numpy(np.array(array, order="C"))
