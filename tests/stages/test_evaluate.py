from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rvbuild import rules
from rvbuild.errors import DataError
from rvbuild.progress import Silent
from rvbuild.stages.analyze.scene import BLOCK_PX
from rvbuild.stages.evaluate import scene as evaluate
from rvbuild.stages.evaluate import strips
from rvbuild.tasks.metrics import places
from rvbuild.tasks.segmentation.score import BLOCK_ROWS
from tests.stages.sample_evaluations import SETTINGS, Scene
from tests.stages.sample_scenes import digests, write_aoi, write_raster


def counts(path: Path) -> Any:
    return json.loads(path.read_text())


def test_counts_of_a_scene(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    path = scene.evaluate()
    assert counts(path) == {"scene": "a", "confusion": scene.expected()}
    assert {file.name for file in path.parent.iterdir()} == {"eval.json", "places.json"}
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


def test_a_pixel_is_in_the_area_if_its_centre_is(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a")
    scene.inputs["aoi"] = [write_aoi(scene.folder / "aoi.geojson", (0.4, 0.4, 10.4, 10.6))]
    inside = np.zeros((40, 50), dtype=bool)
    inside[:10, :11] = True  # centres from 0.5 to 9.5 and 10.5
    assert counts(scene.evaluate())["confusion"] == scene.expected(inside)


@pytest.mark.parametrize("rows", [512, 1024])
@pytest.mark.parametrize("area", [False, True])
def test_strips_added_are_the_scene_evaluated_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, area: bool
) -> None:
    """With the worst places of all strips, with scores, and where no pixel of a strip counts."""
    monkeypatch.setattr(places, "MOST", 4)
    monkeypatch.setattr(places, "MOST_OF_PAIR", 2)
    random, height = np.random.default_rng(0), 1900
    folder = tmp_path / "scene"
    folder.mkdir()
    predicted = random.choice([0, 1, 1, 255], (height, 600)).astype(np.uint8)
    truth = np.where(random.random(predicted.shape) < 0.9, predicted, random.choice([0, 1, 255], predicted.shape))
    inputs: dict[str, list[Path]] = {
        "predictions": [write_raster(folder / "labels.tif", predicted, nodata=255)],
        "labels": [write_raster(folder / "truth.tif", truth.astype(np.uint8), nodata=255)],
        "scores": [write_raster(folder / "scores.tif", random.random((2, height, 600)).astype(np.float32))],
        "aoi": [write_aoi(folder / "aoi.geojson", (100, 50, 400, 500), (1100, 0, 1200, 600))] if area else [],
    }

    def run(stage: Callable[..., None], name: str, given: Mapping[str, Sequence[Path]], **more: Any) -> list[Path]:
        outputs = tmp_path / name
        outputs.mkdir()
        stage(given, {**SETTINGS, **more}, outputs, Silent())
        return list(outputs.iterdir())

    cut = [[first, min(height, first + rows)] for first in range(0, height, rows)]
    parts = {
        f"strips/{number}": run(strips.run, str(number), inputs, rows=of_strip) for number, of_strip in enumerate(cut)
    }
    run(evaluate.run, "once", inputs)
    run(strips.run_join, "joined", {**inputs, **parts}, strips={"rows": cut})
    run(strips.run_join, "without one", {**inputs, **parts, "strips/1": []}, strips={"rows": cut})
    assert digests(tmp_path / "joined") == digests(tmp_path / "without one") == digests(tmp_path / "once")
    assert "score_histogram" in counts(tmp_path / "once/eval.json")
    with pytest.raises(DataError, match="expected at least 2000 rows"):
        run(strips.run, "other", inputs, rows=[1536, 2000])


def test_strips_begin_where_blocks_do() -> None:
    assert rules.evaluate.BLOCK_ROWS == BLOCK_ROWS
    assert rules.analyze.BLOCK_PX == BLOCK_PX
