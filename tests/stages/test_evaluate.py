from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rvbuild.errors import DataError
from rvbuild.progress import Silent
from rvbuild.stages import evaluate, evaluate_merge
from tests.stages.sample_scenes import CLASSES, LABELS, NULL, digests, empty, write_aoi, write_raster

SETTINGS = {
    "task": "semantic_segmentation",
    "scene": "a",
    "labels": LABELS,
    "classes": CLASSES,
    "null_id": NULL,
    "eval": {},
}
MERGE = {"task": "semantic_segmentation", "classes": CLASSES, "null_id": NULL}


class Scene:
    """A scene's predictions and labels, and the stage on them."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = empty(folder)
        random = np.random.default_rng(seed)
        self.predicted = random.choice([0, 1, 1, 255], (40, 50)).astype(np.uint8)
        self.labels = random.choice([0, 1, 255], (40, 50)).astype(np.uint8)
        self.inputs = {
            "predictions": [write_raster(folder / "labels.tif", self.predicted, nodata=255)],
            "labels": [write_raster(folder / "truth.tif", self.labels, nodata=255)],
            "aoi": [],
        }
        self.runs = 0

    def evaluate(self, **settings: Any) -> Path:
        self.runs += 1
        outputs = empty(self.folder / f"run{self.runs}")
        evaluate.run(self.inputs, {**SETTINGS, **settings}, outputs, Silent())
        return outputs / "eval.json"

    def expected(self, inside: np.ndarray | None = None) -> list[list[int]]:
        matrix = np.zeros((3, 3), dtype=int)
        counted = self.labels != 255 if inside is None else inside & (self.labels != 255)
        predicted = np.where(self.predicted == 255, NULL, self.predicted)
        np.add.at(matrix, (self.labels[counted], predicted[counted]), 1)
        found: list[list[int]] = matrix.tolist()
        return found


def counts(path: Path) -> Any:
    return json.loads(path.read_text())


def test_counts_of_a_scene(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    path = scene.evaluate()
    assert counts(path) == {"scene": "a", "confusion": scene.expected()}
    assert [file.name for file in path.parent.iterdir()] == ["eval.json"]
    assert path.read_text().endswith("\n")


def test_only_the_area_of_interest_counts(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["aoi"] = [write_aoi(scene.folder / "aoi.geojson", (5, 6, 20, 33), (30, 0, 40, 9))]
    inside = np.zeros((40, 50), dtype=bool)
    inside[5:20, 6:33] = inside[30:40, 0:9] = True
    assert counts(scene.evaluate())["confusion"] == scene.expected(inside)


def test_vector_labels(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["labels"] = [write_aoi(scene.folder / "cars.geojson", (10, 10, 20, 30))]
    scene.labels[:] = 255
    scene.labels[10:20, 10:30] = 0
    vector = {
        "kind": "vector",
        "layer": None,
        "class": "car",
        "class_attribute": None,
        "class_map": None,
        "background": None,
        "all_touched": False,
        "buffer_px": {"Point": 1, "LineString": 1},
        "unknown": "error",
    }
    assert counts(scene.evaluate(labels=vector))["confusion"] == scene.expected()
    scene.labels[scene.labels == 255] = 1
    assert counts(scene.evaluate(labels={**vector, "background": "tree"}))["confusion"] == scene.expected()


def test_runs_are_equal_byte_for_byte(tmp_path: Path) -> None:
    scene, other = Scene(tmp_path / "a"), Scene(tmp_path / "b")
    assert digests(scene.evaluate().parent) == digests(other.evaluate().parent)


def test_labels_are_needed(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["labels"] = []
    with pytest.raises(DataError, match=r"scene a: expected labels.*eval\.splits"):
        scene.evaluate()


def test_labels_on_another_grid_are_an_error(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["labels"] = [write_raster(scene.folder / "small.tif", scene.labels[:20, :20], nodata=255)]
    with pytest.raises(DataError, match=r"small\.tif"):
        scene.evaluate()


def merge(folder: Path, inputs: dict[str, list[Path]]) -> Path:
    outputs = empty(folder)
    evaluate_merge.run(inputs, MERGE, outputs, Silent())
    return outputs


def test_scenes_are_merged(tmp_path: Path) -> None:
    scenes = {name: Scene(tmp_path / name, seed) for seed, name in enumerate(["b", "a"])}
    inputs = {f"eval/{name}": [scene.evaluate()] for name, scene in scenes.items()}

    outputs = merge(tmp_path / "merged", inputs)

    evaluation = json.loads((outputs / "eval.json").read_text())
    total = np.array(scenes["a"].expected()) + np.array(scenes["b"].expected())
    assert evaluation["overall"][-1]["conf_mat"] == total.tolist()
    assert evaluation["per_scene"]["b"][-1]["conf_mat"] == scenes["b"].expected()
    assert evaluation["overall"][0]["metrics"]["recall"] == total[0, 0] / total[0].sum()
    assert evaluation["summary"]["overall"]["not_predicted_px"] == total[:, NULL].sum()
    text = (outputs / "eval.md").read_text()
    assert "### a" in text
    assert text.endswith("|\n")


def test_the_order_of_scenes_does_not_matter(tmp_path: Path) -> None:
    paths = {name: Scene(tmp_path / name, seed).evaluate() for seed, name in enumerate("ab")}
    one = merge(tmp_path / "one", {f"eval/{name}": [paths[name]] for name in "ab"})
    other = merge(tmp_path / "other", {f"eval/{name}": [paths[name]] for name in "ba"})
    assert digests(one) == digests(other)
    assert sorted(digests(one)) == ["eval.json", "eval.md"]


def test_merging_equals_one_pass(tmp_path: Path) -> None:
    """Two halves of a scene, by their areas, and the whole."""
    scene = Scene(tmp_path / "a")
    whole = scene.evaluate()
    halves = {}
    for name, box in {"west": (0, 0, 40, 21), "east": (0, 21, 40, 50)}.items():
        scene.inputs["aoi"] = [write_aoi(scene.folder / f"{name}.geojson", box)]
        halves[f"eval/{name}"] = [scene.evaluate(scene=name)]
    one = json.loads((merge(tmp_path / "one", {"eval/a": [whole]}) / "eval.json").read_text())
    two = json.loads((merge(tmp_path / "two", halves) / "eval.json").read_text())
    assert one["overall"] == two["overall"]
    assert one["summary"]["overall"] == two["summary"]["overall"]


def test_no_scenes(tmp_path: Path) -> None:
    outputs = merge(tmp_path / "none", {})
    assert json.loads((outputs / "eval.json").read_text())["per_scene"] == {}


def test_a_pixel_is_in_the_area_if_its_centre_is(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["aoi"] = [write_aoi(scene.folder / "aoi.geojson", (0.4, 0.4, 10.4, 10.6))]
    inside = np.zeros((40, 50), dtype=bool)
    inside[:10, :11] = True  # centres from 0.5 to 9.5 and 10.5
    assert counts(scene.evaluate())["confusion"] == scene.expected(inside)
