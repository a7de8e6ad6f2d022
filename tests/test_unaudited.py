"""Reads that Python's audit hooks do not report."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import fiona
import numpy as np
import pytest
import rasterio
import safetensors
import safetensors.numpy

from rvbuild.language import unaudited
from rvbuild.process.variables import PINNED, value_digests


@pytest.mark.parametrize(
    "name",
    [
        "{}",
        "/vsigzip/{}",
        "/vsizip/{}/inner/a.tif",
        "zip://{}!inner/a.tif",
        "GPKG:{}:layer",
        'NETCDF:"{}":band',
        "file://{}",
    ],
)
def test_files_in_the_names_of_datasets(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.bin"
    path.touch()
    assert list(unaudited.files_of(name.format(path))) == [str(path)]


def test_no_files_in_the_names_of_datasets(tmp_path: Path) -> None:
    for name in ("", "/vsimem/a.tif", "https://example.org/a.tif", str(tmp_path), str(tmp_path / "a.tif")):
        assert list(unaudited.files_of(name)) == []


def test_compiled_readers_report_files(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.zeros(1)}, tmp_path / "a.safetensors")
    (tmp_path / "a.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    reported: list[str] = []
    unaudited.report_files()
    sys.addaudithook(lambda event, args: reported.append(Path(args[0]).name) if event == unaudited.EVENT else None)
    profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile):
        assert reported == []
    with (
        rasterio.open(tmp_path / "a.tif"),
        fiona.open(tmp_path / "a.geojson"),
        safetensors.safe_open(tmp_path / "a.safetensors", "np"),
    ):
        assert reported == ["a.tif", "a.geojson", "a.safetensors"]


def test_variables_report_their_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_OF_TESTS", "1")
    reads: list[tuple[str | None, str]] = []
    unaudited.report_variables(lambda name, frame: reads.append((name, frame.f_code.co_filename)))
    try:
        assert os.environ["A_OF_TESTS"] == os.getenv("A_OF_TESTS") == os.environ.get("A_OF_TESTS") == "1"
        assert "B_OF_TESTS" not in os.environ
        os.environ["B_OF_TESTS"] = "2"
        del os.environ["B_OF_TESTS"]
        assert {**os.environ}["A_OF_TESTS"] == "1"
    finally:
        unaudited.report_variables(None)
    assert reads[:4] == [("A_OF_TESTS", __file__)] * 3 + [("B_OF_TESTS", __file__)]
    assert (None, __file__) in reads
    count = len(reads)
    assert os.environ["A_OF_TESTS"] == "1" and len(reads) == count


def test_the_value_of_a_variable_is_that_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for value in ("Europe/Berlin", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", value)
        monkeypatch.setenv("GDAL_NO_SUCH_OPTION", value)
        monkeypatch.setenv("A_OF_TESTS", value)
        names = ("TZ", "GDAL_NO_SUCH_OPTION", "A_OF_TESTS", "B_OF_TESTS")
        of_names = value_digests(names)
        digests.append([of_names[name] for name in names])
    assert "TZ" in PINNED
    assert digests[0][:2] == digests[1][:2] and digests[0][2] != digests[1][2]
    assert digests[0][3] == digests[0][1] == ""
