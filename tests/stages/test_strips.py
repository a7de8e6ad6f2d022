from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvbuild.errors import DataError
from rvbuild.progress import Silent
from rvbuild.stages import infer, strips
from rvbuild.stages.window_rows import WindowRows
from tests.stages.sample_scenes import (
    digests,
    empty,
    image_array,
    predict_settings,
    write_aoi,
    write_model,
    write_raster,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_model(tmp_path_factory.mktemp("model"))


def cut(height: int, width: int, settings: dict[str, Any], rows: int) -> list[list[int]]:
    """Return strips of `rows` rows; those of projects end with groups of rows of windows, but need not."""
    return [[first, min(height, first + rows)] for first in range(0, height, rows)]


def in_strips(inputs: dict[str, list[Path]], settings: dict[str, Any], of: list[list[int]], folder: Path) -> Path:
    """Predict a scene in strips, and join them; return the directory of the result."""
    areas = []
    if "aoi" in inputs or "area" in settings:
        area = empty(folder / "area")
        strips.run_area(inputs, {**settings, "strips": of}, area, Silent())
        areas = [area / f"{number}.tif" for number in range(len(of))]
        assert sorted(area.iterdir()) == sorted(areas)
    without = {key: value for key, value in settings.items() if key != "area"}
    joined = dict(inputs)
    for number, rows in enumerate(of):
        outputs = empty(folder / f"strip{number}")
        of_strip = {"image": inputs["image"], "model": inputs["model"], "area": areas[number : number + 1]}
        strips.run(of_strip, {**without, "rows": rows}, outputs, Silent())
        joined[f"strips/{number}"] = list(outputs.iterdir())
    outputs = empty(folder / "joined")
    strips.run_join({**joined, "model": []}, {**settings, "strips": {"rows": of}}, outputs, Silent())
    return outputs


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 60)),
    rows=st.integers(3, 60),
    stride=st.sampled_from([5, 8, 16]),
    blend=st.sampled_from(["none", "mean", "cosine"]),
    scores=st.sampled_from([False, "float32", "uint8"]),
    batch_size=st.sampled_from([1, 2, 3]),
    boxes=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.integers(1, 30)), max_size=2
    ),
    nodata=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_strips_joined_are_the_scene_predicted_at_once(
    model: list[Path],
    shape: tuple[int, int],
    rows: int,
    stride: int,
    blend: str,
    scores: Any,
    batch_size: int,
    boxes: list[tuple[int, int, int, int]],
    nodata: bool,
) -> None:
    """For any height of strips, whole groups of windows or not, with all that may be missing: byte for byte."""
    height, width = shape
    image = image_array(height, width)
    image[:, : height // 2 if nodata else 0, 10:40] = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = {"image": [write_raster(folder / "image.tif", image)], "model": model}
        if boxes:
            inputs["aoi"] = [
                write_aoi(folder / "aoi.geojson", *((y + 0.3, x, y + h, x + w + 0.7) for y, x, h, w in boxes))
            ]
        settings = predict_settings(stride_px=stride, blend=blend, scores=scores, batch_size=batch_size)
        settings["image"] = {"nodata": 0 if nodata else None}
        once = empty(folder / "once")
        infer.run(inputs, settings, once, Silent())
        expected = digests(once)
        found = digests(in_strips(inputs, settings, cut(height, width, settings, rows), folder))
    assert found == expected
    assert set(found) == {"raw_labels.tif", "scores.tif"} if scores else {"raw_labels.tif"}


def test_an_edit_of_the_area_changes_the_strips_that_it_touches(model: list[Path], tmp_path: Path) -> None:
    height, width = 200, 70
    inputs = {"image": [write_raster(tmp_path / "image.tif", image_array(height, width))]}
    settings = predict_settings(stride_px=8, batch_size=1)
    of = cut(height, width, settings, 40)
    areas = []
    for number, edge in enumerate((30, 33)):
        inputs["aoi"] = [write_aoi(tmp_path / f"{number}.geojson", (0, 0, edge, 60), (90, 5, 190, 50))]
        outputs = empty(tmp_path / f"area{number}")
        strips.run_area(inputs, {**settings, "strips": of}, outputs, Silent())
        areas.append(digests(outputs))
    changed = {name for name in areas[0] if areas[0][name] != areas[1][name]}
    rows = WindowRows.of(width, (16, 8), 1)
    touched = [n for n, (first, stop) in enumerate(of) if rows.pixels(rows.needed(first, stop), height)[0] < 33]
    assert changed == {f"{number}.tif" for number in touched} and len(touched) < len(of)


def test_a_scene_is_predicted_at_once_where_a_strip_is_not_there(model: list[Path], tmp_path: Path) -> None:
    inputs = {"image": [write_raster(tmp_path / "image.tif", image_array(50, 40))], "model": model}
    settings = predict_settings()
    once, again = empty(tmp_path / "once"), empty(tmp_path / "again")
    infer.run(inputs, settings, once, Silent())
    of = {"strips": {"rows": [[0, 32], [32, 50]]}}
    strips.run_join({**inputs, "strips/0": [], "strips/1": []}, {**settings, **of}, again, Silent())
    assert digests(again) == digests(once)


def test_an_image_of_another_height_is_reported(model: list[Path], tmp_path: Path) -> None:
    inputs = {"image": [write_raster(tmp_path / "image.tif", image_array(50, 40))], "model": model}
    with pytest.raises(DataError, match=r"image\.tif: expected at least 60 rows, .*; found 50: run again"):
        strips.run(inputs, {**predict_settings(), "rows": [32, 60]}, empty(tmp_path / "out"), Silent())


def test_no_window_outside_of_a_strip_is_read(
    model: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    original = infer._read

    def reading(source: Any, window: Any, size_px: int) -> Any:
        read.append(window)
        return original(source, window, size_px)

    monkeypatch.setattr(infer, "_read", reading)
    inputs = {"image": [write_raster(tmp_path / "image.tif", image_array(300, 80))], "model": model}
    settings = predict_settings(stride_px=16, batch_size=1)
    strips.run(inputs, {**settings, "rows": [128, 192]}, empty(tmp_path / "out"), Silent())
    rows = WindowRows.of(80, (16, 16), 1)
    top, bottom = rows.pixels(rows.needed(128, 192), 300)
    assert {window.row for window in read} == set(np.arange(top, bottom, 16).tolist())
    assert bottom - top < 150
