from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rvbuild.errors import DataError
from rvbuild.geo.raster.stats import BandCounter
from rvbuild.learn.normalize import Normalizer, from_stats, standardized
from tests.learn.chipmaker import stats_of


def normalizer(**normalize):
    return Normalizer(SimpleNamespace(normalize=normalize))


def test_scale():
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    normalized = normalizer(kind="scale", max=255)(images)
    assert normalized.dtype == torch.float32 and normalized.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(normalized.numpy(), images.astype(np.float32) / 255)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "uint32", "float32", "float64"])
def test_zscore_is_clipped_to_one(dtype):
    images = np.random.default_rng(0).integers(0, 30000, (2, 2, 8, 8)).astype(dtype)
    mean, std = [9000.0, 15000.0], [2500.0, 8000.0]
    normalized = normalizer(kind="zscore", mean=mean, std=std, max_stds=2.0)(images).numpy()
    z = (images - np.reshape(mean, (1, 2, 1, 1))) / np.reshape(std, (1, 2, 1, 1))
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized, np.clip(z, -2, 2) / 2, atol=1e-6)
    assert normalized.min() == -1 and normalized.max() == 1


def test_wide_values_keep_their_differences():
    images = np.array([1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3]).reshape(1, 1, 2, 2)
    normalized = normalizer(kind="zscore", mean=[1e9 + 1.5], std=[1.0], max_stds=3.0)(images).numpy().ravel()
    np.testing.assert_allclose(normalized, np.array([-1.5, -0.5, 0.5, 1.5]) / 3, atol=1e-6)


def test_invalid_pixels_become_zero():
    images = np.full((2, 2, 2, 2), 7.0, np.float32)
    images[0, 1, 0, 0] = np.nan
    make = normalizer(kind="zscore", mean=[3.0, 3.0], std=[2.0, 2.0], max_stds=4.0)
    assert make(images)[0, 1, 0, 0] == 0 and make(images).sum() == pytest.approx(15 * 0.5)
    per_band = np.ones(images.shape, dtype=bool)
    per_band[1, 0] = False
    assert make(images, per_band).sum() == pytest.approx(11 * 0.5)
    assert make(images, per_band[:, 0]).sum() == pytest.approx((15 - 8) * 0.5)


def test_the_raw_batch_is_not_changed():
    images = np.full((1, 1, 2, 2), 7.0, np.float32)
    images.flags.writeable = False
    normalizer(kind="zscore", mean=[3.0], std=[2.0], max_stds=4.0)(images)
    assert (images == 7).all()
    raw = torch.full((1, 1, 2, 2), 7.0).to(memory_format=torch.channels_last)
    normalizer(kind="zscore", mean=[3.0], std=[2.0], max_stds=4.0)(raw)
    assert (raw == 7).all()


def test_choice_by_dtype():
    images = np.random.default_rng(0).integers(0, 999, (3, 2, 8, 8)).astype(np.uint16)
    assert from_stats({}, "uint8", 3, 3.0) == {"kind": "scale", "max": 255}
    chosen = from_stats(stats_of(images), "uint16", 2, 2.5)
    assert chosen["kind"] == "zscore" and chosen["max_stds"] == 2.5
    assert chosen["std"][1] == pytest.approx(images[:, 1].std())


def test_statistics_that_do_not_fit():
    stats = {"dtype": "uint16", "bands": [{"mean": 1.0, "std": 1.0}, {"mean": 5.0, "std": 0.0}]}
    with pytest.raises(DataError, match=r"band 1 of the training imagery cannot be normalised: mean 5.0"):
        from_stats(stats, "uint16", 2, 3.0)
    with pytest.raises(DataError, match="statistics have 2 bands, the training chips 3"):
        from_stats(stats, "uint16", 3, 3.0)
    with pytest.raises(DataError, match="statistics are of uint16 imagery, the training chips are float32"):
        from_stats(stats, "float32", 2, 3.0)
    with pytest.raises(DataError, match='expected "scale", "zscore", "stats" or "linear", found'):
        normalizer(kind="other")


def bands_of(*bands):
    """Return a stats.json of some bands' values."""
    counters = []
    for values in bands:
        counter = BandCounter(values.dtype)
        counter.add(values)
        counters.append(counter.result().to_json())
    return {"bands": counters, "dtype": str(bands[0].dtype)}


def test_stats_is_the_reference_formula():
    rng = np.random.default_rng(0)
    values = [rng.normal(900, 300, 5000).clip(0).astype(np.uint16), rng.integers(0, 60000, 5000).astype(np.uint16)]
    settings = from_stats(bands_of(*values), "uint16", 2, 3.0, {"kind": "stats", "max_stds": 2.0})
    assert settings["max_stds"] == 2.0
    images = np.stack(values).reshape(1, 2, 50, 100)
    normalized = normalizer(**settings)(images).numpy()
    for band, raw in enumerate(values):
        z = np.clip((raw - raw.mean()) / raw.std(), -2, 2)
        expected = ((z + 2) / 4 * 255).astype(np.uint8)
        np.testing.assert_array_equal(np.rint(normalized[0, band].ravel() * 255).astype(np.uint8), expected)
    assert normalized.min() == 0 and normalized.max() == 1


def test_stats_on_8_bit_imagery_is_not_ignored():
    values = np.arange(100, 140, dtype=np.uint8)
    settings = from_stats(bands_of(values), "uint8", 1, 3.0, {"kind": "stats", "max_stds": 3.0})
    assert settings["kind"] == "stats" and settings["mean"] == [pytest.approx(119.5)]


def test_min_max_and_percentiles_stretch():
    values = np.arange(1000, 2000, dtype=np.uint16)
    settings = from_stats(bands_of(values, values * 2), "uint16", 2, 3.0, {"kind": "min_max"})
    assert settings == {"kind": "linear", "low": [1000.0, 2000.0], "high": [1999.0, 3998.0]}
    images = np.array([[0, 1000, 1999, 65535], [2000, 2999, 3998, 1]], np.uint16).reshape(1, 2, 1, 4)
    normalized = normalizer(**settings)(images).numpy()
    np.testing.assert_allclose(normalized.reshape(2, 4), [[0, 0, 1, 1], [0, 0.5, 1, 0]], atol=1e-6)
    settings = from_stats(bands_of(values), "uint16", 1, 3.0, {"kind": "percentile", "low": 10.0, "high": 75.0})
    assert settings["low"] == [pytest.approx(1100, abs=2)] and settings["high"] == [pytest.approx(1750, abs=2)]


def test_bands_without_a_range_are_refused():
    constant, most = np.full(100, 7, np.uint16), np.array([3] * 99 + [9], np.uint8)
    with pytest.raises(DataError, match=r"band 0 .* cannot be stretched by min_max: its lowest value is 2, and its"):
        from_stats(bands_of(constant // 3, constant), "uint16", 2, 3.0, {"kind": "min_max"})
    with pytest.raises(DataError, match=r"by percentile: percentile 2 is 3, and percentile 98 is also 3"):
        from_stats(bands_of(most), "uint8", 1, 3.0, {"kind": "percentile", "low": 2.0, "high": 98.0})
    with pytest.raises(DataError, match="every valid pixel has the same value"):
        from_stats(bands_of(constant), "uint16", 1, 3.0, {"kind": "stats", "max_stds": 3.0})


STATS4 = {
    "dtype": "uint8",
    "bands": [{"mean": mean, "std": std} for mean, std in ((100.0, 40.0), (90.0, 30.0), (80.0, 20.0), (51.0, 25.5))],
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_what_pretrained_weights_expect():
    """The figure of torchvision's own transforms, of 8-bit images."""
    from torchvision.transforms.v2 import functional

    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8)).astype(np.uint8)
    settings = standardized(from_stats({}, "uint8", 3, 3.0), *IMAGENET, {}, 3)
    theirs = functional.normalize(torch.from_numpy(images).float() / 255, *map(list, IMAGENET))
    torch.testing.assert_close(normalizer(**settings)(images), theirs, atol=1e-6, rtol=1e-6)
    valid = np.ones((2, 8, 8), bool)
    valid[:, 0] = False
    assert (normalizer(**settings)(images, valid)[:, :, 0] == 0).all()


def test_further_bands_have_the_statistics_of_the_imagery_and_fewer_the_first_figures():
    settings = standardized(from_stats({}, "uint8", 4, 3.0), *IMAGENET, STATS4, 4)
    assert settings["standard"] == {"mean": [*IMAGENET[0], 0.2], "std": [*IMAGENET[1], 0.1]}
    assert standardized({"kind": "scale", "max": 255}, *IMAGENET, {}, 2)["standard"]["mean"] == [0.485, 0.456]
    # Whatever makes 0 to 1 of values, the further band comes out with mean 0 and deviation 1.
    for settings in (
        {"kind": "linear", "low": [0.0, 0, 0, 26.0], "high": [1.0, 1, 1, 76.0]},
        {"kind": "stats", "mean": [0.0, 0, 0, 51.0], "std": [1.0, 1, 1, 25.5], "max_stds": 3.0},
        {"kind": "scale", "max": 255},
    ):
        full = standardized(settings, *IMAGENET, STATS4, 4)
        image = np.full((1, 4, 1, 2), 51.0, np.float32)
        image[..., 1] = 51.0 + 25.5 / 2
        normalized = normalizer(**full)(image)[0, 3, 0].numpy()
        np.testing.assert_allclose(normalized, [0.0, 0.5], atol=0.02)  # of "stats" in steps of a 255th


def test_values_without_a_range_cannot_have_figures_of_0_to_1():
    settings = {"kind": "zscore", "mean": [1.0] * 3, "std": [1.0] * 3, "max_stds": 3.0}
    with pytest.raises(DataError, match=r"train.normalize: applies to values from 0 to 1"):
        standardized(settings, *IMAGENET, {}, 3)
    flat = {**STATS4, "bands": [*STATS4["bands"][:3], {"mean": 5.0, "std": 0.0}]}
    with pytest.raises(DataError, match="band 3 of the training imagery cannot be normalised"):
        standardized({"kind": "scale", "max": 255}, *IMAGENET, flat, 4)
