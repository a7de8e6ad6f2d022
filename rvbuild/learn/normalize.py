"""Raw pixel values as the numbers that a model sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from rvbuild.errors import DataError
from rvbuild.learn.device import upload

# Whole numbers beyond 2^24 and doubles lose digits as float32: they are centred in float64 first.
_WIDE = {torch.int32, torch.uint32, torch.int64, torch.uint64, torch.float64}


class Normalized(Protocol):
    """What a normalizer needs to know of a model: `rvbuild.learn.checkpoint.ModelInfo` has it."""

    @property
    def normalize(self) -> Mapping[str, Any]:
        """`{"kind": "scale", "max": 255}` or `{"kind": "zscore", "mean": [...], "std": [...], "max_stds": 3.0}`."""


def from_stats(stats: Mapping[str, Any], dtype: str, bands: int, max_stds: float) -> dict[str, Any]:
    """Choose the normalisation for imagery: uint8 is scaled, everything else becomes z-scores.

    Parameters
    ----------
    stats
        A `stats.json`: per band of the chips `mean` and `std`, over all training scenes.
    dtype
        The dtype of the chips, for example `"uint16"`.
    bands
        How many bands the chips have.
    max_stds
        z-scores are clipped to this many standard deviations.

    Returns
    -------
    dict
        The `normalize` entry of a `model.json`.
    """
    if dtype == "uint8":
        return {"kind": "scale", "max": 255}
    found = stats["bands"]
    if len(found) != bands:
        raise DataError(
            f"the statistics have {len(found)} bands, the training chips {bands}; analyze and chip the same channels"
        )
    if str(stats.get("dtype", dtype)) != dtype:
        raise DataError(f"the statistics are of {stats['dtype']} imagery, the training chips are {dtype}")
    for band, values in enumerate(found):
        if not (math.isfinite(values["mean"]) and math.isfinite(values["std"]) and values["std"] > 0):
            raise DataError(
                f"band {band} of the training imagery cannot be normalised: mean {values['mean']}, standard deviation "
                f"{values['std']}; every valid pixel has the same value. Leave the band out with `channels`"
            )
    return {
        "kind": "zscore",
        "mean": [float(values["mean"]) for values in found],
        "std": [float(values["std"]) for values in found],
        "max_stds": float(max_stds),
    }


class Normalizer:
    """Turns raw batches into float32 model input.

    scale: `x / max`. zscore: `clip((x - mean) / std, -max_stds, max_stds) / max_stds`: the result is in [-1, 1].
    Pixels that are not valid, and NaN, become 0 after normalisation.
    """

    def __init__(self, info: Normalized) -> None:
        how = info.normalize
        self.kind = str(how["kind"])
        if self.kind == "scale":
            self._max = float(how["max"])
        elif self.kind == "zscore":
            self._mean = torch.tensor(how["mean"], dtype=torch.float64).view(1, -1, 1, 1)
            self._std = torch.tensor(how["std"], dtype=torch.float64).view(1, -1, 1, 1)
            self._max_stds = float(how["max_stds"])
        else:
            raise DataError(f'model.json: normalize.kind: expected "scale" or "zscore", found {self.kind!r}')

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
        work = torch.float64 if self.kind == "zscore" and raw.dtype in _WIDE else torch.float32
        out = torch.empty(raw.shape, dtype=work, device=device, memory_format=torch.channels_last)
        out.copy_(raw)
        if self.kind == "scale":
            out.div_(self._max)
        else:
            out.sub_(self._mean.to(device, work)).div_(self._std.to(device, work))
            out.clamp_(-self._max_stds, self._max_stds).div_(self._max_stds)
        out = out.to(torch.float32)
        if raw.dtype.is_floating_point:
            out.nan_to_num_(0.0)
        if valid is not None:
            mask = upload(_tensor(valid), device)
            out.masked_fill_(~(mask if mask.dim() == 4 else mask.unsqueeze(1)), 0.0)
        return out


def _tensor(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array
    contiguous = np.ascontiguousarray(array)
    # torch wants memory that it may write; read-only maps are copied.
    return torch.from_numpy(contiguous if contiguous.flags.writeable else contiguous.copy())
