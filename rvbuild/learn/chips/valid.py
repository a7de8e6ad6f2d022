"""Which values of a chip are data."""

from __future__ import annotations

import numpy as np

from rvbuild.learn.hooks import Sample


def valid_of(sample: Sample) -> np.ndarray:
    """Return which values of a sample are data, `(C, H, W)` bool; NaN never is."""
    valid = np.ones(sample.image.shape, dtype=bool) if sample.valid is None else sample.valid
    if sample.image.dtype.kind == "f":
        return np.asarray(valid & ~np.isnan(sample.image))
    return valid
