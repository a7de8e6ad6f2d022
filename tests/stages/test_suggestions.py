"""The stage of suggestions: which windows of an image may be labelled, and the files that list them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fiona
import numpy as np
import pytest

from rvbuild.errors import DataError
from rvbuild.progress import Silent
from rvbuild.review.suggest.measure import Measured
from rvbuild.stages.draft import features as features_stage
from rvbuild.stages.draft import sums
from rvbuild.stages.suggest import stage
from rvbuild.stages.suggest.windows import Place, Sample
from tests.stages.sample_scenes import CLASSES, LABELS, NULL, digests, image_array, write_aoi, write_raster

HEIGHT, WIDTH, BLOCK_PX, SIDE_PX = 90, 110, 32, 16


class Images:
    """Images with features and sums, and the inputs and settings of the stage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs: dict[str, list[Path]] = {}
        self.settings: dict[str, Any] = {
            "task": "semantic_segmentation",
            "classes": CLASSES,
            "null_id": NULL,
            "background": False,
            "count": 100,
            "window_px": SIDE_PX,
            "grounds": [],
        }

    def add(self, scene: str, seed: int = 0, labels: np.ndarray | None = None, area: Any = None, **where: Any) -> None:
        """Add an image, with labels to learn from if there are some."""
        image = write_raster(self.folder / f"{scene}.tif", image_array(HEIGHT, WIDTH, seed=seed), **where)
        files = self.folder / f"{scene} features"
        files.mkdir()
        settings = {
            "image": {"nodata": None},
            "channels": None,
            "encoder": {"encoder": "random", "stride_px": 4},
            "block_px": BLOCK_PX,
        }
        features_stage.run({"image": [image]}, settings, files, Silent())
        self.inputs[f"features/{scene}"] = sorted(files.iterdir())
        if area is not None:
            self.inputs[f"aoi/{scene}"] = [write_aoi(self.folder / f"{scene}.geojson", area)]
        ground: dict[str, Any] = {"scene": scene, "training": [], "evaluated": [], "unlabelled": []}
        if labels is None:
            ground["unlabelled"].append({"scene": scene})
        else:
            self.inputs[f"labels/{scene}"] = [
                write_raster(self.folder / f"{scene} labels.tif", labels[np.newaxis], **where)
            ]
            ground["training"].append({"scene": scene, "labels": LABELS, "classes": CLASSES})
            self._sum(scene)
        self.settings["grounds"].append(ground)

    def _sum(self, scene: str) -> None:
        files = self.folder / f"{scene} sums"
        files.mkdir()
        settings = {key: self.settings[key] for key in ("task", "classes", "null_id", "background")}
        inputs = {"features": self.inputs[f"features/{scene}"], "labels": self.inputs[f"labels/{scene}"]}
        if f"aoi/{scene}" in self.inputs:
            inputs["aoi"] = self.inputs[f"aoi/{scene}"]
        sums.run(inputs, {**settings, "scene": scene, "labels": LABELS, "folds": 3, "first_fold": 0}, files, Silent())
        self.inputs[f"sums/{scene}"] = sorted(files.iterdir())

    def suggest(self, name: str = "out", **more: Any) -> list[dict[str, Any]]:
        """Run the stage; return the windows."""
        folder = self.folder / name
        folder.mkdir()
        stage.run(self.inputs, {**self.settings, **more}, folder, Silent())
        windows: list[dict[str, Any]] = json.loads((folder / "suggestions.json").read_text())["windows"]
        return windows


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path)


def truth() -> np.ndarray:
    labels = np.ones((HEIGHT, WIDTH), dtype=np.uint8)
    labels[10:40, 10:30] = 0
    return labels


def places(windows: list[dict[str, Any]], scene: str) -> set[tuple[int, int]]:
    return {(window["row"], window["col"]) for window in windows if window["scene"] == scene}


GRID = {(row, col) for row in range(0, HEIGHT, SIDE_PX) for col in range(0, WIDTH, SIDE_PX)}
WHOLE = {(row, col) for row, col in GRID if min(HEIGHT - row, SIDE_PX) * min(WIDTH - col, SIDE_PX) >= SIDE_PX**2 / 2}


def test_pixels_without_a_label_are_suggested_whether_null_or_nodata(images: Images) -> None:
    labels = truth()
    labels[:, 48:] = NULL
    labels[64:] = 255
    images.add("a", labels=labels)
    assert places(images.suggest(), "a") == {(row, col) for row, col in WHOLE if col >= 48 or row >= 64}


def test_of_a_labelled_image_with_an_area_the_rest_is_suggested(images: Images) -> None:
    images.add("a", labels=truth(), area=(0, 0, HEIGHT, 41))  # of the windows at column 32, nine columns are labelled
    windows = images.suggest()
    assert places(windows, "a") == {(row, col) for row, col in WHOLE if col >= 48}
    assert {(window["height"], window["width"]) for window in windows} <= {(16, 16), (10, 16), (16, 14), (10, 14)}


def test_of_an_image_without_labels_all_of_its_area_is_suggested(images: Images) -> None:
    images.add("a", labels=truth())
    images.add("b", seed=1, area=(16, 16, 64, 64))
    windows = images.suggest()
    assert places(windows, "a") == set()
    assert places(windows, "b") == {(row, col) for row in (16, 32, 48) for col in (16, 32, 48)}
    assert [window["rank"] for window in windows] == list(range(1, 10))
    assert [window["rank"] for window in images.suggest("few", count=3)] == [1, 2, 3]


def test_an_image_that_is_labelled_everywhere_counts_as_known(images: Images) -> None:
    images.add("a", labels=truth())
    images.add("b", seed=0)
    images.add("c", seed=1)
    windows = images.suggest()
    # b is the image that a is: nothing new is in it.
    assert [window["scene"] for window in windows[: len(WHOLE)]] == ["c"] * len(WHOLE)
    assert {window["diversity"] for window in windows[len(WHOLE) :]} == {0}


def test_where_labels_are_for_evaluation_nothing_is_suggested(images: Images) -> None:
    images.add("a", labels=truth(), area=(0, 0, HEIGHT, 48))
    images.settings["grounds"][0]["evaluated"] = [{"scene": "east"}]
    images.inputs["aoi/east"] = [write_aoi(images.folder / "east.geojson", (0, 80, HEIGHT, WIDTH))]
    assert places(images.suggest(), "a") == {(row, col) for row, col in WHOLE if 48 <= col < 80}


def test_pixels_without_data_are_not_suggested(images: Images, tmp_path: Path) -> None:
    images.add("a", labels=truth())
    images.add("b", seed=1)
    valid = np.ones((HEIGHT, WIDTH), dtype=np.uint8)
    valid[:32] = 0
    files = tmp_path / "b features"
    np.save(files / "valid.npy", np.packbits(valid, axis=1))
    images.inputs["features/b"] = sorted(files.iterdir())
    assert places(images.suggest(), "b") == {(row, col) for row, col in WHOLE if row >= 32}


@pytest.mark.parametrize("known", [0, 1])
def test_labels_of_one_class_or_none_are_enough(images: Images, known: int) -> None:
    labels = np.full((HEIGHT, WIDTH), NULL, dtype=np.uint8)
    labels[:32, :32] = 1 if known else NULL
    images.add("a", labels=labels)
    windows = images.suggest()
    assert len(windows) == len(WHOLE) - 4 * known
    assert {window["uncertainty"] for window in windows} == {None}
    assert windows[0]["reason"].startswith("less like" if known else "a usual window")
    assert windows[0]["diversity"] is None or known


def test_everything_labelled_is_no_error(images: Images) -> None:
    images.add("a", labels=truth())
    assert images.suggest() == []
    assert [path.name for path in (images.folder / "out").iterdir()] == ["suggestions.json"]


def test_a_reason_names_the_class_that_there_is_little_of(images: Images) -> None:
    images.add("a", labels=truth())
    images.add("b", seed=1)
    window = images.suggest()[0]
    assert window["class"] in ("car", "tree")
    assert f"px of {window['class']}, which has" in window["reason"]
    assert 0 <= window["uncertainty"] <= 0.5
    assert 0 < window["score"] <= 1


def test_polygons_lie_where_the_windows_do(images: Images) -> None:
    images.add("a", labels=truth())
    images.add("b", seed=1)
    windows = images.suggest(count=7)
    with fiona.open(images.folder / "out/windows.gpkg") as file:
        assert file.crs.to_epsg() == 32633
        records = list(file)
    assert [record["properties"]["rank"] for record in records] == list(range(1, 8))
    for record, window in zip(records, windows, strict=True):
        assert record["properties"]["reason"] == window["reason"]
        xs, ys = np.array(record["geometry"]["coordinates"][0]).T
        row, col = window["row"], window["col"]
        assert (xs.min(), ys.max()) == (400_000 + 0.5 * col, 5_800_000 - 0.5 * row)
        assert (np.ptp(xs), np.ptp(ys)) == (0.5 * window["width"], 0.5 * window["height"])
    (lon, lat), *_ = json.loads((images.folder / "out/windows.geojson").read_text())["features"][0]["geometry"][
        "coordinates"
    ][0]
    assert (round(lon), round(lat)) == (14, 52)


def test_each_crs_has_its_files(images: Images) -> None:
    images.add("a", labels=truth(), crs=None)
    images.add("b", seed=1)
    images.add("c", seed=2, crs=None)
    windows = images.suggest()
    assert {window["scene"] for window in windows} == {"b", "c"}
    with fiona.open(images.folder / "out/windows.gpkg") as file:
        assert {record["properties"]["scene"] for record in file} == {"b"}
    assert (images.folder / "out/windows_no_CRS.qml").exists()
    with fiona.open(images.folder / "out/windows_no_CRS.gpkg") as file:
        records = list(file)
    assert {record["properties"]["scene"] for record in records} == {"c"}
    assert {(r["properties"]["row"], r["properties"]["col"]) for r in records} == WHOLE
    feature = json.loads((images.folder / "out/windows_no_CRS.geojson").read_text())["features"][0]
    assert [feature["properties"]["col"], feature["properties"]["row"]] in feature["geometry"]["coordinates"][0]


def test_scenes_with_other_bands_are_told(images: Images) -> None:
    images.add("a", labels=truth())
    images.add("b", seed=1)
    content = images.inputs["features/b"][0]
    described = json.loads(content.read_text())
    assert content.name == "features.json"
    described["names"][0] = "other"
    content.write_text(json.dumps(described))
    with pytest.raises(DataError, match=r"scene b: has .* features, the training scenes"):
        images.suggest()


def test_bytes_do_not_depend_on_threads(images: Images) -> None:
    images.add("a", labels=truth(), area=(0, 0, HEIGHT, 48))
    images.add("b", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        for threads in ("1", "4"):
            patch.setenv("RVBUILD_THREADS", threads)
            images.suggest(threads)
    assert digests(images.folder / "1") == digests(images.folder / "4")


def test_of_many_windows_an_even_sample_is_kept_in_whatever_order_they_come() -> None:
    all_places = [Place("a", 16 * number, 0, 16) for number in range(300)]

    def measured(numbers: list[int]) -> Measured:
        values = np.array(numbers)
        return Measured(values, values[:, np.newaxis], np.zeros((len(numbers), 0)), np.zeros((len(numbers), 0)))

    results = []
    for seed in range(3):
        sample, order = Sample(40), np.random.default_rng(seed).permutation(300).tolist()
        for start in range(0, 300, 7):
            numbers = [number for number in order[start : start + 7] if sample.wants(all_places[number])]
            if numbers:
                sample.add([all_places[number] for number in numbers], measured(numbers))
        kept, values = sample.result()
        assert values is not None
        assert [place.row // 16 for place in kept] == values.pixels.tolist()
        results.append(kept)
    assert len(results[0]) == 40
    assert results[0] == results[1] == results[2]
    rows = [place.row // 16 for place in results[0]]
    assert min(rows) < 60
    assert max(rows) > 240
