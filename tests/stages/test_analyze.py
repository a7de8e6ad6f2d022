from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from rvbuild.errors import DataError
from rvbuild.progress import Silent
from rvbuild.stages.analyze import merge as analyze_merge
from rvbuild.stages.analyze import scene as analyze
from rvbuild.stages.analyze import strips

SETTINGS = {"image": {"nodata": None}, "channels": None, "sample": 1.0, "seed": 7}

Analyze = Callable[..., dict[str, Any]]


def write(path: Path, image: np.ndarray, **profile: Any) -> Path:
    shape = {"count": image.shape[0], "height": image.shape[1], "width": image.shape[2], "dtype": image.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as file:
        file.write(image)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Analyze:
    def go(files: Sequence[Path], name: str = "out", **settings: Any) -> dict[str, Any]:
        outputs = tmp_path / name
        outputs.mkdir()
        analyze.run({"image": files}, {**SETTINGS, **settings}, outputs, Silent())
        assert [path.name for path in outputs.iterdir()] == ["stats.json"]
        value: dict[str, Any] = json.loads((outputs / "stats.json").read_text())
        return value

    return go


@pytest.fixture
def merge(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def go(scenes: dict[str, Path], name: str = "merged") -> dict[str, Any]:
        outputs = tmp_path / name
        outputs.mkdir()
        analyze_merge.run({f"stats/{scene}": [path] for scene, path in scenes.items()}, {}, outputs, Silent())
        value: dict[str, Any] = json.loads((outputs / "stats.json").read_text())
        return value

    return go


def noise(*shape: int, dtype: Any = np.uint16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 4000, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
def test_statistics_are_of_all_valid_pixels(tmp_path: Path, run: Analyze, dtype: Any) -> None:
    image = noise(3, 300, 270, dtype=dtype)
    image[1, :100] = 5
    value = run([write(tmp_path / "image.tif", image, nodata=5)])
    assert value["dtype"] == np.dtype(dtype).name
    for band, stats in zip(image, value["bands"], strict=True):
        known = band[band != 5].astype(np.float64)
        assert stats["count"] == known.size
        assert stats["mean"] == pytest.approx(known.mean(), rel=1e-12)
        assert stats["std"] == pytest.approx(known.std(), rel=1e-12)
        assert (stats["min"], stats["max"]) == (known.min(), known.max())
        assert sum(stats["histogram"]["counts"]) == known.size


def test_a_band_that_is_nodata_in_a_window_is_no_trouble(tmp_path: Path, run: Analyze) -> None:
    image = noise(2, 600, 50)
    image[0, :300] = 0
    value = run([write(tmp_path / "image.tif", image, nodata=0)])
    assert value["bands"][0]["count"] == 300 * 50
    assert value["bands"][0]["mean"] == pytest.approx(image[0, 300:].mean())


@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 300, 300), (2, 256, 700)])
def test_scenes_of_any_size(tmp_path: Path, run: Analyze, shape: tuple[int, int, int]) -> None:
    path = write(tmp_path / "image.tif", noise(*shape))
    assert run([path])["bands"][0]["count"] == shape[1] * shape[2]
    assert 0 < run([path], "sampled", sample=0.4)["bands"][0]["count"] <= shape[1] * shape[2]


def test_channels_and_nodata_of_the_project_count(tmp_path: Path, run: Analyze) -> None:
    image = noise(3, 20, 20)
    image[2, 0, :] = 9999
    value = run([write(tmp_path / "image.tif", image)], channels=[2], image={"nodata": 9999})
    assert len(value["bands"]) == 1
    assert value["bands"][0]["count"] == 380


def test_the_same_bytes_each_time(tmp_path: Path, run: Analyze) -> None:
    path = write(tmp_path / "image.tif", noise(2, 500, 400))
    for name, sample in (("one", 1.0), ("two", 1.0), ("three", 0.4), ("four", 0.4)):
        run([path], name, sample=sample)
    written = {name: (tmp_path / name / "stats.json").read_bytes() for name in ("one", "two", "three", "four")}
    assert written["one"] == written["two"]
    assert written["three"] == written["four"] != written["one"]
    assert written["one"].endswith(b"}\n")


def test_a_sample_is_whole_blocks_drawn_by_the_seed() -> None:
    every = analyze.blocks(2560, 2560, 0.9999999, 1)
    assert len(every) == 100
    sample = analyze.blocks(2560, 2560, 0.2, 1)
    assert len(sample) == 20
    assert set(sample) <= set(every)
    assert sample == sorted(sample), "striped files are read from top to bottom"
    assert sample == analyze.blocks(2560, 2560, 0.2, 1) != analyze.blocks(2560, 2560, 0.2, 2)
    assert len(analyze.blocks(300, 300, 1e-9, 1)) == 1


def test_all_blocks_partition_the_scene() -> None:
    seen = np.zeros((700, 9000), int)
    for window in analyze.blocks(700, 9000, 1.0, 0):
        seen[window.row : window.row_stop, window.col : window.col_stop] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_merged_scenes_are_one_scene(
    tmp_path: Path, run: Analyze, merge: Callable[..., dict[str, Any]], dtype: Any
) -> None:
    image = noise(2, 90, 50, dtype=dtype)
    run([write(tmp_path / "a.tif", image[:, :40])], "a")
    run([write(tmp_path / "b.tif", image[:, 40:])], "b")
    whole = run([write(tmp_path / "whole.tif", image)], "whole")
    merged = merge({"a": tmp_path / "a/stats.json", "b": tmp_path / "b/stats.json"})
    if np.dtype(dtype).kind == "f":
        for band, other in zip(merged["bands"], whole["bands"], strict=True):
            assert band["histogram"] == other["histogram"]
            assert band["mean"] == pytest.approx(other["mean"], rel=1e-14)
            assert band["m2"] == pytest.approx(other["m2"], rel=1e-12)
    else:
        assert (tmp_path / "merged/stats.json").read_bytes() == (tmp_path / "whole/stats.json").read_bytes()


def test_one_scene_merged_is_itself(tmp_path: Path, run: Analyze, merge: Callable[..., dict[str, Any]]) -> None:
    alone = run([write(tmp_path / "a.tif", noise(2, 40, 50, dtype=np.float32))], "a")
    assert merge({"a": tmp_path / "a/stats.json"}) == alone


def test_a_band_without_valid_pixels_is_refused_if_no_scene_has_any(
    tmp_path: Path, run: Analyze, merge: Callable[..., dict[str, Any]]
) -> None:
    image = noise(2, 40, 50)
    image[1] = 0
    empty = run([write(tmp_path / "a.tif", image, nodata=0)], "a")
    assert empty["bands"][1]["count"] == 0
    run([write(tmp_path / "b.tif", noise(2, 40, 50))], "b")
    with pytest.raises(DataError, match=r"band 1 .*no valid pixel in any of the scenes a, c: .*Check `nodata`"):
        merge({"a": tmp_path / "a/stats.json", "c": tmp_path / "a/stats.json"}, "refused")
    merged = merge({"a": tmp_path / "a/stats.json", "b": tmp_path / "b/stats.json"})
    assert [band["count"] for band in merged["bands"]] == [4000, 2000]


def test_scenes_that_differ_are_refused(tmp_path: Path, run: Analyze, merge: Callable[..., dict[str, Any]]) -> None:
    run([write(tmp_path / "a.tif", noise(2, 10, 10))], "a")
    run([write(tmp_path / "b.tif", noise(3, 10, 10))], "b")
    with pytest.raises(DataError, match="a has 2 bands of uint16, b has 3 of uint16"):
        merge({"a": tmp_path / "a/stats.json", "b": tmp_path / "b/stats.json"})


def test_values_that_cannot_be_meant_are_told(tmp_path: Path, run: Analyze) -> None:
    image = noise(1, 10, 10, dtype=np.float64)
    image[0, 0, 0] = np.finfo(np.float64).min
    path = write(tmp_path / "image.tif", image)
    with pytest.raises(DataError, match=r"image\.tif: band 0 .*too large for statistics.*`nodata`"):
        run([path], "refused")
    value = run([path], image={"nodata": float(np.finfo(np.float64).min)})
    assert value["bands"][0]["count"] == 99


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("rows", [256, 512])
@pytest.mark.parametrize("sample", [1.0, 0.6])
def test_strips_joined_are_the_scene_measured_at_once(
    tmp_path: Path, dtype: Any, rows: int, sample: float, run: Analyze
) -> None:
    """Also where a strip has no valid pixel in a band."""
    image = noise(2, 1100, 300, dtype=dtype)
    if dtype is np.float32:
        image = (image * 1e3 + np.random.default_rng(1).normal(size=image.shape)).astype(dtype)
    image[0, 256:512], image[1, ::7] = 5, 5
    files = [write(tmp_path / "image.tif", image, nodata=5)]
    settings = {**SETTINGS, "sample": sample}
    run(files, "once", sample=sample)
    cut = [[first, min(1100, first + rows)] for first in range(0, 1100, rows)]
    inputs: dict[str, Sequence[Path]] = {"image": files}
    for number, of_strip in enumerate(cut):
        outputs = tmp_path / str(number)
        outputs.mkdir()
        strips.run({"image": files}, {**settings, "rows": of_strip}, outputs, Silent())
        inputs[f"strips/{number}"] = list(outputs.iterdir())
    for name, given in (("joined", inputs), ("without one", {**inputs, "strips/1": []})):
        (tmp_path / name).mkdir()
        strips.run_join(given, {**settings, "strips": {"rows": cut}}, tmp_path / name, Silent())
        assert (tmp_path / name / "stats.json").read_bytes() == (tmp_path / "once/stats.json").read_bytes()


def test_a_strip_of_too_large_values_is_refused_and_one_of_another_image(tmp_path: Path) -> None:
    image = np.full((1, 600, 20), 1, np.float64)
    image[0, 300:310] = 1e300
    files, outputs = [write(tmp_path / "image.tif", image)], tmp_path / "out"
    outputs.mkdir()
    with pytest.raises(DataError, match="too large for statistics"):
        strips.run({"image": files}, {**SETTINGS, "rows": [256, 512]}, outputs, Silent())
    with pytest.raises(DataError, match="expected at least 768 rows"):
        strips.run({"image": files}, {**SETTINGS, "rows": [512, 768]}, outputs, Silent())
