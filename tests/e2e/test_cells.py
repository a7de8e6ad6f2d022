"""Chip classification from the command: what is built, what runs after an edit, and where cells lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_geom

from .conftest import Space, write_image, write_labels
from .projects import CELLS, write_project

ALL = {
    *("analyze:a", "analyze:b", "analyze", "chip:a", "chip:b", "chip:c", "train"),
    *("infer:c", "infer:t", "predict:c", "predict:t", "eval:c", "eval", "bundle"),
    *("report:c", "report:t", "report"),
}


@pytest.fixture
def fresh(space: Space) -> Space:
    write_project(space.root, "cells")
    return space


def test_everything_is_built_with_an_unlabelled_test_scene(cells: Space) -> None:
    assert cells.rvbuild("build", "--json").did("fresh") == ALL
    assert cells.rvbuild("build").out.startswith("nothing to do (17 artifacts up to date)\n")
    shown = {path.split("/")[-1] for path in cells.shown() if path.startswith("predict/t/")}
    assert shown == {"cells.geojson", "cells.json", "cells.qml", "labels.qml", "labels.tif"}
    evaluation = cells.read("eval/eval.json")
    assert set(evaluation["per_scene"]) == {"c"}
    assert evaluation["summary"]["overall"]["labelled_cells"] == 25
    assert evaluation["summary"]["overall"]["not_predicted_cells"] == 0
    index = cells.read("chip/a/index.json")
    assert index["count"] == 25 and index["size_px"] == 15
    assert sum(index["class_counts"]) == 25 and index["class_counts"][2] == 0
    assert (cells.root / "cache/p/chip/a/contact.png").exists()


def test_cells_lie_on_their_pixels(cells: Space) -> None:
    folder = cells.root / "cache/p/predict/c"
    with rasterio.open(folder / "labels.tif") as file:
        assert file.shape == (5, 5)
        assert file.transform.a == 7.5 and (file.transform.c, file.transform.f) == (500000, 5800000)
        ids = file.read(1)
    features = json.loads((folder / "cells.geojson").read_text())["features"]
    assert len(features) == 25
    for feature in features:
        properties = feature["properties"]
        assert ids[properties["row"], properties["column"]] == properties["class_id"]
        assert properties["score_building"] + properties["score_ground"] == pytest.approx(1, abs=1e-6)
        moved = transform_geom("EPSG:4326", "EPSG:32633", feature["geometry"])
        xs, ys = zip(*moved["coordinates"][0], strict=True)
        left, top = 500000 + 7.5 * properties["column"], 5800000 - 7.5 * properties["row"]
        assert [min(xs), max(xs), min(ys), max(ys)] == pytest.approx([left, left + 7.5, top - 7.5, top], abs=1e-6)


def test_predicted_cells_are_labels_that_agree_with_them(cells: Space) -> None:
    """Odd cells, some of which overhang, on the way out to longitude and latitude and back."""
    shutil.copy(cells.root / "cache/p/predict/c/cells.geojson", cells.root / "data/found.geojson")
    cells.edit(
        "[scenes.by_id.t]",
        '[scenes.by_id.c]\nlabels = { vector = "data/found.geojson", class_attribute = "class_name", cell_px = 15, '
        'cells = "polygons" }\n\n[scenes.by_id.t]',
    )
    result = cells.rvbuild("eval", "--json")
    assert result.status == 0, result.out + result.err
    summary = cells.read("eval/eval.json")["summary"]["overall"]
    assert (summary["labelled_cells"], summary["accuracy"]) == (25, 1)


def test_predict_settings_never_retrain(cells: Space) -> None:
    cells.project.write_text(CELLS + '\n[predict]\ncells = "gpkg"\nscores = "float32"\n')
    result = cells.rvbuild("build", "--json")
    # Nothing is inferred again. The test scene is the same image, so that one prediction serves both.
    assert result.did("built") == {"predict:c", "bundle"}
    assert result.did("restored") == {"predict:t"}
    assert (cells.root / "cache/p/predict/c/cells.gpkg").exists()


def test_a_bundle_predicts_the_same(cells: Space, tmp_path: Path) -> None:
    result = cells.rvbuild("predict", "cache/p/bundle/p.zip", "data/c.tif", "-o", str(tmp_path / "out"))
    assert result.status == 0, result.out + result.err
    for name in ("cells.geojson", "cells.json", "labels.qml", "labels.tif"):
        assert (tmp_path / "out/c" / name).read_bytes() == (cells.root / "cache/p/predict/c" / name).read_bytes()
    again = cells.rvbuild("predict", "cache/p/bundle/p.zip", "data/c.tif", "-o", str(tmp_path / "out"))
    assert again.status == 0, again.out + again.err


def test_it_learns_and_evaluation_finds_it_out(fresh: Space) -> None:
    # A building or nothing in each cell, and evaluation by scene boundaries that odd cells do not meet.
    rng = np.random.default_rng(0)
    for number, scene in enumerate("abc"):
        boxes = [(15 * c, 15 * r, 15 * c + 15, 15 * r + 15) for r in range(5) for c in range(5) if rng.uniform() < 0.5]
        write_image(fresh.root / f"data/{scene}.tif", boxes, size=75, seed=number)
        write_labels(fresh.root / f"data/{scene}.geojson", boxes)
    fresh.edit("epochs = 2", "epochs = 15")
    result = fresh.rvbuild("eval")
    assert result.status == 0, result.out + result.err
    overall = fresh.read("eval/eval.json")["summary"]["overall"]
    assert overall["accuracy"] == overall["mean_average_precision"] == 1
    assert "Accuracy 1.000" in (fresh.root / "cache/p/eval/eval.md").read_text()
    log = (fresh.root / "cache/p/train/log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["metrics"]["accuracy"] == 1
    assert "Validation F1" in (fresh.root / "cache/p/train/curves.svg").read_text()


def test_a_scene_with_an_empty_label_file(fresh: Space) -> None:
    write_labels(fresh.root / "data/b.geojson", [])
    result = fresh.rvbuild("build")
    assert result.status == 0, result.out + result.err
    assert fresh.read("chip/b/index.json")["class_counts"] == [0, 25, 0]


def test_without_a_background_unlabelled_cells_are_left_out(fresh: Space) -> None:
    fresh.edit(
        'class = "building", background = "ground"',
        'class_attribute = "kind", class_map = { g = "ground", b = "building" }',
    )
    for scene in "abc":
        path = fresh.root / f"data/{scene}.geojson"
        write_labels(path, [(0, 0, 15, 15), (30, 30, 45, 45)])
        data = json.loads(path.read_text())
        for feature, kind in zip(data["features"], "gb", strict=True):
            feature["properties"]["kind"] = kind
        path.write_text(json.dumps(data))
    result = fresh.rvbuild("build")
    assert result.status == 0, result.out + result.err
    assert fresh.read("chip/a/index.json")["count"] == 2
    evaluation = fresh.read("eval/eval.json")
    assert evaluation["summary"]["overall"]["labelled_cells"] == 2
    assert sum(evaluation["overall"][0]["conf_mat_dict"].values()) == 2


def test_polygons_that_are_cells(fresh: Space) -> None:
    fresh.edit('background = "ground", cell_px = 15', 'cells = "polygons", background = "ground", cell_px = 15')
    for scene in "abc":
        write_labels(fresh.root / f"data/{scene}.geojson", [(15, 0, 30, 15), (30, 30, 45, 45), (60, 60, 75, 75)])
    result = fresh.rvbuild("build")
    assert result.status == 0, result.out + result.err
    assert fresh.read("chip/a/index.json")["class_counts"] == [3, 0, 0]
    assert fresh.read("eval/eval.json")["summary"]["overall"]["labelled_cells"] == 3


def test_label_rasters_random_windows_and_resampled_cells(fresh: Space) -> None:
    for scene in "abc":
        with rasterio.open(fresh.root / f"data/{scene}.tif") as image:
            labels = (image.read(1) <= 100).astype(np.uint8)
            profile = {**image.profile, "count": 1}
        with rasterio.open(fresh.root / f"data/{scene}_label.tif", "w", **profile) as file:
            file.write(labels, 1)
    fresh.edit(
        '{ vector = "data/{id}.geojson", class = "building", background = "ground", cell_px = 15 }',
        '{ raster = "data/{id}_label.tif", cell_px = 20 }',
    )
    fresh.edit("[train]", '[chip]\nsize_px = 24\nmethod = "random"\nper_scene = 7\n\n[train]')
    result = fresh.rvbuild("build")
    assert result.status == 0, result.out + result.err
    assert fresh.read("chip/a/index.json")["count"] == 7
    cells = fresh.read("predict/c/cells.json")
    assert cells["cell_px"] == 20 and len(cells["cells"]) == 16


def test_cells_belong_to_an_area_by_their_centre(fresh: Space) -> None:
    # Columns 0 to 24: the centre of the second column of cells, 22.5, lies inside, though its cells do not.
    write_labels(fresh.root / "data/area.geojson", [(0, 0, 24, 64)])
    fresh.edit("[scenes.by_id.t]", '[scenes.by_id.c]\naoi = "data/area.geojson"\n\n[scenes.by_id.t]')
    result = fresh.rvbuild("build")
    assert result.status == 0, result.out + result.err
    places = {tuple(cell[:2]) for cell in fresh.read("predict/c/cells.json")["cells"]}
    assert places == {(row, column) for row in range(5) for column in (0, 1)}
    overall = fresh.read("eval/eval.json")["summary"]["overall"]
    assert (overall["labelled_cells"], overall["not_predicted_cells"]) == (10, 0)
    # To train on, cells lie in the area wholly.
    assert fresh.read("chip/c/index.json")["count"] == 5


#: A classifier of the user's.
NETWORK = """\
from torch import nn


def make(in_channels, num_classes, width=4):
    body = nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(width, num_classes))
"""


def test_a_network_of_the_users_is_trained_bundled_and_part_of_the_key(fresh: Space, tmp_path: Path) -> None:
    path = fresh.root / "network.py"
    path.write_text(NETWORK)
    fresh.edit(
        'model = "cnn"\nmodel_args = { width = 4, depth = 2 }', 'model = "network:make"\nmodel_args = { width = 6 }'
    )
    result = fresh.rvbuild("build")
    assert result.status == 0, result.out + result.err
    words = ("predict", "cache/p/bundle/p.zip", "data/c.tif", "-o", str(tmp_path / "out"))
    assert "allow it with --allow-code" in fresh.rvbuild(*words).err
    result = fresh.rvbuild(*words, "--allow-code")
    assert result.status == 0, result.out + result.err
    assert (tmp_path / "out/c/cells.json").read_bytes() == (fresh.root / "cache/p/predict/c/cells.json").read_bytes()
    path.write_text(NETWORK.replace("nn.ReLU()", "nn.SiLU()"))
    assert "train" in fresh.rvbuild("build", "-n", "--json").did("stale")


def test_the_best_epoch_is_chosen_by_accuracy(fresh: Space) -> None:
    fresh.edit("epochs = 2", 'epochs = 3\nselect = "best"\nselect_metric = "accuracy"')
    result = fresh.rvbuild("train")
    assert result.status == 0, result.out + result.err
    fresh.edit("[train]", "[chip]\nsize_px = 300\n\n[train]")
    result = fresh.rvbuild("check")
    assert result.status == 0, result.out + result.err


def test_a_model_that_needs_larger_chips_is_a_message(fresh: Space) -> None:
    fresh.edit('model = "cnn"\nmodel_args = { width = 4, depth = 2 }', 'model = "inception_v3"')
    result = fresh.rvbuild("train")
    assert result.status == 2
    assert 'train.model: "inception_v3" needs chips of at least 75 px, but chip.size_px is 15' in result.err
