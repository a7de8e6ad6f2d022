from __future__ import annotations

import numpy as np
import pytest
import torch

from rvbuild.geo.raster.resample import resample


def all_valid(image: np.ndarray) -> np.ndarray:
    return np.ones(image.shape, dtype=bool)


@pytest.mark.parametrize(("old", "new"), [(7, 12), (12, 7), (16, 16), (5, 20), (1, 4), (4, 1)])
def test_is_bilinear_as_torch_has_it(old: int, new: int) -> None:
    image = np.random.default_rng(old).random((3, old, old))
    resampled, valid = resample(image, all_valid(image), new)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None], size=(new, new), mode="bilinear", align_corners=False
    )[0].numpy()
    assert resampled.dtype == np.float64
    assert valid.all()
    np.testing.assert_allclose(resampled, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_keeps_the_dtype_and_the_range(dtype: str) -> None:
    image = np.random.default_rng(1).integers(0, 255, (2, 9, 9)).astype(dtype)
    resampled, _ = resample(image, all_valid(image), 14)
    assert resampled.dtype == dtype
    assert image.min() <= resampled.min() <= resampled.max() <= image.max()


def test_integers_are_rounded() -> None:
    image = np.array([[[0, 3]]], dtype=np.uint8).repeat(2, axis=1)
    assert resample(image, all_valid(image), 4)[0][0, 0].tolist() == [0, 1, 2, 3]


def test_what_rests_on_invalid_values_is_invalid() -> None:
    image = np.full((1, 8, 8), 100, dtype=np.float32)
    valid = all_valid(image)
    valid[0, 3, 4] = False
    image[0, 3, 4] = np.nan
    resampled, known = resample(image, valid, 16)
    assert not known[0, 6:8, 8:10].any()
    assert (resampled[0, known[0]] == 100).all()
    assert (resampled[0, ~known[0]] == 0).all()
    assert known.sum() == 16 * 16 - 16


def test_the_same_size_changes_nothing() -> None:
    image = np.random.default_rng(1).integers(0, 255, (2, 9, 9)).astype(np.uint8)
    valid = np.random.default_rng(2).random(image.shape) > 0.3
    resampled, known = resample(image, valid, 9)
    assert (known == valid).all()
    assert (resampled == np.where(valid, image, 0)).all()


def test_no_mask_means_that_all_is_valid() -> None:
    image = np.random.default_rng(1).integers(0, 255, (2, 9, 9)).astype(np.uint8)
    resampled, known = resample(image, None, 14)
    assert known is None
    np.testing.assert_array_equal(resampled, resample(image, all_valid(image), 14)[0])
