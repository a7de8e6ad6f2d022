"""Raw pixel values as the numbers that a model sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch

from rvbuild.errors import DataError
from rvbuild.geo.raster.stats import BandFigures, BandStats, ImageFigures
from rvbuild.learn.device import upload
from rvbuild.settings.normalize import DeviationsNormalize, NormalizeSettings
from rvbuild.settings.transforms import StatisticsStep

# Whole numbers beyond 2^24 and doubles lose digits as float32: they are centred in float64 first.
_WIDE = {torch.int32, torch.uint32, torch.int64, torch.uint64, torch.float64}


class Normalized(Protocol):
    """The part of `rvbuild.learn.model_files.ModelInfo` that a normalizer needs."""

    @property
    def normalize(self) -> NormalizeSettings:
        """`{"kind": "scale", "max": 255}`, `{"kind": "zscore" | "stats", "mean": [...], "std": [...], "max_stds": 3.0}`
        or `{"kind": "linear", "low": [...], "high": [...]}`; all but the z-scores perhaps with
        `"standard": {"mean": [...], "std": [...]}`.
        """


def from_stats(
    stats: ImageFigures, dtype: str, bands: int, max_stds: float, stretch: StatisticsStep | None = None
) -> NormalizeSettings:
    """Choose the normalisation for imagery; by default, uint8 is scaled, and everything else becomes z-scores.

    Parameters
    ----------
    stats
        A `stats.json`: the statistics of each band of the chips, over all training scenes.
    dtype
        The dtype of the chips, for example `"uint16"`.
    bands
        How many bands the chips have.
    max_stds
        z-scores are clipped to this many standard deviations.
    stretch
        The transform that the project asks for, or None.

    Returns
    -------
    NormalizeSettings
        The `normalize` entry of a `model.json`.

    Raises
    ------
    DataError
        The statistics are not of such imagery, or a band has no range of values.
    """
    if stretch is None and dtype == "uint8":
        return {"kind": "scale", "max": 255}
    if len(stats["bands"]) != bands:
        raise DataError(
            f"the statistics have {len(stats['bands'])} bands, the training chips {bands}; use the same channels in "
            "both"
        )
    if str(stats.get("dtype", dtype)) != dtype:
        raise DataError(f"the statistics are of {stats['dtype']} imagery, the training chips are {dtype}")
    if stretch is None:
        return _deviations(stats["bands"], "zscore", max_stds)
    if stretch["kind"] == "stats":
        return _deviations(stats["bands"], "stats", stretch["max_stds"])
    by_band = [BandStats.from_json(band) for band in stats["bands"]]
    if stretch["kind"] == "min_max":
        low, high = [_extreme(band.min) for band in by_band], [_extreme(band.max) for band in by_band]
        range_text = "its lowest value is {low:g}, and its highest is also {high:g}"
    else:
        low = [_percentile(band, stretch["low"]) for band in by_band]
        high = [_percentile(band, stretch["high"]) for band in by_band]
        range_text = (
            f"percentile {stretch['low']:g} is {{low:g}}, and percentile {stretch['high']:g} is also {{high:g}}"
        )
    for band, (lowest, highest) in enumerate(zip(low, high, strict=True)):
        if not highest > lowest:
            raise DataError(
                f"image.transform: band {band} of the training imagery cannot be stretched by {stretch['kind']}: "
                f"{range_text.format(low=lowest, high=highest)}. Leave the band out with `channels`, or choose another "
                "transform"
            )
    return {"kind": "linear", "low": low, "high": high}


def standardized(
    normalize: NormalizeSettings,
    mean: Sequence[float],
    std: Sequence[float],
    stats: ImageFigures,
    bands: int,
) -> NormalizeSettings:
    """Return a normalisation to which the mean and the standard deviation that weights expect have been added.

    Parameters
    ----------
    normalize
        The result of `from_stats`.
    mean, std
        Of each band, of values from 0 to 1. Of more bands than there are, the first ones count. If there are fewer, the
        others have those of the training imagery: they are bands that the weights have never seen.
    stats
        A `stats.json`; it may have no bands if none is needed.
    bands
        How many bands the chips have.

    Raises
    ------
    DataError
        The imagery has no range that could be called 0 to 1, or a band has one value alone.
    """
    if normalize["kind"] == "zscore":
        raise DataError(
            "train.normalize: applies to values from 0 to 1, and only 8-bit imagery has a known range; scale it with "
            'image.transform = [{ kind = "min_max" }] or "percentile", or remove the key'
        )
    means, stds = [float(value) for value in mean[:bands]], [float(value) for value in std[:bands]]
    if len(means) < bands:
        if len(stats["bands"]) != bands:
            raise DataError(
                f"the statistics have {len(stats['bands'])} bands, the training chips {bands}; use the same "
                "channels in both"
            )
        own = _deviations(stats["bands"][len(means) :], "zscore", 1.0, first=len(means))
        low, span = _range(normalize, bands)
        for band, (center, spread) in enumerate(zip(own["mean"], own["std"], strict=True), start=len(means)):
            means.append((center - low[band]) / span[band])
            stds.append(spread / span[band])
    result = normalize.copy()
    result["standard"] = {"mean": means, "std": stds}
    return result


def _range(normalize: NormalizeSettings, bands: int) -> tuple[Sequence[float], Sequence[float]]:
    """Return the raw value that becomes 0, and the difference to the one that becomes 1, of each band."""
    if normalize["kind"] == "scale":
        return [0.0] * bands, [float(normalize["max"])] * bands
    if normalize["kind"] == "linear":
        return normalize["low"], [high - low for low, high in zip(normalize["low"], normalize["high"], strict=True)]
    spans = [2 * normalize["max_stds"] * std for std in normalize["std"]]
    return [mean - span / 2 for mean, span in zip(normalize["mean"], spans, strict=True)], spans


def _deviations(
    bands: Sequence[BandFigures], kind: Literal["zscore", "stats"], max_stds: float, first: int = 0
) -> DeviationsNormalize:
    for band, values in enumerate(bands, start=first):
        if not (math.isfinite(values["mean"]) and math.isfinite(values["std"]) and values["std"] > 0):
            raise DataError(
                f"band {band} of the training imagery cannot be normalised: mean {values['mean']}, standard deviation "
                f"{values['std']}; every valid pixel has the same value. Leave the band out with `channels`"
            )
    return {
        "kind": kind,
        "mean": [float(values["mean"]) for values in bands],
        "std": [float(values["std"]) for values in bands],
        "max_stds": float(max_stds),
    }


def _extreme(value: float | None) -> float:
    assert value is not None  # analyze refuses a band without valid pixels
    return float(value)


def _percentile(band: BandStats, percent: float) -> float:
    return band.histogram.quantile(percent / 100, _extreme(band.min), _extreme(band.max))


class Normalizer:
    """Turns raw batches into float32 model input.

    * scale: `x / max`.
    * zscore: `clip((x - mean) / std, -max_stds, max_stds) / max_stds`: the result is in [-1, 1].
    * stats: Raster Vision's StatsTransformer, whose chips are 8 bit: `z = clip((x - mean) / std, -max_stds, max_stds)`,
      `floor((z + max_stds) / (2 max_stds) * 255) / 255`: the result is in [0, 1].
    * linear: `clip((x - low) / (high - low), 0, 1)`.

    With `standard`, `(y - mean) / std` of each band follows, where y is what the above gives, from 0 to 1.

    Pixels that are not valid, and NaN, become 0 after normalisation.
    """

    def __init__(self, info: Normalized) -> None:
        normalize = info.normalize
        self.kind: str = normalize["kind"]
        if self.kind not in ("scale", "zscore", "stats", "linear"):
            raise DataError(
                f'model.json: normalize.kind: expected "scale", "zscore", "stats" or "linear", found {self.kind!r}'
            )
        if normalize["kind"] == "scale":
            self._max = float(normalize["max"])
        elif normalize["kind"] == "linear":
            self._shift = _per_band(normalize["low"])
            self._span = _per_band(normalize["high"]) - self._shift
        else:
            self._shift, self._span = _per_band(normalize["mean"]), _per_band(normalize["std"])
            self._max_stds = float(normalize["max_stds"])
        standard = normalize.get("standard")
        self._standard = None if standard is None else (_per_band(standard["mean"]), _per_band(standard["std"]))

    def __call__(
        self,
        images: np.ndarray | torch.Tensor,
        valid: np.ndarray | torch.Tensor | None = None,
        device: torch.device | None = None,
    ) -> torch.Tensor:
        """Normalise one batch.

        Parameters
        ----------
        images
            `(N, C, H, W)` in the source dtype. Raw values travel to the device: they are smaller than floats.
        valid
            `(N, C, H, W)` or `(N, H, W)` bool, False where there is no data; None: every pixel is valid.
        device
            Where the result is; default: the CPU.

        Returns
        -------
        torch.Tensor
            `(N, C, H, W)` float32, channels last in memory.
        """
        device = device or torch.device("cpu")
        raw = upload(_tensor(images), device)
        # Bands one after the other, as they come: values of one band in a row are three times as fast.
        out = self.steps(raw.to(self.work_type(raw.dtype), copy=True, memory_format=torch.contiguous_format))
        out = out.to(torch.float32)
        if raw.dtype.is_floating_point:
            out.nan_to_num_(0.0)
        if valid is not None and not valid.all():
            mask = upload(_tensor(valid), device)
            out.masked_fill_(~(mask if mask.dim() == 4 else mask.unsqueeze(1)), 0.0)
        return torch.empty_like(out, memory_format=torch.channels_last).copy_(out)

    def work_type(self, dtype: torch.dtype) -> torch.dtype:
        """Return the type to compute in for raw values of a type."""
        # The steps of "stats" lie where they lie in float64.
        wide = self.kind == "stats" or (self.kind != "scale" and dtype in _WIDE)
        return torch.float64 if wide else torch.float32

    def steps(self, out: torch.Tensor) -> torch.Tensor:
        """Normalise raw values of the type `work_type` in place, and return them; nothing is said of valid pixels."""
        device, work = out.device, out.dtype
        if self.kind == "scale":
            out.div_(self._max)
        else:
            out.sub_(self._shift.to(device, work)).div_(self._span.to(device, work))
            if self.kind == "linear":
                out.clamp_(0.0, 1.0)
            elif self.kind == "zscore":
                out.clamp_(-self._max_stds, self._max_stds).div_(self._max_stds)
            else:
                out.clamp_(-self._max_stds, self._max_stds).add_(self._max_stds).div_(2 * self._max_stds)
                out.mul_(255).floor_().div_(255)
        if self._standard is not None:
            mean, std = self._standard
            out.sub_(mean.to(device, work)).div_(std.to(device, work))
        return out


def _tensor(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array
    contiguous = np.ascontiguousarray(array)
    # torch wants memory that it may write; read-only maps are copied.
    return torch.from_numpy(contiguous if contiguous.flags.writeable else contiguous.copy())


def _per_band(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
