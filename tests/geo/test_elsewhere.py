from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from rvbuild.errors import DataError
from rvbuild.files.urls import Url
from rvbuild.geo.raster.mosaic_source import open_image
from rvbuild.geo.vector.files import read_features
from rvbuild.geo.windows import Window
from tests.geo.conftest import UTM
from tests.range_server import RangeServer, serving
from tests.test_fetch import public_bucket

Write = Callable[..., Path]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    with serving(tmp_path) as server:
        yield server


def write(path: Path, write_raster: Write, seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (3, 512, 768), dtype=np.uint8)
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128}
    write_raster(path, image, transform=Affine(1, 0, 500000, 0, -1, 5800000), crs=UTM, **tiles)
    return image


def test_windows_are_read_by_ranges(tmp_path: Path, write_raster: Write, server: RangeServer) -> None:
    image = write(tmp_path / "a.tif", write_raster)
    with open_image([Url(f"{server.url}/a.tif")]) as source:
        pixels, valid = source.read(Window(100, 300, 64, 64))
    np.testing.assert_array_equal(pixels, image[:, 100:164, 300:364])
    assert valid.all()
    sizes = [int(r.partition("-")[2]) - int(r.removeprefix("bytes=").partition("-")[0]) for _, _, r in server.log if r]
    assert 0 < sum(sizes) < (tmp_path / "a.tif").stat().st_size / 3, "and not as a whole"
    assert {path for _, path, _ in server.log} == {"/a.tif"}, "nothing beside it is looked for"


def test_an_earlier_opening_is_not_remembered(tmp_path: Path, write_raster: Write, server: RangeServer) -> None:
    for seed in (0, 1):
        image = write(tmp_path / "a.tif", write_raster, seed)
        with open_image([Url(f"{server.url}/a.tif")]) as source:
            pixels, _ = source.read(source.grid.window)
        np.testing.assert_array_equal(pixels, image)


def test_a_bucket(tmp_path: Path, write_raster: Write, server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    public_bucket(monkeypatch, server)
    (tmp_path / "bucket").mkdir()
    image = write(tmp_path / "bucket" / "a.tif", write_raster)
    with open_image([Url("s3://bucket/a.tif")]) as source:
        pixels, _ = source.read(Window(0, 0, 10, 10))
    np.testing.assert_array_equal(pixels, image[:, :10, :10])


def test_a_bucket_of_google(
    tmp_path: Path,
    write_raster: Write,
    write_geojson: Callable[..., Path],
    square: Any,
    server: RangeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CPL_GS_ENDPOINT", f"{server.url}/")
    monkeypatch.setenv("GS_NO_SIGN_REQUEST", "YES")
    (tmp_path / "bucket").mkdir()
    for seed in (0, 1):  # an earlier opening is not remembered
        image = write(tmp_path / "bucket" / "a.tif", write_raster, seed)
        with open_image([Url("gs://bucket/a.tif")]) as source:
            pixels, _ = source.read(Window(0, 0, 10, 10))
        np.testing.assert_array_equal(pixels, image[:, :10, :10])
    write_geojson(tmp_path / "bucket" / "a.geojson", [(square(0, 0, 1, 1), {"label": "x"})])
    features = read_features(Url("gs://bucket/a.geojson"), attributes=["label"])
    assert features.attributes[0]["label"] == "x"


def test_what_is_not_there_is_said(server: RangeServer) -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:\d+/a\.tif: cannot be opened as a raster: .*404"):
        open_image([Url(f"{server.url}/a.tif")])


def test_vectors(tmp_path: Path, write_geojson: Callable[..., Path], square: Any, server: RangeServer) -> None:
    write_geojson(tmp_path / "a.geojson", [(square(0, 0, 1, 1), {"label": "x"})])
    features = read_features(Url(f"{server.url}/a.geojson"), attributes=["label"])
    assert features.attributes[0]["label"] == "x"
