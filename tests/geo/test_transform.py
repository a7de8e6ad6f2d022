from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rvbuild.errors import DataError, ModelError
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster.file import Image, Mask
from rvbuild.geo.raster.layer import Layer
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.geo.raster.transform import Transformed
from rvbuild.geo.windows import Window
from tests.geo.conftest import UTM

Write = Callable[..., Path]

EXPRESSION = {"kind": "expression", "keep": True}


class Memory(Layer):
    """An image in memory, invalid where it is 99 or NaN."""

    def __init__(self, image: np.ndarray) -> None:
        grid = Grid(*image.shape[1:], transform=Affine.identity(), crs=UTM)
        names = [f"band {band}" for band in range(len(image))]
        super().__init__(grid, dtype=image.dtype, nodata=[99] * len(image), descriptions=names, files=[Path("m.tif")])
        self.image = image

    def read_raw(self, window: Window) -> tuple[Image, Mask]:
        shape = (self.count, window.height, window.width)
        image, valid = np.zeros(shape, self.dtype), np.zeros(shape, bool)
        part = window.clip(self.grid.height, self.grid.width)
        if part.height and part.width:
            to, of = part.slices_in(window), part.slices_in(self.grid.window)
            image[:, *to] = self.image[:, *of]
            valid[:, *to] = (self.image[:, *of] != 99) & ~np.isnan(self.image[:, *of].astype(float))
        return image, valid

    def cache_bytes(self, rows: int, cols: int) -> int:
        return 0

    def close(self) -> None:
        pass


def through(image: np.ndarray, *steps: dict[str, Any], window: Window | None = None) -> tuple[np.ndarray, np.ndarray]:
    source = Transformed(Memory(image), steps)
    pixels, valid = source.read(window or source.grid.window)
    assert (pixels.dtype, len(pixels)) == (source.dtype, source.count)
    return pixels, valid


def row(*values: float, dtype: Any) -> np.ndarray:
    return np.array(values, dtype=dtype).reshape(1, 1, -1)


@pytest.mark.parametrize(
    ("dtype", "to", "values", "expected"),
    [
        ("uint16", "uint8", [0, 7, 255, 256, 300, 65535], [0, 7, 255, 255, 255, 255]),
        ("int16", "uint8", [-5, -1, 0, 200], [0, 0, 0, 200]),
        ("uint8", "int8", [0, 127, 128, 255], [0, 127, 127, 127]),
        ("uint8", "float32", [0, 7], [0, 7]),
        ("int16", "uint32", [-5, 7], [0, 7]),
        ("float32", "uint8", [-3.7, -0.5, 0.99, 2.5, 254.9, 1e9], [0, 0, 0, 2, 254, 255]),
        ("float64", "int32", [-1e12, -2.5, 1e12], [-(2**31), -2, 2**31 - 1]),
        ("float64", "uint32", [-1, 4294967295.5, 1e300], [0, 2**32 - 1, 2**32 - 1]),
        ("float64", "float32", [1e300, -1e300, 0.5], [np.finfo("f4").max, -np.finfo("f4").max, 0.5]),
        ("float32", "float32", [1.5], [1.5]),
    ],
)
def test_cast_never_wraps(dtype: str, to: str, values: list[float], expected: list[float]) -> None:
    pixels, valid = through(row(*values, dtype=dtype), {"kind": "cast", "dtype": to})
    assert pixels.dtype == to and valid.all()
    np.testing.assert_array_equal(pixels, row(*expected, dtype=to))


def test_cast_leaves_what_is_no_data_alone() -> None:
    pixels, valid = through(row(np.nan, 99, 5.5, dtype="f4"), {"kind": "cast", "dtype": "uint8"})
    assert pixels.tolist() == [[[0, 0, 5]]] and valid.tolist() == [[[False, False, True]]]


def test_reclass_is_all_at_once() -> None:
    swap = {"kind": "reclass", "map": {"1": 2, "2": 1, "3": 0, "300": 7}}
    pixels, _ = through(row(0, 1, 2, 3, 4, dtype="uint8"), swap)
    assert pixels.tolist() == [[[0, 2, 1, 0, 4]]]
    with pytest.raises(DataError, match=r"m\.tif: transform\[1\] \(reclass\): 1 = 300: 300 cannot occur in uint8"):
        through(row(0, dtype="uint8"), swap, {"kind": "reclass", "map": {"1": 300}})


def test_nodata_and_nan_become_data() -> None:
    image = row(1, np.nan, 99, np.inf, dtype="f4")
    pixels, valid = through(image, {"kind": "nan", "value": -1.0})
    assert pixels.tolist() == [[[1, -1, 0, np.inf]]] and valid.tolist() == [[[True, True, False, True]]]
    pixels, valid = through(image, {"kind": "nodata", "value": 7.0})
    assert pixels.tolist() == [[[1, 7, 7, np.inf]]] and valid.all()
    with pytest.raises(DataError, match=r"\(nodata\): value: 256 cannot occur in uint8 pixels; cast first"):
        through(row(0, dtype="uint8"), {"kind": "nodata", "value": 256})
    with pytest.raises(DataError, match=r"\(nan\): has no effect: uint8 pixels are never NaN"):
        through(row(0, dtype="uint8"), {"kind": "nan", "value": 0})


def test_what_lies_outside_the_scene_stays_outside() -> None:
    pixels, valid = through(row(1, 99, dtype="uint8"), {"kind": "nodata", "value": 7}, window=Window(-1, 1, 2, 2))
    assert pixels.tolist() == [[[0, 0], [7, 0]]] and valid.tolist() == [[[False, False], [True, False]]]


def test_nan_of_files_reach_their_transformer(tmp_path: Path, write_raster: Write) -> None:
    image = np.ones((1, 4, 8), np.float32)
    image[0, 1, 2], image[0, 1, 6], image[0, 2, 2] = np.nan, np.nan, -9
    paths = [
        write_raster(
            tmp_path / f"{col}.tif",
            image[:, :, col : col + 4],
            nodata=-9,
            crs=UTM,
            transform=Affine(1, 0, col, 0, -1, 0),
        )
        for col in (0, 4)
    ]
    settings = {"image": {"nodata": None, "transform": [{"kind": "nan", "value": 5.0}]}, "channels": None}
    with open_scene_image(paths, settings) as source:
        pixels, valid = source.read(source.grid.window)
    image[np.isnan(image)], image[image == -9] = 5, 0
    np.testing.assert_array_equal(pixels, image)
    assert np.argwhere(~valid).tolist() == [[0, 2, 2]]


def test_expressions_append_or_replace_bands() -> None:
    image = np.array([[[10, 0, 99, 200]], [[30, 0, 5, 100]]], np.uint8)
    ndvi = [["ndvi", "(B2 - B1) / (B2 + B1)"]]
    pixels, valid = through(image, {**EXPRESSION, "bands": ndvi})
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[2, 0], [0.5, 0, 0, -1 / 3], rtol=1e-6)
    assert valid[2].tolist() == [[True, False, False, True]], "0 / 0 and nodata are no data"
    np.testing.assert_array_equal(valid[:2], image != 99)
    chain = [{"kind": "expression", "bands": ndvi, "keep": False}, {**EXPRESSION, "bands": [["high", "ndvi > 0"]]}]
    pixels, valid = through(image, *chain)
    assert pixels[1].tolist() == [[1, 0, 0, 0]] and valid[1].tolist() == [[True, False, False, True]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64"])
def test_expressions_have_the_precision_of_their_bands(dtype: str) -> None:
    source = Transformed(Memory(row(1, 2, dtype=dtype)), [{**EXPRESSION, "bands": [["a", "B1 + 1"]]}])
    assert source.dtype == (np.float64 if dtype in ("uint32", "float64") else np.float32)
    assert source.descriptions == ("band 0", "a")


@pytest.mark.parametrize(
    "text",
    [
        "log(0 * B1)",
        "sqrt(-B1 - 1)",
        "exp(B1 * 1e6 + 1e6)",
        "1e200 * (B1 + 1)",
        "(B1 + 1) / 0",
        "where(0 / (0 * B1), 1, 2)",
    ],
)
def test_what_is_no_finite_number_is_no_data(text: str) -> None:
    pixels, valid = through(row(1, 2, dtype="uint8"), {"kind": "expression", "keep": False, "bands": [["a", text]]})
    assert not valid.any() and not pixels.any()


def test_bands_that_do_not_exist_are_said() -> None:
    with pytest.raises(DataError, match=r'\(expression\): a = "B3 \+ B1": there is no band "B3"; known: B1'):
        through(row(1, dtype="uint8"), {**EXPRESSION, "bands": [["a", "B3 + B1"]]})


FUNCTIONS = """
import numpy as np

def double(image, valid, by=2):
    assert not image[~valid].any()
    return image.astype("uint16") * by

def pair(image, valid):
    return np.concatenate([image, image]).astype("float32") / 0, np.ones((2 * len(image), *image.shape[1:]), bool)

def total(image, valid):
    return image.sum(axis=0, keepdims=True)

def wrong(image, valid):
    return image[:, 1:]

def fails(image, valid):
    return image / None

def moody(image, valid):
    return image if image.shape[1] > 3 else image.astype("float32")

def text(image, valid):
    return image, "yes"
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_transforms.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)


def own(name: str, **args: Any) -> dict[str, Any]:
    return {"kind": "function", "function": f"own_transforms:{name}", "args": args}


@pytest.mark.usefixtures("functions")
def test_a_function_of_the_users() -> None:
    image = np.full((2, 4, 5), 100, np.uint8)
    image[0, 0, 0] = 99
    pixels, valid = through(image, own("double", by=3))
    assert pixels.dtype == np.uint16 and pixels.max() == 300
    np.testing.assert_array_equal(valid, image != 99)
    pixels, valid = through(image, own("total"))
    assert pixels.shape == (1, 4, 5) and not valid[0, 0, 0] and valid.sum() == 19
    pixels, valid = through(image, own("pair"))
    assert pixels.shape == (4, 4, 5) and not valid.any(), "infinite is no data, whatever the function says"
    assert (image[0, 0, 0], image[1, 0, 0]) == (99, 100)


@pytest.mark.usefixtures("functions")
def test_a_function_that_gives_something_else_is_refused() -> None:
    image = np.full((1, 4, 5), 100, np.uint8)
    for name, message in {
        "wrong": r"own_transforms:wrong returned an array of shape \(1, 3, 5\); expected .* shape \(bands, 4, 5\)",
        "fails": "own_transforms:fails failed: TypeError",
        "text": r"own_transforms:text returned a mask that is not a bool array of the image's shape \(1, 4, 5\)",
    }.items():
        with pytest.raises(DataError, match=rf"m\.tif: transform\[0\] \(function\): {message}"):
            through(image, own(name))
    with pytest.raises(ModelError, match='there is no module "nowhere"'):
        through(image, {"kind": "function", "function": "nowhere:f", "args": {}})
    with pytest.raises(DataError, match=r"expected 1 bands of uint8 in every window.*found 1 of float32"):
        through(image, own("moody"), window=Window(0, 0, 2, 2))


STEPS = st.sampled_from(
    [
        {"kind": "cast", "dtype": "uint8"},
        {"kind": "cast", "dtype": "int16"},
        {"kind": "cast", "dtype": "float32"},
        {"kind": "cast", "dtype": "float64"},
        {"kind": "reclass", "map": {"1": 2, "2": 1, "0": 5}},
        {"kind": "nodata", "value": 3.0},
        {"kind": "expression", "bands": [["r", "(B1 - 2) / (B1 - 2)"], ["s", "B1 * 100"]], "keep": True},
        {"kind": "expression", "bands": [["r", "B1 ** 3 - 7"]], "keep": False},
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(st.sampled_from(["uint8", "int16", "float32"]), (1, 6, 7), elements=st.sampled_from([0, 1, 2, 3, 99])),
    st.lists(STEPS, max_size=4),
    st.lists(STEPS, max_size=3),
    st.data(),
)
def test_transformers_compose(image: np.ndarray, first: list[Any], second: list[Any], data: st.DataObject) -> None:
    at_once = Transformed(Memory(image), [*first, *second])
    one_by_one = Transformed(Transformed(Memory(image), first), second)
    window = Window(*(data.draw(st.integers(low, 6)) for low in (-3, -3, 1, 1)))
    pixels, valid = at_once.read(window)
    for array, other in zip((pixels, valid), one_by_one.read(window), strict=True):
        np.testing.assert_array_equal(array, other)
    assert at_once.dtype == one_by_one.dtype == pixels.dtype and at_once.count == len(pixels)
    # A pixel depends on itself alone, and what is read holds no float surprises.
    whole, _ = at_once.read(at_once.grid.window)
    part = window.clip(6, 7)
    to, of = (slice(None), *part.slices_in(window)), (slice(None), *part.slices_in(at_once.grid.window))
    if part.height and part.width:
        np.testing.assert_array_equal(pixels[to], whole[of])
    assert np.isfinite(pixels).all() and not pixels[~valid].any()
