from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid, reproject
from rvbuild.geo.raster import resampled
from rvbuild.geo.raster.open import open_scene_image
from rvbuild.geo.windows import Window, sliding
from tests.geo.conftest import UTM

Write = Callable[..., Path]
PLACE = {"transform": Affine(1, 0, 500000, 0, -1, 5800000), "crs": UTM}


def layer(**changes: Any) -> dict[str, Any]:
    return {"files": 1, "channels": None, "nodata": None, "resample": "bilinear", **changes}


def open_stack(files: list[Path], *layers: dict[str, Any], channels: Any = None, **image: Any) -> Any:
    stack = {"nodata": None, "layers": layers or [layer()] * len(files), "primary": 0, "reduce": None, **image}
    return open_scene_image(files, {"image": stack, "channels": channels})


def read_whole(source: Any) -> tuple[np.ndarray, np.ndarray]:
    with source:
        image, valid = source.read(source.grid.window)
        return image, valid


def noise(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)


def smooth(grid: Grid) -> np.ndarray:
    """Return a plane over map coordinates, which every linear method reproduces: (1, H, W) float32."""
    cols, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.to_map(cols.ravel(), rows.ravel())
    return (0.5 * (x - 500000) + 0.25 * (y - 5800000) + 300).reshape(1, grid.height, grid.width).astype(np.float32)


def test_bands_on_one_grid_are_put_together(tmp_path: Path, write_raster: Write) -> None:
    rgb, nir = noise(3, 30, 40), noise(1, 30, 40, seed=1)
    nir[0, 2, 3] = 255
    files = [
        write_raster(tmp_path / "rgb.tif", rgb, **PLACE),
        write_raster(tmp_path / "nir.tif", nir, nodata=255, descriptions=["nir"], **PLACE),
    ]
    image, valid = read_whole(open_stack(files))
    nir[0, 2, 3] = 0
    np.testing.assert_array_equal(image, np.concatenate([rgb, nir]))
    assert np.argwhere(~valid).tolist() == [[3, 2, 3]]
    with open_stack(files, channels=[3, 0]) as source:
        assert source.descriptions == ("nir", "band 0")
        pixels, _ = source.read(Window(-2, 35, 10, 10))
    expected = np.zeros((2, 10, 10), np.uint8)
    expected[:, 2:, :5] = image[[3, 0], :8, 35:]
    np.testing.assert_array_equal(pixels, expected)
    image, _ = read_whole(open_stack(files, layer(channels=[2]), layer(nodata=0)))
    assert image[:, 2, 3].tolist() == [rgb[2, 2, 3], 255]


def test_dtypes_that_differ_become_one_that_holds_all_values(tmp_path: Path, write_raster: Write) -> None:
    rgb, height = noise(3, 8, 9), noise(1, 8, 9, dtype=np.float32) + 0.5
    files = [write_raster(tmp_path / "rgb.tif", rgb, **PLACE), write_raster(tmp_path / "dsm.tif", height, **PLACE)]
    image, _ = read_whole(open_stack(files))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, np.concatenate([rgb, height]))
    image, _ = read_whole(open_stack(files, channels=[0, 1]))
    assert image.dtype == np.uint8, "only the bands that are used count"


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5, 7.0])
@pytest.mark.parametrize("method", ["bilinear", "cubic", "average"])
def test_another_resolution_is_resampled_in_place(
    tmp_path: Path, write_raster: Write, scale: float, method: str
) -> None:
    first = write_raster(tmp_path / "a.tif", noise(1, 50, 60), **PLACE)
    other = Grid(round(80 / scale), round(90 / scale), Affine(scale, 0, 499990.2, 0, -scale, 5800010.7), UTM)
    second = write_raster(tmp_path / "b.tif", smooth(other), transform=other.transform, crs=UTM)
    with open_stack([first, second], layer(), layer(resample=method)) as source:
        image, valid = source.read(source.grid.window)
    assert valid.all()
    # An average of pixels steps where their edges lie.
    np.testing.assert_allclose(image[1], smooth(source.grid)[0], atol=0.02 if method != "average" else scale)


def test_another_crs_is_warped_in_place(tmp_path: Path, write_raster: Write) -> None:
    grid = Grid(60, 50, PLACE["transform"], UTM)
    first = write_raster(tmp_path / "a.tif", noise(1, 60, 50), **PLACE)
    degrees = Grid(150, 150, Affine(1e-6, 0, 14.99995, 0, -1e-6, 52.3500), None)
    lon, lat = reproject("", UTM, _wgs84(), np.array([500000.0]), np.array([5800000.0]))
    degrees = Grid(200, 200, Affine(8e-6, 0, lon[0] - 2e-4, 0, -5e-6, lat[0] + 2e-4), _wgs84())
    cols, rows = np.meshgrid(np.arange(200) + 0.5, np.arange(200) + 0.5)
    x, y = reproject("", _wgs84(), UTM, *degrees.to_map(cols.ravel(), rows.ravel()))
    plane = (0.5 * (x - 500000) + 0.25 * (y - 5800000) + 300).reshape(1, 200, 200).astype(np.float32)
    second = write_raster(tmp_path / "b.tif", plane, transform=degrees.transform, crs=_wgs84())
    image, valid = read_whole(open_stack([first, second]))
    assert valid.all()
    np.testing.assert_allclose(image[1], smooth(grid)[0], atol=0.05)


def _wgs84() -> Any:
    from rasterio.crs import CRS

    return CRS.from_epsg(4326)


def test_windows_of_a_resampled_layer_are_parts_of_the_whole(
    tmp_path: Path, write_raster: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampled, "BLOCK_PX", 16)
    monkeypatch.setattr(resampled, "CACHE_BYTES", 4 * 16 * 16 * 2)
    first = write_raster(tmp_path / "a.tif", noise(1, 50, 60), **PLACE)
    place = {"transform": Affine(0.7, 0.2, 499995, 0.2, -0.7, 5800000), "crs": "EPSG:32633"}
    second = write_raster(tmp_path / "b.tif", noise(1, 70, 70), nodata=7, **place)
    with open_stack([first, second]) as source:
        whole, valid = source.read(source.grid.window)
        assert 0.2 < valid[1].mean() < 0.99
        for window in sliding(50, 60, 20, 13):
            pixels, known = source.read(window)
            inside = window.clip(50, 60)
            of = (slice(None), *inside.slices_in(source.grid.window))
            to = (slice(None), *inside.slices_in(window))
            np.testing.assert_array_equal(pixels[to], whole[of])
            np.testing.assert_array_equal(known[to], valid[of])
            assert not np.delete(np.delete(known, np.s_[: inside.height], 1), np.s_[: inside.width], 2).any()


def test_nearest_makes_no_new_values_and_nodata_does_not_bleed(tmp_path: Path, write_raster: Write) -> None:
    first = write_raster(tmp_path / "a.tif", noise(1, 40, 40), **PLACE)
    coarse = np.full((2, 10, 10), 100, np.uint8)
    coarse[0, :, 5:] = 0
    place = {"transform": Affine(4, 0, 500000, 0, -4, 5800000), "crs": UTM}
    second = write_raster(tmp_path / "b.tif", coarse, nodata=0, **place)
    for method in ("nearest", "bilinear", "cubic"):
        image, valid = read_whole(open_stack([first, second], layer(), layer(resample=method)))
        assert set(np.unique(image[1:][valid[1:]])) == {100}, "and so no dark fringe at the edge of the data"
        assert valid[2].all() and valid[1, :, :20].all() and not valid[1, :, 22:].any()
    image, _ = read_whole(open_stack([first, second], layer(), layer(resample="nearest")))
    np.testing.assert_array_equal(image[1:], np.kron(coarse, np.ones((1, 4, 4), np.uint8)))


def test_the_primary_gives_the_grid_and_the_box_is_of_it(tmp_path: Path, write_raster: Write) -> None:
    coarse = {"transform": Affine(4, 0, 500000, 0, -4, 5800000), "crs": UTM}
    files = [
        write_raster(tmp_path / "a.tif", noise(1, 10, 10), **coarse),
        write_raster(tmp_path / "b.tif", noise(1, 40, 36), **PLACE),
    ]
    with open_stack(files, primary=1, bbox={"px": [4, 8, 20, 30]}) as source:
        assert (source.grid.height, source.grid.width, source.grid.transform.a) == (22, 16, 1)
        part, _ = source.read(source.grid.window)
    whole, _ = read_whole(open_stack(files, primary=1))
    np.testing.assert_array_equal(part, whole[:, 8:30, 4:20])


def test_a_layer_may_be_a_mosaic_and_may_cover_a_part(tmp_path: Path, write_raster: Write) -> None:
    whole = noise(1, 20, 30, seed=2)
    halves = [
        write_raster(
            tmp_path / f"{col}.tif",
            whole[:, :, col : col + 10],
            transform=PLACE["transform"] * Affine.translation(col, 0),
            crs=UTM,
        )
        for col in (0, 10)
    ]
    first = write_raster(tmp_path / "a.tif", noise(1, 20, 30), **PLACE)
    with open_stack([first, *halves], layer(), layer(files=2)) as source:
        image, valid = source.read(source.grid.window)
    np.testing.assert_array_equal(image[1, :, :20], whole[0, :, :20])
    assert valid[1, :, :20].all() and not valid[1, :, 20:].any() and not image[1, :, 20:].any()


TIMES = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 6), st.just(1), st.just(3), st.just(4)), elements=st.integers(0, 9)
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(TIMES, st.sampled_from(["mean", "median"]), st.sampled_from([np.uint8, np.int16, np.float32, np.float64]))
def test_times_are_reduced_as_numpy_reduces_them(
    write_raster: Write, times: np.ndarray, reducer: str, dtype: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [
            write_raster(Path(folder, f"{n}.tif"), time.astype(dtype), nodata=0, **PLACE)
            for n, time in enumerate(times)
        ]
        image, valid = read_whole(open_stack(files, reduce=reducer))
    masked = np.ma.masked_equal(times.astype(np.float64), 0)
    expected = np.ma.filled(np.ma.mean(masked, axis=0) if reducer == "mean" else np.ma.median(masked, axis=0), 0)
    np.testing.assert_array_equal(valid, (times != 0).any(axis=0))
    assert image.dtype == dtype
    if np.dtype(dtype).kind == "f":
        np.testing.assert_allclose(image, expected, rtol=1e-6)
    else:
        np.testing.assert_array_equal(image, np.rint(expected))


def test_times_as_bands(tmp_path: Path, write_raster: Write) -> None:
    times = [noise(2, 5, 6, seed=n) for n in range(3)]
    files = [write_raster(tmp_path / f"{n}.tif", time, **PLACE) for n, time in enumerate(times)]
    image, _ = read_whole(open_stack(files, reduce="bands", channels=[1]))
    np.testing.assert_array_equal(image, np.stack([time[1] for time in times]))


def test_what_does_not_fit_is_said(tmp_path: Path, write_raster: Write) -> None:
    first = write_raster(tmp_path / "a.tif", noise(1, 20, 20), **PLACE)
    bare = write_raster(tmp_path / "bare.tif", noise(1, 10, 10))
    far = write_raster(tmp_path / "far.tif", noise(1, 20, 20), transform=Affine(1, 0, 600000, 0, -1, 5800000), crs=UTM)
    coarse = write_raster(tmp_path / "f.tif", noise(1, 5, 5), transform=Affine(4, 0, 600000, 0, -4, 5800000), crs=UTM)
    two = write_raster(tmp_path / "two.tif", noise(2, 20, 20), **PLACE)
    wide = write_raster(tmp_path / "wide.tif", noise(1, 20, 20, dtype=np.uint32), **PLACE)
    real = write_raster(tmp_path / "real.tif", noise(1, 20, 20, dtype=np.float32), **PLACE)
    with pytest.raises(DataError, match=r"bare\.tif: cannot be resampled .* one of them has no CRS"):
        open_stack([first, bare])
    for path in (far, coarse):
        with pytest.raises(DataError, match=rf"{path.name}: shares no pixel with the first layer"):
            open_stack([first, path])
    with pytest.raises(DataError, match=r"a\.tif and .*two\.tif cannot be times of one scene: 1 bands of uint8"):
        open_stack([first, two], reduce="median")
    with pytest.raises(DataError, match=r"a\.tif and .*two\.tif cannot be times of one scene"):
        open_stack([first, two], reduce="bands")
    with pytest.raises(DataError, match=r"no band 3; the stack has the bands 0 to 2: 1 of a\.tif, 2 of two\.tif"):
        open_stack([first, two], channels=[3])
    with open_stack([wide, real]) as source:
        assert source.dtype == np.float64
    with pytest.raises(DataError, match="expected 3 files for a stack of 2 layers, found 2"):
        open_stack([first, two], layer(files=2), layer())
