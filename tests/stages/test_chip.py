from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from rvbuild.errors import DataError
from rvbuild.geo.windows import sliding
from rvbuild.learn.chips.dataset import Chips
from rvbuild.learn.hooks import TargetOps
from rvbuild.progress import Silent
from rvbuild.stages.chip import cut as cutting
from rvbuild.stages.chip import stage as chip
from rvbuild.tasks.segmentation import task as task
from tests.stages.sample_scenes import (
    CLASSES,
    NULL,
    chip_settings,
    digests,
    empty,
    image_array,
    label_array,
    write_aoi,
    write_raster,
)

HEIGHT, WIDTH = 70, 90


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.total = self.done = 0

    def start(self, step: str, total: int, unit: str) -> None:
        self.total = total

    def advance(self, n: int = 1) -> None:
        self.done += n

    def note(self, message: str) -> None:
        self.notes.append(message)


class Cut:
    """The chips of one run of the stage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index: dict[str, Any] = json.loads((folder / "index.json").read_text())
        shards = [safetensors.numpy.load_file(folder / shard["images"]) for shard in self.index["shards"]]
        labels = [safetensors.numpy.load_file(folder / shard["labels"]) for shard in self.index["shards"]]
        self.windows = np.concatenate([shard["windows"] for shard in shards]) if shards else np.zeros((0, 4), int)
        self.images = np.concatenate([shard["images"] for shard in shards]) if shards else np.zeros((0,))
        self.labels = np.concatenate([shard["labels"] for shard in labels]) if shards else np.zeros((0,))


class Scene:
    """A scene's files, and the stage on them."""

    def __init__(self, folder: Path, image: np.ndarray, labels: np.ndarray, **profile: Any) -> None:
        self.folder, self.image, self.labels = folder, image, labels
        self.inputs = {
            "image": [write_raster(folder / "image.tif", image, **profile)],
            "labels": [write_raster(folder / "label.tif", labels)],
            "aoi": [],
        }
        self.runs = 0

    def cut(self, progress: Silent | None = None, extra: dict[str, Any] | None = None, **settings: Any) -> Cut:
        self.runs += 1
        outputs = empty(self.folder / f"run{self.runs}")
        chip.run(self.inputs, {**chip_settings(**settings), **(extra or {})}, outputs, progress or Silent())
        return Cut(outputs)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, image_array(HEIGHT, WIDTH), label_array(HEIGHT, WIDTH))


def padded(array: np.ndarray, fill: int) -> np.ndarray:
    margins = [(0, 0)] * (array.ndim - 2) + [(0, 40), (0, 40)]
    return np.pad(array, margins, constant_values=fill)


def test_sliding_chips_are_the_pixels_of_their_windows(scene: Scene) -> None:
    progress = Notes()
    cut = scene.cut(progress, stride_px=12)

    windows = sliding(HEIGHT, WIDTH, 16, 12)
    assert cut.windows.tolist() == [list(w) for w in windows]
    for i, (row, col, height, width) in enumerate(windows):
        here = np.s_[..., row : row + height, col : col + width]
        assert (cut.images[i] == padded(scene.image, 0)[here]).all()
        assert (cut.labels[i] == padded(scene.labels, NULL)[here]).all()
    assert progress.total == progress.done == len(windows)
    assert progress.notes == []


def test_the_index_describes_the_chips(scene: Scene) -> None:
    cut = scene.cut()
    index = cut.index
    counts = [np.bincount(labels.ravel(), minlength=3).tolist() for labels in cut.labels]
    assert index == {
        "scene": "a",
        "task": "semantic_segmentation",
        "size_px": 16,
        "dtype": "uint8",
        "bands": 3,
        "classes": ["car", "tree", "null"],
        "count": 30,
        "shards": [{"images": "images-00000.safetensors", "labels": "labels-00000.safetensors", "count": 30}],
        "class_counts": np.sum(counts, axis=0).tolist(),
        "chip_class_counts": counts,
    }
    assert sum(index["class_counts"]) == 30 * 16 * 16


def test_training_reads_them(scene: Scene) -> None:
    cut = scene.cut(method="random", size_limits_px=[12, 20])
    chips = Chips({"chips/train/a": sorted(cut.folder.iterdir())}, TargetOps(task.unpack, task.orient, task.collate))
    assert len(chips) == 10
    sample = chips[3]
    assert (sample.image == cut.images[3]).all()
    assert (sample.target["labels"] == cut.labels[3]).all()


@pytest.mark.parametrize("chip_settings_", [{"method": "sliding"}, {"method": "random", "size_limits_px": [9, 30]}])
def test_runs_are_equal_byte_for_byte(scene: Scene, chip_settings_: dict[str, Any]) -> None:
    first, second = scene.cut(**chip_settings_), scene.cut(**chip_settings_)
    assert digests(first.folder) == digests(second.folder)
    assert set(digests(first.folder)) == {
        *("index.json", "contact.png", "images-00000.safetensors", "labels-00000.safetensors"),
    }


def test_random_chips_are_resampled_to_one_size(scene: Scene) -> None:
    cut = scene.cut(method="random", per_scene=40, size_limits_px=[10, 30])
    assert cut.images.shape == (40, 3, 16, 16)
    assert len(set(cut.windows[:, 2])) > 5
    for window, image, labels in zip(cut.windows, cut.images, cut.labels, strict=True):
        row, col, size, _ = window
        if size == 16:
            assert (image == scene.image[:, row : row + 16, col : col + 16]).all()
        places = ((2 * np.arange(16) + 1) * size) // 32
        assert (labels == scene.labels[row : row + size, col : col + size][np.ix_(places, places)]).all()
        part = scene.image[:, row : row + size, col : col + size]
        assert abs(float(image.mean()) - float(part.mean())) < 12


def test_nothing_outside_the_area_is_trained_on(scene: Scene) -> None:
    scene.inputs["aoi"] = [write_aoi(scene.folder / "aoi.geojson", (10, 20, 50, 73))]
    inside = np.zeros((HEIGHT, WIDTH), dtype=bool)
    inside[10:50, 20:73] = True
    hidden = padded(np.where(inside, scene.labels, NULL), NULL)

    within, touching = scene.cut(), scene.cut(within_aoi=False)

    assert {tuple(w) for w in within.windows} == {(r, c, 16, 16) for r in (16, 32) for c in (32, 48)}
    assert len(touching.windows) == 4 * 4
    assert {tuple(w) for w in within.windows} < {tuple(w) for w in touching.windows}
    for cut in (within, touching):
        for (row, col, height, width), labels in zip(cut.windows, cut.labels, strict=True):
            assert (labels == hidden[row : row + height, col : col + width]).all()


def test_nodata_pixels_have_no_label(tmp_path: Path) -> None:
    image = image_array(HEIGHT, WIDTH)
    image[:, 5:12, 3:20] = 0
    image[0, 30:40, 30:40] = 0  # one band of three: still data
    scene = Scene(tmp_path, image, np.zeros((HEIGHT, WIDTH), dtype=np.uint8), nodata=0)
    cut = scene.cut()
    assert (cut.labels[0] == NULL).sum() == 7 * 13
    whole = np.full((HEIGHT + 40, WIDTH + 40), 9, dtype=np.uint8)
    for (row, col, height, width), labels in zip(cut.windows, cut.labels, strict=True):
        whole[row : row + height, col : col + width] = labels
    assert (whole[5:12, 3:20] == NULL).all()
    assert (whole[30:40, 30:40] == 0).all()
    shard = safetensors.numpy.load_file(cut.folder / "images-00000.safetensors")
    valid = np.unpackbits(shard["valid"], axis=-1, count=16).astype(bool)
    assert (~valid[0]).sum() == 3 * 7 * 13


@pytest.mark.parametrize(("max_nodata", "dropped"), [(1.0, 1), (0.5, 2), (0.25, 3), (0.01, 4)])
def test_chips_with_too_much_nodata_are_dropped(tmp_path: Path, max_nodata: float, dropped: int) -> None:
    image = image_array(32, 32)
    image[:, :16, :16] = 0  # all
    image[:, :16, 24:] = 0  # half
    image[:, 16:24, :8] = 0  # a quarter
    image[:, 20, 20:24] = 0  # 4 of 256
    scene = Scene(tmp_path, image, np.ones((32, 32), dtype=np.uint8), nodata=0)
    assert scene.cut(max_nodata=max_nodata).index["count"] == 4 - dropped


def test_beyond_the_edge_is_nodata_too(scene: Scene) -> None:
    assert scene.cut(max_nodata=0.5).index["count"] == 4 * 6  # 70 = 4 x 16 + 6, 90 = 5 x 16 + 10


def test_a_scene_smaller_than_a_chip_is_one_chip(tmp_path: Path) -> None:
    scene = Scene(tmp_path, image_array(10, 13), label_array(10, 13))
    cut = scene.cut()
    assert cut.windows.tolist() == [[0, 0, 16, 16]]
    assert (cut.images[0, :, :10, :13] == scene.image).all()
    assert (cut.images[0, :, 10:] == 0).all()
    assert (cut.labels[0, :, 13:] == NULL).all()


def test_chips_are_kept_by_the_classes_in_them(scene: Scene) -> None:
    every = scene.cut()
    cars = np.array(every.index["chip_class_counts"])[:, 0]
    rule = {"classes": ["car"], "min_px": 64, "otherwise": 0.0}

    kept = scene.cut(keep=rule)
    assert kept.windows.tolist() == every.windows[cars >= 64].tolist()
    assert 0 < kept.index["count"] < every.index["count"]

    sampled = {tuple(w) for w in scene.cut(keep={**rule, "otherwise": 0.5}).windows}
    assert {tuple(w) for w in kept.windows} < sampled < {tuple(w) for w in every.windows}


def test_whether_a_chip_survives_does_not_depend_on_the_others(scene: Scene) -> None:
    rule = {"classes": ["car"], "min_px": 300, "otherwise": 0.5}
    every = {tuple(w) for w in scene.cut(keep=rule, within_aoi=False).windows}
    scene.inputs["aoi"] = [write_aoi(scene.folder / "aoi.geojson", (20, 20, 60, 80))]
    part = scene.cut(keep=rule, within_aoi=False)
    considered = {(r, c, 16, 16) for r in (16, 32, 48) for c in (16, 32, 48, 64)}
    assert {tuple(w) for w in part.windows} == every & considered


def test_a_scene_without_chips_is_legal(scene: Scene) -> None:
    progress = Notes()
    scene.inputs["aoi"] = [write_aoi(scene.folder / "aoi.geojson", (20, 20, 25, 25))]
    cut = scene.cut(progress, method="random")
    assert cut.index["count"] == 0
    assert cut.index["shards"] == []
    assert cut.index["class_counts"] == [0, 0, 0]
    assert [path.name for path in cut.folder.iterdir()] == ["index.json"]
    (note,) = progress.notes
    assert "scene a: no chips, because no window lies entirely in the area of interest (5 x 5 px around it" in note


def test_a_scene_whose_chips_are_all_dropped_says_so(scene: Scene) -> None:
    progress = Notes()
    cut = scene.cut(progress, keep={"classes": ["car"], "min_px": 999, "otherwise": 0.0})
    assert cut.index["count"] == 0
    assert progress.notes == [
        "scene a: no chips, because all of its 30 windows were dropped; see chip.keep and chip.max_nodata"
    ]


def test_channels_and_types(tmp_path: Path) -> None:
    scene = Scene(tmp_path, image_array(32, 32, bands=4, dtype="uint16"), label_array(32, 32))
    cut = scene.cut(extra={"channels": [3, 0]})
    assert cut.images.dtype == np.uint16
    assert (cut.images[0] == scene.image[[3, 0], :16, :16]).all()
    assert (cut.index["bands"], cut.index["dtype"]) == (2, "uint16")


def test_the_contact_sheet_shows_chips_beside_their_labels(scene: Scene) -> None:
    cut = scene.cut()
    with Image.open(cut.folder / "contact.png") as sheet:
        assert sheet.width > 1000
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 24) or []}
    assert {(255, 255, 0), (0, 255, 0)} <= colours


def test_labels_are_needed(scene: Scene) -> None:
    scene.inputs["labels"] = []
    with pytest.raises(DataError, match="scene a: expected labels"):
        scene.cut()


def test_errors_of_the_readers_come_through(scene: Scene) -> None:
    bad = scene.labels.copy()
    bad[60, 70] = 9
    scene.inputs["labels"] = [write_raster(scene.folder / "bad.tif", bad)]
    with pytest.raises(DataError, match=r"bad\.tif.*9"):
        scene.cut()


def test_an_unknown_class_in_the_keep_rule(scene: Scene) -> None:
    with pytest.raises(DataError, match=r'chip\.keep\.classes: there is no class "cars"; did you mean "car"'):
        scene.cut(keep={"classes": ["cars"], "min_px": 1, "otherwise": 0.0})


def test_inputs_are_only_read(scene: Scene) -> None:
    before = {path.name: path.read_bytes() for path in scene.folder.iterdir()}
    cut = scene.cut()
    after = {path.name: path.read_bytes() for path in scene.folder.iterdir() if path != cut.folder}
    assert after == before
    assert len(CLASSES) == 3


@pytest.mark.parametrize("profile", [{}, {"nodata": 7}])
def test_one_core_cuts_the_same_chips_with_what_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: dict[str, Any]
) -> None:
    scene = Scene(tmp_path, image_array(HEIGHT, WIDTH), label_array(HEIGHT, WIDTH), **profile)
    results = []
    for count in (2, 1):
        monkeypatch.setattr(cutting, "cores", lambda count=count: count)
        opened: list[object] = []
        real = cutting.open_scene_image
        monkeypatch.setattr(cutting, "open_scene_image", lambda *args, real=real, o=opened: o.append(0) or real(*args))
        results.append(digests(scene.cut().folder))
        monkeypatch.setattr(cutting, "open_scene_image", real)
        assert bool(opened) == (count > 1)
    assert results[0] == results[1]
