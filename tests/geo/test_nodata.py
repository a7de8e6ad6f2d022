"""Which values mean nodata: those of GDAL's own masks, without reading them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile

from rvbuild.errors import DataError
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.raster.nodata import ranges

Write = Callable[..., Path]

TAGS = [0.0, 1.0, 0.1, -9999.0, -9999.9, 255.0, 1e20, 9.969209968386869e36, 1.7e38, 3.4e38, -3.4e38, -3.40282e38, 1e-40]
DTYPES = ["float32", "float64"]


def mask_of(values: np.ndarray, nodata: float) -> tuple[Any, np.ndarray]:
    """Return the tag as GDAL reads it, and GDAL's mask."""
    with MemoryFile() as memory:
        profile = {"driver": "GTiff", "height": 1, "width": len(values), "count": 1, "dtype": values.dtype.name}
        with memory.open(nodata=nodata, **profile) as file:
            file.write(values[np.newaxis, np.newaxis])
        with memory.open() as file:
            return file.nodata, file.read_masks(1)[0] != 0


def around(value: Any) -> list[Any]:
    """Return numbers near one: its neighbours, and those near the borders of what GDAL takes for it."""
    values = [value]
    for target in (np.inf, -np.inf):
        number = value
        for _ in range(20):
            number = np.nextafter(number, value.dtype.type(target))
            values.append(number)
    return [*values, *(value * value.dtype.type(1 + sign * 2.0**-power) for power in range(18, 27) for sign in (1, -1))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tag", [*TAGS, -1.79769e308])
def test_reals_near_nodata_are_nodata_as_gdal_has_it(dtype: str, tag: float) -> None:
    if dtype == "float32" and abs(tag) > 3.5e38:
        pytest.skip("no float32 holds it, and GDAL masks nothing")
    limits = np.finfo(dtype)
    with np.errstate(all="ignore"):
        value = np.dtype(dtype).type(tag)
        ends = [limits.min, limits.max, limits.max - value, limits.min - value, np.dtype(dtype).type(0)]
        values = np.array([n for end in [value, *ends] for n in around(end)], dtype=dtype)
        values = values[np.isfinite(values)]
    nodata, mask = mask_of(values, tag)
    expected = np.ones(len(values), dtype=bool)
    for low, high in ranges(nodata, np.dtype(dtype)):
        expected &= (values < low) | (values > high)
    np.testing.assert_array_equal(expected, mask)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(DTYPES))
def test_any_nodata_is_that_of_gdal(data: st.DataObject, dtype: str) -> None:
    reals = st.floats(allow_nan=False, allow_infinity=False, width=32 if dtype == "float32" else 64)
    tag = data.draw(reals)
    others = data.draw(st.lists(reals, max_size=10))
    with np.errstate(all="ignore"):
        values = np.array([*around(np.dtype(dtype).type(tag)), *others], dtype=dtype)
        values = values[np.isfinite(values)]
    nodata, mask = mask_of(values, tag)
    if nodata is None:  # GDAL's text of the tag is out of range
        return
    expected = np.ones(len(values), dtype=bool)
    for low, high in ranges(nodata, np.dtype(dtype)):
        expected &= (values < low) | (values > high)
    np.testing.assert_array_equal(expected, mask)


@pytest.mark.parametrize(
    ("dtype", "tag", "lowest"),
    [("float32", -3.4e38, -3.4028235e38), ("float32", -3.40282e38, -3.4028235e38), ("float64", -1.79769e308, None)],
)
def test_a_rounded_tag_is_nodata(
    tmp_path: Path, write_raster: Write, dtype: str, tag: float, lowest: float | None
) -> None:
    image = np.random.default_rng(0).normal(50, 10, (2, 8, 8)).astype(dtype)
    image[:, :3] = np.finfo(dtype).min if lowest is None else lowest
    path = write_raster(tmp_path / "image.tif", image, nodata=tag)
    with open_image([path]) as source:
        pixels, valid = source.read(source.grid.window)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(valid, file.read_masks() != 0)
    assert not valid[:, :3].any()
    assert valid[:, 3:].all()
    assert not pixels[:, :3].any()


def test_a_rounded_key_is_nodata(tmp_path: Path, write_raster: Write) -> None:
    image = np.ones((1, 4, 4), np.float32)
    image[0, 0, 0] = np.finfo(np.float32).min
    path = write_raster(tmp_path / "image.tif", image)
    with open_image([path], nodata=-3.4e38) as source:
        assert source.read(source.grid.window)[1].sum() == 15
    with pytest.raises(DataError, match=r"nodata: -1e\+39 cannot occur in float32 pixels \(band 0\)"):
        open_image([path], nodata=-1e39)


def vrt(folder: Path, path: Path, count: int, kind: str, nodata: list[str]) -> Path:
    """Write a virtual raster of 4 x 4 pixels with a nodata value for each band."""
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{band}"><NoDataValue>{nodata[band - 1]}</NoDataValue><SimpleSource>'
        f"<SourceFilename>{path}</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in range(1, count + 1)
    )
    made = folder / "image.vrt"
    made.write_text(f'<VRTDataset rasterXSize="4" rasterYSize="4">{bands}</VRTDataset>')
    return made


@pytest.mark.parametrize(
    ("dtype", "kind", "nodata", "values"),
    [
        ("int64", "Int64", "9223372036854775807", [2**63 - 1, 2**63 - 2, 0]),
        ("int64", "Int64", "9007199254740993", [2**53 + 1, 2**53, 0]),
        ("uint64", "UInt64", "18446744073709551615", [2**64 - 1, 2**64 - 2, 0]),
        ("uint8", "Byte", "-9999", [0, 241, 255]),
        ("uint8", "Byte", "0.5", [0, 1, 2]),
        ("int16", "Int16", "-32768.0", [-32768, 0, 1]),
        ("float32", "Float32", "nan", [np.nan, 0, 1]),
        ("float32", "Float32", "-1.7976931348623157e+308", [-1, 0, 1]),
    ],
)
def test_the_masks_of_tags_of_all_kinds(
    tmp_path: Path, write_raster: Write, dtype: str, kind: str, nodata: str, values: list[Any]
) -> None:
    image = np.ones((1, 4, 4), dtype)
    image[0, 0, :3] = np.array(values, dtype)
    path = vrt(tmp_path, write_raster(tmp_path / "pixels.tif", image), 1, kind, [nodata])
    with open_image([path]) as source:
        valid = source.read(source.grid.window)[1]
    with np.errstate(over="ignore"), rasterio.open(path) as file:
        np.testing.assert_array_equal(valid, file.read_masks() != 0)


def test_bands_of_different_nodata(tmp_path: Path, write_raster: Write) -> None:
    image = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    path = vrt(tmp_path, write_raster(tmp_path / "pixels.tif", image), 2, "Float32", ["3", "20"])
    with open_image([path]) as source:
        np.testing.assert_array_equal(source.read(source.grid.window)[1], [image[0] != 3, image[1] != 20])


def test_a_key_that_is_no_exact_number_of_64_bits(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.tif", np.zeros((1, 4, 4), np.int64))
    with pytest.raises(DataError, match="has no exact int64 value"):
        open_image([path], nodata=2.0**60)
