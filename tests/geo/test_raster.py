from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.vrt
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from rvbuild.errors import DataError
from rvbuild.geo.grid import Grid
from rvbuild.geo.raster import file as rasterfile
from rvbuild.geo.raster import mosaic_source as raster
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.windows import Window, bands, sliding

NORTH_UP = Affine(0.5, 0, 1000, 0, -0.5, 2000)
UTM = {"crs": "EPSG:32633"}

Write = Callable[..., Path]


def noise(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)


def shifted(transform: Affine, col: int, row: int) -> Affine:
    return Grid(1, 1, transform, None).transform_at(row, col)


def whole(path: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    with open_image([path], **options) as source:
        return source.read(source.grid.window)


@pytest.mark.parametrize(
    "layout",
    [
        {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
        {"tiled": False, "blockysize": 3, "compress": "deflate"},
        {"interleave": "band"},
        {"driver": "PNG"},
    ],
    ids=["tiled", "striped", "by band", "png"],
)
def test_windows_are_parts_of_the_whole(tmp_path: Path, write_raster: Write, layout: dict[str, Any]) -> None:
    image = noise(3, 50, 70)
    path = write_raster(tmp_path / "image", image, **layout)
    with open_image([path]) as source:
        assert (source.count, source.dtype, source.grid.height, source.grid.width) == (3, np.uint8, 50, 70)
        for window in sliding(50, 70, 16, 11):
            pixels, valid = source.read(window)
            inside = window.clip(50, 70)
            rows, cols = inside.slices_in(window)
            expected = np.zeros((3, 16, 16), np.uint8)
            expected[:, rows, cols] = image[(slice(None), *inside.slices_in(source.grid.window))]
            np.testing.assert_array_equal(pixels, expected)
            assert valid[:, rows, cols].all()
            assert valid.sum() == 3 * inside.height * inside.width


def test_jpeg_is_read(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.jpg", np.full((3, 32, 32), 100, np.uint8), driver="JPEG")
    pixels, valid = whole(path)
    assert abs(pixels.astype(int) - 100).max() <= 2
    assert valid.all()


def test_windows_inside_use_plain_reads(tmp_path: Path, write_raster: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    class Spy:
        def __init__(self, dataset: Any) -> None:
            self._dataset = dataset

        def __getattr__(self, name: str) -> Any:
            return getattr(self._dataset, name)

        def read(self, *args: Any, **kwargs: Any) -> Any:
            calls.append(kwargs)
            return self._dataset.read(*args, **kwargs)

    path = write_raster(tmp_path / "image.tif", noise(2, 20, 20))
    with open_image([path]) as source:
        monkeypatch.setattr(raster, "open_dataset", lambda path: Spy(rasterfile.open_dataset(path)))
        source.read(Window(3, 3, 10, 10))
        source.read(Window(15, 15, 10, 10))
    # `boundless` would be twenty times slower.
    assert len(calls) == 2 and all(set(call) <= {"window", "out_shape"} for call in calls)
    assert [call.get("out_shape", (2, 10, 10)) for call in calls] == [(2, 10, 10), (2, 5, 5)]


def test_a_window_wholly_outside_is_padding(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.tif", noise(2, 20, 20))
    with open_image([path]) as source:
        pixels, valid = source.read(Window(-30, 40, 8, 9))
    assert pixels.shape == valid.shape == (2, 8, 9)
    assert not pixels.any()
    assert not valid.any()


def test_channels_select_and_order(tmp_path: Path, write_raster: Write) -> None:
    image = noise(4, 10, 10, dtype=np.uint16)
    path = write_raster(tmp_path / "image.tif", image, descriptions=["red", "green", "blue", "nir"])
    with open_image([path], channels=[3, 0, 1]) as source:
        assert source.descriptions == ("nir", "red", "green")
        np.testing.assert_array_equal(source.read(source.grid.window)[0], image[[3, 0, 1]])


def test_a_channel_out_of_range_names_the_bands(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.tif", noise(2, 10, 10), descriptions=["red", "green"])
    with pytest.raises(DataError, match=r"image\.tif: channels: there is no band 2; its bands are 0 \(red\), 1 \(gre"):
        open_image([path], channels=[0, 2])
    with pytest.raises(DataError, match="at least one band"):
        open_image([path], channels=[])


def test_alpha_is_dropped_and_says_what_is_valid(tmp_path: Path, write_raster: Write) -> None:
    image = noise(4, 10, 12)
    image[3] = 255
    image[3, 2:4, 5] = 0
    path = write_raster(tmp_path / "image.tif", image, photometric="rgb", alpha="yes")
    pixels, valid = whole(path)
    assert pixels.shape == (3, 10, 12)
    np.testing.assert_array_equal(valid, np.broadcast_to(image[3] != 0, (3, 10, 12)))
    np.testing.assert_array_equal(pixels, image[:3] * valid)


def test_an_alpha_band_that_is_selected_is_data(tmp_path: Path, write_raster: Write) -> None:
    image = noise(4, 10, 12)
    image[3, 2:4, 5] = 0
    path = write_raster(tmp_path / "image.tif", image, photometric="rgb", alpha="yes")
    pixels, valid = whole(path, channels=[3, 0])
    np.testing.assert_array_equal(pixels, image[[3, 0]])
    assert valid.all()


def test_nodata_is_per_band(tmp_path: Path, write_raster: Write) -> None:
    image = noise(2, 10, 10, dtype=np.int16)
    image[0, 1, 1] = image[1, 2, 2] = -7
    path = write_raster(tmp_path / "image.tif", image, nodata=-7)
    with open_image([path]) as source:
        assert source.nodata == (-7, -7)
        pixels, valid = source.read(source.grid.window)
    assert (~valid).sum() == 2
    assert not valid[0, 1, 1]
    assert not valid[1, 2, 2]
    assert pixels[0, 1, 1] == pixels[1, 2, 2] == 0


def test_the_project_overrides_nodata(tmp_path: Path, write_raster: Write) -> None:
    image = noise(2, 10, 10)
    image[:, 0, 0], image[:, 0, 1], image[:, 0, 2] = 251, 252, 253
    path = write_raster(tmp_path / "image.tif", image, nodata=251)
    np.testing.assert_array_equal(whole(path)[1], image != 251)
    np.testing.assert_array_equal(whole(path, nodata=252)[1], image != 252)
    per_band = whole(path, nodata=[252, None])[1]
    np.testing.assert_array_equal(per_band, [image[0] != 252, np.ones((10, 10), bool)])
    chosen = whole(path, nodata=[252, 253], channels=[1])[1]
    np.testing.assert_array_equal(chosen[0], image[1] != 253)
    assert whole(path, nodata=[])[1].all()


def test_nodata_that_cannot_be_is_refused(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.tif", noise(2, 10, 10))
    with pytest.raises(DataError, match="nodata: -9999 cannot occur in uint8 pixels"):
        open_image([path], nodata=-9999)
    with pytest.raises(DataError, match=r"one value or one per band, 2 for the bands.*found 3"):
        open_image([path], nodata=[1, 2, 3])


@pytest.mark.parametrize("nodata", [None, np.nan, -9999.0, 1e20])
def test_real_numbers(tmp_path: Path, write_raster: Write, nodata: float | None) -> None:
    image = noise(2, 10, 10, dtype=np.float32) / np.float32(7)
    image[0, 3, 3], image[1, 4, 4], image[1, 5, 5] = np.nan, np.inf, -np.inf
    bad = {(0, 3, 3), (1, 4, 4), (1, 5, 5)}
    if nodata is not None:
        image[0, 6, 6] = nodata
        bad.add((0, 6, 6))
    path = write_raster(tmp_path / "image.tif", image, **({} if nodata is None else {"nodata": nodata}))
    pixels, valid = whole(path)
    assert set(map(tuple, np.argwhere(~valid).tolist())) == bad
    assert np.isfinite(pixels).all()
    np.testing.assert_array_equal(pixels[valid], image[valid])


def test_a_mask_band_counts_for_all_bands(tmp_path: Path, write_raster: Write) -> None:
    image = noise(2, 40, 40)
    mask = np.ones((40, 40), bool)
    mask[5:20, 3:9] = False
    path = write_raster(tmp_path / "image.tif", image, mask=mask, tiled=True, blockxsize=16, blockysize=16)
    pixels, valid = whole(path)
    np.testing.assert_array_equal(valid, np.broadcast_to(mask, (2, 40, 40)))
    np.testing.assert_array_equal(pixels, image * valid)


def test_valid_can_be_written_to(tmp_path: Path, write_raster: Write) -> None:
    image = noise(4, 10, 12)
    path = write_raster(tmp_path / "image.tif", image, photometric="rgb", alpha="yes")
    with open_image([path]) as source:
        for window in (Window(0, 0, 5, 5), Window(5, 5, 10, 10)):
            pixels, valid = source.read(window)
            pixels[:] = 1
            valid[:] = False


def test_bands_of_several_dtypes_are_refused(tmp_path: Path, write_raster: Write) -> None:
    paths = [
        write_raster(tmp_path / f"{name}.tif", noise(1, 8, 8, dtype=name), transform=NORTH_UP, **UTM)
        for name in ("uint8", "uint16")
    ]
    bands_xml = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{band}"><SimpleSource><SourceFilename>{path}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for band, (kind, path) in enumerate(zip(("Byte", "UInt16"), paths, strict=True), start=1)
    )
    vrt = tmp_path / "both.vrt"
    geo = "<GeoTransform>1000, 0.5, 0, 2000, 0, -0.5</GeoTransform>"
    vrt.write_text(f'<VRTDataset rasterXSize="8" rasterYSize="8">{geo}{bands_xml}</VRTDataset>')
    with pytest.raises(DataError, match="one dtype, found: band 0 is uint8, band 1 is uint16"):
        open_image([vrt])
    assert whole(vrt, channels=[1])[0].dtype == np.uint16


def test_complex_pixels_are_refused(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.tif", noise(1, 8, 8, dtype=np.complex64))
    with pytest.raises(DataError, match="complex64"):
        open_image([path])


def test_what_is_no_raster_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.tif").write_text("no pixels here")
    with pytest.raises(DataError, match=r"notes\.tif: cannot be opened as a raster"):
        open_image([tmp_path / "notes.tif"])
    with pytest.raises(DataError, match=r"missing\.tif"):
        open_image([tmp_path / "missing.tif"])
    with pytest.raises(DataError, match="at least one image"):
        open_image([])


def test_a_truncated_file_is_told_with_its_window(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.tif", noise(1, 512, 512), tiled=True, blockxsize=256, blockysize=256)
    path.write_bytes(path.read_bytes()[: 256 * 256 * 3])
    message = r"rows 300 to 309, .*IReadBlock failed .*[^.]\. Is the file complete\?"
    with open_image([path]) as source, pytest.raises(DataError, match=message):
        source.read(Window(300, 300, 10, 10))


def test_ground_control_points_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    points = [GroundControlPoint(row, col, col, row) for row, col in ((0, 0), (0, 9), (9, 0), (9, 9))]
    profile = {"driver": "GTiff", "count": 1, "height": 9, "width": 9, "dtype": "uint8"}
    with rasterio.open(path, "w", gcps=points, crs="EPSG:4326", **profile) as file:
        file.write(noise(1, 9, 9))
    with pytest.raises(DataError, match="ground control points only"):
        open_image([path])


def test_images_without_georeference_are_silent_and_in_pixels(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.png", noise(3, 10, 12), driver="PNG")
    with open_image([path]) as source:
        assert source.grid.crs is None
        assert source.grid.transform == Affine.identity()


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[int], list[int], list[int]]:
    rows = sorted(draw(st.sets(st.integers(1, 29), max_size=2)))
    cols = sorted(draw(st.sets(st.integers(1, 39), max_size=2)))
    order = draw(st.permutations(range((len(rows) + 1) * (len(cols) + 1))))
    return [0, *rows, 30], [0, *cols, 40], list(order)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(cuts(), st.integers(-5, 30), st.integers(-5, 40), st.integers(1, 40))
def test_a_mosaic_equals_one_big_image(
    write_raster: Write, cut: tuple[list[int], list[int], list[int]], row: int, col: int, size: int
) -> None:
    rows, cols, order = cut
    image = noise(2, 30, 40)
    image[:, 7, :] = 9
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, top in enumerate(rows[:-1]):
            for j, left in enumerate(cols[:-1]):
                part = image[:, top : rows[i + 1], left : cols[j + 1]]
                place = shifted(NORTH_UP, left, top)
                paths.append(write_raster(Path(folder, f"{i}_{j}.tif"), part, transform=place, nodata=9, **UTM))
        big = write_raster(Path(folder, "big.tif"), image, transform=NORTH_UP, nodata=9, **UTM)
        with open_image([paths[index] for index in order]) as mosaic, open_image([big]) as whole:
            assert mosaic.grid.place_of(whole.grid, 1e-6) == whole.grid.window == mosaic.grid.window
            assert mosaic.grid.crs == whole.grid.crs
            for window in (Window(row, col, size, size), whole.grid.window):
                for array, expected in zip(mosaic.read(window), whole.read(window), strict=True):
                    np.testing.assert_array_equal(array, expected)


def test_later_files_cover_earlier_ones_where_they_hold_data(tmp_path: Path, write_raster: Write) -> None:
    below, above = noise(2, 10, 10), noise(2, 10, 10, seed=1)
    above[0, :5, :] = 255
    first = write_raster(tmp_path / "one.tif", below, transform=NORTH_UP, **UTM)
    second = write_raster(tmp_path / "two.tif", above, transform=shifted(NORTH_UP, 5, -3), nodata=255, **UTM)
    with open_image([first, second]) as source:
        assert (source.grid.height, source.grid.width) == (13, 15)
        assert source.grid.transform.f == 2000 + 1.5
        pixels, valid = source.read(source.grid.window)
    expected, data = np.zeros((2, 13, 15), np.uint8), np.zeros((2, 13, 15), bool)
    expected[:, 3:, :10], data[:, 3:, :10] = below, True
    known = above != 255
    expected[:, :10, 5:][known], data[:, :10, 5:][known] = above[known], True
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(valid, data)
    assert not valid[:, :3, :5].any()


def test_masks_of_the_files_of_a_mosaic_count(tmp_path: Path, write_raster: Write) -> None:
    below, above = noise(1, 10, 10), noise(1, 10, 10, seed=1)
    mask = np.zeros((10, 10), bool)
    mask[2:4, 2:4] = True
    first = write_raster(tmp_path / "one.tif", below, transform=NORTH_UP, **UTM)
    second = write_raster(tmp_path / "two.tif", above, transform=NORTH_UP, mask=mask, **UTM)
    with open_image([first, second]) as source:
        pixels, valid = source.read(source.grid.window)
    np.testing.assert_array_equal(pixels, np.where(mask, above, below))
    assert valid.all()


def test_a_mosaic_of_many_files_keeps_few_open(
    tmp_path: Path, write_raster: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster, "MAX_OPEN_FILES", 3)
    image = noise(1, 4, 40)
    paths = [
        write_raster(
            tmp_path / f"{i}.tif",
            image[:, :, 4 * i : 4 * i + 4],
            transform=shifted(NORTH_UP, 4 * i, 0),
            **UTM,
        )
        for i in range(10)
    ]
    with open_image(paths) as source:
        for band in bands(4, 40, 2):
            np.testing.assert_array_equal(source.read(band)[0], image[:, band.row : band.row_stop])
        assert len(source._open) == 3
    assert not source._open


def test_a_rotated_mosaic_is_one_grid_too(tmp_path: Path, write_raster: Write) -> None:
    turned = Affine(0.4, 0.3, 1000, 0.3, -0.4, 2000)
    image = noise(1, 10, 20)
    paths = [
        write_raster(
            tmp_path / f"{i}.tif",
            image[:, :, 10 * i : 10 * i + 10],
            transform=shifted(turned, 10 * i, 0),
            **UTM,
        )
        for i in (0, 1)
    ]
    with open_image(paths[::-1]) as source:
        np.testing.assert_array_equal(source.read(source.grid.window)[0], image)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"crs": "EPSG:32632"}, "CRS: EPSG:32633 in the first, EPSG:32632 in the second"),
        ({"count": 3}, "number of bands: 2 in the first, 3 in the second"),
        ({"dtype": np.uint16}, "dtype: uint8 in the first, uint16 in the second"),
        ({"transform": Affine(0.25, 0, 1000, 0, -0.25, 2000)}, "pixel size: 0.5 x -0.5 in the first, 0.25 x -0.25"),
        ({"transform": Affine(0.5, 0, 1000.2, 0, -0.5, 2000)}, r"column 0.400, row 0.000 .*gdalwarp -tap"),
    ],
    ids=["crs", "bands", "dtype", "pixel size", "off the grid"],
)
def test_files_that_are_not_alike_are_no_mosaic(
    tmp_path: Path, write_raster: Write, other: dict[str, Any], message: str
) -> None:
    options: dict[str, Any] = {"crs": "EPSG:32633", "count": 2, "dtype": np.uint8, "transform": NORTH_UP}
    paths = []
    for name, changed in (("one.tif", options), ("two.tif", options | other)):
        profile = dict(changed)
        image = noise(profile.pop("count"), 10, 10, dtype=profile.pop("dtype"))
        paths.append(write_raster(tmp_path / name, image, **profile))
    with pytest.raises(DataError, match=rf"one\.tif and .*two\.tif cannot be one mosaic: .*{message}"):
        open_image(paths)


def test_files_without_georeference_are_no_mosaic(tmp_path: Path, write_raster: Write) -> None:
    paths = [write_raster(tmp_path / f"{i}.png", noise(3, 5, 5), driver="PNG") for i in (0, 1)]
    with pytest.raises(DataError, match="neither is georeferenced"):
        open_image(paths)


def test_a_sidecar_places_a_picture(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.png", noise(3, 5, 5), driver="PNG")
    wkt = CRS.from_epsg(32633).to_wkt().replace('"', "&quot;")
    geo = "<GeoTransform>1000, 0.5, 0, 2000, 0, -0.5</GeoTransform>"
    (tmp_path / "image.png.aux.xml").write_text(f"<PAMDataset><SRS>{wkt}</SRS>{geo}</PAMDataset>")
    with open_image([path]) as source:
        assert source.grid.transform == NORTH_UP
        assert source.grid.crs == CRS.from_epsg(32633)


def test_world_file_without_crs(tmp_path: Path, write_raster: Write) -> None:
    path = write_raster(tmp_path / "image.tif", noise(1, 5, 5), transform=NORTH_UP)
    with open_image([path]) as source:
        assert source.grid.crs is None
        assert source.grid.transform == NORTH_UP


def test_alpha_of_another_place_than_the_last(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    image = noise(3, 6, 6)
    image[0] = 255
    image[0, 0, 0] = 0
    profile = {"driver": "GTiff", "count": 3, "height": 6, "width": 6, "dtype": "uint8", "transform": NORTH_UP}
    with rasterio.open(path, "w", photometric="minisblack", crs=CRS.from_epsg(32633), **profile) as file:
        file.write(image)
        file.colorinterp = (ColorInterp.alpha, ColorInterp.gray, ColorInterp.undefined)
    pixels, valid = whole(path)
    assert pixels.shape[0] == 2
    assert not valid[:, 0, 0].any()
    assert valid.sum() == 2 * 35


def test_jpeg_2000_and_virtual_rasters_are_read(tmp_path: Path, write_raster: Write) -> None:
    image = noise(3, 40, 60)
    place = {"transform": NORTH_UP, **UTM}
    jp2 = write_raster(tmp_path / "a.jp2", image, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES", **place)
    tif = write_raster(tmp_path / "a.tif", image, **place)
    with rasterio.open(tif) as source, rasterio.vrt.WarpedVRT(source) as vrt:
        rasterio.shutil.copy(vrt, tmp_path / "a.vrt", driver="VRT")
    for path in (jp2, tmp_path / "a.vrt"):
        with open_image([path]) as source:
            pixels, valid = source.read(Window(10, 20, 16, 16))
            assert source.grid.transform == NORTH_UP
        np.testing.assert_array_equal(pixels, image[:, 10:26, 20:36])
        assert valid.all()


def test_a_driver_that_gdal_lacks_is_named(tmp_path: Path) -> None:
    with rasterio.Env() as environment:
        if "ECW" in environment.drivers():
            pytest.skip("this GDAL has the driver")
    (tmp_path / "a.ecw").write_bytes(b"ecw")
    with pytest.raises(DataError, match=r"a\.ecw: needs the GDAL driver ECW, .*`gdal_translate -of COG a\.ecw a\.tif`"):
        open_image([tmp_path / "a.ecw"])
    (tmp_path / "a.jp2").write_bytes(b"jp2")
    with pytest.raises(DataError, match=r"a\.jp2: cannot be opened as a raster"):
        open_image([tmp_path / "a.jp2"])


def test_a_block_that_does_not_fit_into_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rvbuild.files import budget
    from rvbuild.geo.raster.file import open_dataset

    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 3000, "height": 4000, "count": 2, "dtype": "uint8", "interleave": "pixel"}
    with rasterio.open(
        path, "w", tiled=True, blockxsize=2048, blockysize=4096, SPARSE_OK=True, compress="deflate", **profile
    ):
        pass
    open_dataset(path).close()
    monkeypatch.setattr(budget, "memory_bytes", lambda: 16_000_000)
    with pytest.raises(DataError, match=r"a block of 2048 x 4096 px, .* needs about 17 MB .* 16 MB is available.*COG"):
        open_dataset(path)


def test_no_mask_is_made_where_all_is_valid(tmp_path: Path, write_raster: Write) -> None:
    plain = write_raster(tmp_path / "plain.tif", noise(2, 20, 20))
    pixels = noise(2, 20, 20)
    pixels[1, 3, 4] = 0
    sparse = write_raster(tmp_path / "sparse.tif", pixels, nodata=0)
    for path, windows in ((plain, (Window(0, 0, 20, 20),)), (sparse, (Window(5, 5, 10, 10), Window(0, 5, 9, 9)))):
        with open_image([path]) as source:
            for window in windows:
                image, valid = source.read_data(window)
                assert valid is None
                np.testing.assert_array_equal(image, source.read(window)[0])
                assert source.read(window)[1].all()


@pytest.mark.parametrize("window", [Window(0, 0, 20, 20), Window(15, -3, 10, 10), Window(40, 40, 4, 4)])
def test_a_mask_is_that_of_read(tmp_path: Path, write_raster: Write, window: Window) -> None:
    pixels = noise(2, 20, 20)
    pixels[1, 3, 4] = 0
    with open_image([write_raster(tmp_path / "image.tif", pixels, nodata=0)]) as source:
        image, valid = source.read_data(window)
        assert valid is not None
        for one, other in zip((image, valid), source.read(window), strict=True):
            np.testing.assert_array_equal(one, other)
        assert (image[~valid] == 0).all()


@pytest.mark.parametrize("nodata", [(None, None), (0, None), (None, 0)])
def test_files_with_and_without_nodata_are_one_mosaic(
    tmp_path: Path, write_raster: Write, nodata: tuple[int | None, int | None]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 3, (2, 2, 8, 8), dtype=np.uint8)
    places = [Affine(1, 0, 0, 0, -1, 0), Affine(1, 0, 5, 0, -1, 0)]
    paths = [
        write_raster(tmp_path / f"{number}.tif", pixels[number], crs="EPSG:32633", transform=place, nodata=value)
        for number, (place, value) in enumerate(zip(places, nodata, strict=True))
    ]
    expected, known = np.zeros((2, 8, 13), dtype=np.uint8), np.zeros((2, 8, 13), dtype=bool)
    for col, image, value in zip((0, 5), pixels, nodata, strict=True):
        data = np.ones(image.shape, dtype=bool) if value is None else image != value
        np.copyto(expected[:, :, col : col + 8], image, where=data)
        known[:, :, col : col + 8] |= data
    with open_image(paths) as source:
        image, valid = source.read(Window(0, 0, 8, 13))
        assert (source.read_data(Window(0, 0, 8, 13))[1] is None) == known.all()
        assert source.read_data(Window(-1, 0, 8, 13))[1] is not None
    np.testing.assert_array_equal(valid, known)
    np.testing.assert_array_equal(image, expected)
