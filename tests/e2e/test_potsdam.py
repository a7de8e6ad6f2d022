"""The Potsdam project as a user runs it, on seeded data of the same layout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio

import rvbuild

from .conftest import Space

REPOSITORY = Path(rvbuild.__file__).parents[1]
SMALL = [
    "chip.size_px=64",
    "predict.stride_px=64",
    "train.model=unet",
    "train.model_args={ width = 4, depth = 2 }",
    "train.pretrained=false",
    "train.epochs=1",
    "train.lr=1e-2",
]


@pytest.fixture
def space(tmp_path: Path) -> Space:
    root = tmp_path / "ws"
    (root / "projects").mkdir(parents=True)
    shutil.copy(REPOSITORY / "projects/potsdam.toml", root / "projects/potsdam.toml")
    data = tmp_path / "potsdam data"
    command = [sys.executable, "-m", "rvbuild.data.samples", "potsdam", str(data), "--size-px", "72"]
    subprocess.run(command, check=True, capture_output=True)
    return Space(root, {"POTSDAM": str(data)})


def test_the_users_command_end_to_end(space, monkeypatch):
    monkeypatch.setenv("POTSDAM", space.environment["POTSDAM"])
    small = [word for override in SMALL for word in ("--set", override)]
    result = space.process("predict", "projects/potsdam.toml", *small, "--json")
    assert result.status == 0, result.err
    assert result.did("built") >= {"predict:2_12", "predict:3_12", "predict:6_12", "train", "chip:2_10", "analyze"}
    with rasterio.open(space.root / "cache/potsdam/predict/2_12/labels.tif") as labels:
        assert labels.shape == (72, 72)
        assert labels.crs.to_epsg() == 32633
        assert labels.nodata == 255
        assert labels.colormap(1)[1][:3] == (0, 0, 255)  # building
    assert (space.root / "cache/potsdam/predict/2_12/car.geojson").exists()
    again = space.rvbuild("predict", "projects/potsdam.toml", *small, "--json")
    assert again.did("built") == set()
    edited = Path(space.environment["POTSDAM"]) / "5_Labels_for_participants/top_potsdam_2_11_label.tif"
    with rasterio.open(edited, "r+") as file:
        image = file.read()
        image[:, 10:30, 10:30] = 0
        image[2, 10:30, 10:30] = 255
        file.write(image)
    status = space.rvbuild("status", "projects/potsdam.toml", *small, "--json")
    assert status.did("stale") == {"chip:2_11"}  # one of 24 scenes


def test_without_data_it_lists_what_is_missing_and_where_it_is(space, tmp_path):
    space.environment["POTSDAM"] = str(tmp_path / "nowhere")
    result = space.process("predict", "projects/potsdam.toml")
    assert result.status == 2
    assert "ISPRS" in result.err
    assert "2_10" in result.err
    assert "Traceback" not in result.err
