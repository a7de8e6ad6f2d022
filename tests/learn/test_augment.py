import numpy as np
import pytest
import torch

from rvbuild.errors import ModelError
from rvbuild.learn.chips.augment import Augmenter
from rvbuild.learn.chips.geometry import orient
from rvbuild.learn.hooks import Sample
from tests.learn.chipmaker import OPS, chip_arrays

SCALE = {"kind": "scale", "max": 255}


def sample(**changes):
    images, labels = chip_arrays(1, **changes)
    return Sample(images[0], images[0] > images[0].mean(), {"labels": labels[0]})


def augmenter(*names, dtype="uint8", bands=3, normalize=SCALE):
    return Augmenter(names, normalize, dtype, bands, OPS)


def seen(make, count=64, **changes):
    original = sample(**changes)
    return original, [make(original, (0, 1, n)) for n in range(count)]


def test_the_same_seed_gives_the_same_sample():
    make = augmenter("flip", "rotate90", "brightness", "contrast")
    original = sample()
    assert np.array_equal(make(original, (1, 2, 3)).image, make(original, (1, 2, 3)).image)
    assert not np.array_equal(make(original, (1, 2, 3)).image, make(original, (1, 2, 4)).image)


@pytest.mark.parametrize(("names", "count"), [(["flip"], 4), (["rotate90"], 4), (["flip", "rotate90"], 8)])
def test_orientations_reach_all_of_their_group(names, count):
    original, augmented = seen(augmenter(*names))
    assert len({made.image.tobytes() for made in augmented}) == count
    assert original.image.tobytes() in {made.image.tobytes() for made in augmented}
    for made in augmented:
        # Image, mask and labels stay together.
        assert np.array_equal(made.valid, made.image > original.image.mean())
        assert np.corrcoef(made.image.mean(axis=0).ravel(), made.target["labels"].ravel())[0, 1] > 0.9


def test_orient_is_a_view_that_turns_counter_clockwise():
    array = np.arange(6).reshape(2, 3)
    assert np.array_equal(orient(array, False, 1), np.rot90(array))
    assert np.array_equal(orient(array, True, 0), array[:, ::-1])
    assert np.shares_memory(orient(array, True, 3), array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_radiometry_for_any_bands_and_dtype(dtype, name):
    spread = {"uint8": 50.0, "uint16": 2000.0, "float32": 0.5}[dtype]
    normalize = (
        SCALE if dtype == "uint8" else {"kind": "zscore", "mean": [0.0] * 5, "std": [spread] * 5, "max_stds": 3.0}
    )
    original, augmented = seen(augmenter(name, dtype=dtype, bands=5, normalize=normalize), dtype=dtype, bands=5)
    span = 255 if dtype == "uint8" else 6 * spread
    changes = np.array(
        [
            made.image.mean(axis=(1, 2), dtype=float) - original.image.mean(axis=(1, 2), dtype=float)
            for made in augmented
        ]
    )
    assert all(made.image.dtype == dtype and made.image.shape == original.image.shape for made in augmented)
    assert len({tuple(change) for change in changes}) > 60 and np.ptp(changes, axis=1).max() > 0
    if name == "brightness":
        assert abs(changes).max() <= 0.1 * span + 1 and abs(changes).max() > 0.05 * span
    else:
        ratios = [made.image.std(dtype=float) / original.image.std(dtype=float) for made in augmented]
        assert 0.75 < min(ratios) < 0.95 and 1.05 < max(ratios) < 1.25


@pytest.mark.parametrize("hole", [0, np.nan])
def test_contrast_turns_around_the_mean_of_what_is_valid(hole):
    image = np.random.default_rng(0).normal(500, 20, (2, 16, 16)).astype(np.float32)
    valid = np.ones(image.shape, dtype=bool)
    valid[0, :, 4:] = valid[1] = False
    original = Sample(np.where(valid, image, np.float32(hole)), valid, {"labels": np.zeros((16, 16), np.uint8)})
    normalize = {"kind": "zscore", "mean": [500.0] * 2, "std": [20.0] * 2, "max_stds": 3.0}
    make = augmenter("contrast", dtype="float32", bands=2, normalize=normalize)
    kept = image[0, :, :4]
    for n in range(16):
        changed = make(original, (n,)).image[0, :, :4]
        assert changed.mean() == pytest.approx(kept.mean(), rel=1e-4)
        assert changed.std() != pytest.approx(kept.std(), rel=1e-4)


def test_integers_are_clipped_not_wrapped():
    original = Sample(np.array([[[0, 255]]], np.uint8).repeat(3, axis=0), None, {"labels": np.zeros((1, 2), np.uint8)})
    make = augmenter("brightness", "contrast")
    for n in range(64):
        low, high = make(original, (n,)).image[0, 0]
        assert low < 100 < high


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_colour_jitter(name):
    original, augmented = seen(augmenter(name), count=8)
    assert len({made.image.tobytes() for made in augmented}) > 4
    assert all(made.image.dtype == np.uint8 and made.image.shape == original.image.shape for made in augmented)
    with pytest.raises(ModelError, match=r"needs uint8 imagery of three bands .*found 4 bands of uint8"):
        augmenter(name, bands=4)


def test_unknown_name():
    with pytest.raises(ModelError, match='no augmentation "rotate"; did you mean "rotate90"'):
        augmenter("rotate")


def test_what_the_user_draws_leaves_the_generators_of_gpus_alone(tmp_path, monkeypatch):
    (tmp_path / "own_draw.py").write_text(
        "import torch\n\ndef noise(sample, rng):\n"
        "    return {**sample, 'image': torch.randint_like(sample['image'], 9)}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    make, original = augmenter("own_draw:noise"), sample()
    # A loader's process has generators of its own: what this process draws on a GPU must be the same with and without.
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU was seeded"))
    assert np.array_equal(make(original, (0,)).image, make(original, (0,)).image)
    assert not np.array_equal(make(original, (0,)).image, make(original, (1,)).image)


def test_own_function_must_keep_shape_and_dtype(tmp_path, monkeypatch):
    (tmp_path / "own_augment.py").write_text(
        "def invert(sample, rng):\n    return {**sample, 'image': 255 - sample['image']}\n"
        "def halve(sample, rng):\n    return {**sample, 'image': sample['image'] / 2}\n"
        "def lose(sample, rng):\n    return {'image': sample['image']}\n"
        "def fail(sample, rng):\n    raise KeyError('x')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    original = sample()
    make = augmenter("flip", "own_augment:invert")
    assert make.own_code
    assert 255 - original.image.mean() == pytest.approx(make(original, (0,)).image.mean())
    with pytest.raises(ModelError, match=r"must keep the image uint8 .* found float32"):
        augmenter("own_augment:halve")(original, (0,))
    with pytest.raises(ModelError, match="must return a dict with image, labels"):
        augmenter("own_augment:lose")(original, (0,))
    with pytest.raises(ModelError, match='"own_augment:fail" failed: KeyError'):
        augmenter("own_augment:fail")(original, (0,))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_gamma_keeps_the_ends_of_the_range_and_the_order(dtype):
    span = {"uint8": 255.0, "uint16": 4000.0, "float32": 0.5}[dtype]
    normalize = SCALE if dtype == "uint8" else {"kind": "linear", "low": [0.0, 0.0], "high": [span, span]}
    ramp = np.linspace(0, span, 64).astype(dtype).reshape(1, 8, 8).repeat(2, axis=0)
    make = augmenter("gamma", dtype=dtype, bands=2, normalize=normalize)
    middles = []
    for n in range(40):
        image = make(Sample(ramp, None, {}), (n,)).image
        assert image.dtype == dtype and (np.diff(image.reshape(2, -1).astype(float), axis=1) >= 0).all()
        assert np.allclose(image[:, 0, 0], 0) and np.allclose(image[:, -1, -1], ramp[0, -1, -1])
        middles.append(image[:, 4, 0] / span)
    assert np.min(middles) < 0.47 and np.max(middles) > 0.53 and any(low != high for low, high in middles)


def always(*names, dtype="uint8", bands=3, normalize=SCALE, **args):
    return Augmenter(names, normalize, dtype, bands, OPS, {name: {"probability": 1.0, **args} for name in names})


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_a_blur_is_a_weighted_mean_of_data_alone(dtype):
    image, valid = np.full((1, 15, 15), 90, dtype=dtype), np.ones((1, 15, 15), dtype=bool)
    valid[0, 3:6, 3:6] = False
    image[~valid] = 7
    normalize = SCALE if dtype == "uint8" else {"kind": "linear", "low": [0.0], "high": [255.0]}
    make = always("blur", dtype=dtype, bands=1, normalize=normalize, sigma_px=3.0)
    for n in range(8):
        blurred = make(Sample(image, valid, {}), (n,))
        assert np.allclose(blurred.image[valid], 90, rtol=1e-5) and (blurred.image[~valid] == 7).all()
        assert blurred.image.dtype == dtype and blurred.valid is valid
    point = np.zeros((1, 15, 15), dtype="float32")
    point[0, 7, 7] = 100
    make = always("blur", dtype="float32", bands=1, normalize={"kind": "linear", "low": [0.0], "high": [1.0]})
    blurred = make(Sample(point, None, {}), (1,)).image[0]
    assert blurred.sum() == pytest.approx(100, rel=1e-4) and np.allclose(blurred, blurred.T, rtol=1e-4)
    # A Gaussian: the logarithms of the weights fall with the square of the distance.
    assert np.log(blurred[7, 9] / blurred[7, 7]) == pytest.approx(4 * np.log(blurred[7, 8] / blurred[7, 7]), rel=1e-3)


def test_noise_is_relative_to_the_range_and_spares_null():
    image, valid = np.full((2, 64, 64), 2000, np.uint16), np.ones((2, 64, 64), dtype=bool)
    valid[:, :8] = False
    normalize = {"kind": "linear", "low": [0.0, 0.0], "high": [1000.0, 4000.0]}
    make, ratios = always("noise", dtype="uint16", bands=2, normalize=normalize, std=0.1), []
    for n in range(20):
        noise = make(Sample(image, valid, {}), (n,)).image.astype(float) - 2000
        assert not noise[:, :8].any()
        spread = noise[:, 8:].std(axis=(1, 2))
        assert spread[0] < 103 and abs(np.corrcoef(noise[0, 8:].ravel(), noise[1, 8:].ravel())[0, 1]) < 0.1
        ratios.append(spread[1] / spread[0])
    assert np.allclose(ratios, 4, rtol=0.1)


def test_single_bands_are_dropped_but_never_all():
    original = sample(bands=4)
    make = Augmenter(["band_drop"], SCALE, "uint8", 4, OPS, {"band_drop": {"probability": 0.5}})
    dropped = []
    for n in range(200):
        made = make(original, (n,))
        assert np.array_equal(made.image, original.image)
        gone = ~made.valid.any(axis=(1, 2))
        assert np.array_equal(made.valid[~gone], original.valid[~gone])
        dropped.append(gone)
    share = np.mean(dropped, axis=0)
    assert not np.all(dropped, axis=1).any() and (share > 0.35).all() and (share < 0.6).all()
    with pytest.raises(ModelError, match='"band_drop" needs imagery of 2 bands or more, found 1 band'):
        augmenter("band_drop", bands=1)


def test_arguments_of_a_users_function(tmp_path, monkeypatch):
    (tmp_path / "own_arguments.py").write_text(
        "def add(sample, rng, amount):\n    return {**sample, 'image': sample['image'] * 0 + amount}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    make = Augmenter(["own_arguments:add"], SCALE, "uint8", 3, OPS, {"own_arguments:add": {"amount": 9}})
    assert (make(sample(), (0,)).image == 9).all()
    with pytest.raises(ModelError, match=r'"own_arguments:add" failed: TypeError: add\(\) missing'):
        augmenter("own_arguments:add")(sample(), (0,))
