from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from rvbuild.progress import Silent
from rvbuild.stages.evaluate import merge as evaluate_merge
from tests.stages.sample_evaluations import Scene
from tests.stages.sample_scenes import CLASSES, NULL, digests, empty, write_aoi

MERGE = {"task": "semantic_segmentation", "classes": CLASSES, "null_id": NULL}


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
    assert "](confusion.svg)" in text
    assert f"{total[0, 1]:,} of {total[0].sum():,} pixels" in (outputs / "confusion.svg").read_text()


def test_the_order_of_scenes_does_not_matter(tmp_path: Path) -> None:
    paths = {name: Scene(tmp_path / name, seed).evaluate() for seed, name in enumerate("ab")}
    first = merge(tmp_path / "one", {f"eval/{name}": [paths[name]] for name in "ab"})
    other = merge(tmp_path / "other", {f"eval/{name}": [paths[name]] for name in "ba"})
    assert digests(first) == digests(other)
    assert sorted(digests(first)) == ["confusion.svg", "eval.json", "eval.md"]


def test_merging_equals_one_pass(tmp_path: Path) -> None:
    """Two halves of a scene, by their areas, and the whole."""
    scene = Scene(tmp_path / "a")
    whole = scene.evaluate()
    halves = {}
    for name, box in {"west": (0, 0, 40, 21), "east": (0, 21, 40, 50)}.items():
        scene.inputs["aoi"] = [write_aoi(scene.folder / f"{name}.geojson", box)]
        halves[f"eval/{name}"] = [scene.evaluate(scene=name)]
    whole_result = json.loads((merge(tmp_path / "one", {"eval/a": [whole]}) / "eval.json").read_text())
    two = json.loads((merge(tmp_path / "two", halves) / "eval.json").read_text())
    assert whole_result["overall"] == two["overall"]
    assert whole_result["summary"]["overall"] == two["summary"]["overall"]


def test_no_scenes(tmp_path: Path) -> None:
    outputs = merge(tmp_path / "none", {})
    assert json.loads((outputs / "eval.json").read_text())["per_scene"] == {}
