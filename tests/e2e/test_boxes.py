"""Object detection from the command: what is built, what runs after an edit, and where boxes lie."""

from __future__ import annotations

import json
from pathlib import Path

import fiona
import numpy as np
import pytest
from rasterio.warp import transform_geom

from rvbuild.geo.write.qgis import style_path

from .conftest import Space, write_image, write_labels
from .projects import write_project

ALL = {
    *("analyze:a", "analyze:b", "analyze", "chip:a", "chip:b", "chip:c", "train", "infer:c", "infer:t"),
    *("predict:c", "predict:t", "eval:c", "eval", "bundle", "report:c", "report:t", "report"),
}
NEVER_AGAIN = {"analyze", "chip:a", "chip:b", "chip:c", "train", "infer:c", "infer:t"}
"""What no setting of the merge or of the evaluation runs."""


@pytest.fixture
def fresh(space: Space) -> Space:
    write_project(space.root, "boxes")
    return space


def test_everything_is_built_with_one_class_and_an_unlabelled_test_scene(boxes: Space) -> None:
    # Raster Vision stops with KeyError: 'test' when it cuts chips, and with an AttributeError when it evaluates.
    assert boxes.rvbuild("build", "--json").did("fresh") == ALL
    assert boxes.rvbuild("build").out.startswith("nothing to do")
    shown = {path.split("/")[-1] for path in boxes.shown() if path.startswith("predict/t/")}
    assert shown == {"boxes.geojson", "boxes.qml", "detections.json", "raw_boxes.safetensors"}
    evaluation = boxes.read("eval/eval.json")
    assert set(evaluation["per_scene"]) == {"c"}
    assert evaluation["summary"]["overall"]["labels"] == 2
    assert [item["class_name"] for item in evaluation["overall"]] == ["building", "average"]
    assert (boxes.root / "cache/p/chip/a/contact.png").exists() and (boxes.root / "cache/p/report/c.jpg").exists()
    picture = (boxes.root / "cache/p/eval/precision_recall.svg").read_text()
    assert picture in (boxes.root / "cache/p/report/index.html").read_text()
    log = (boxes.root / "cache/p/train/log.jsonl").read_text()
    assert set(json.loads(log)["train_losses"]) == {
        *("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")
    }


def test_boxes_lie_on_their_pixels_inside_the_scene(boxes: Space) -> None:
    folder = boxes.root / "cache/p/predict/c"
    written = [row for row in boxes.read("predict/c/detections.json")["boxes"] if row[5] >= 0.1]
    features = json.loads((folder / "boxes.geojson").read_text())["features"]
    assert 0 < len(features) == len(written)
    for feature, (x0, y0, x1, y1, class_id, score) in zip(features, written, strict=True):
        assert feature["properties"] == {"class_id": class_id, "class_name": "building", "score": score}
        moved = transform_geom("EPSG:4326", "EPSG:32633", feature["geometry"])
        xs, ys = zip(*moved["coordinates"][0], strict=True)
        bounds = [min(xs), min(ys), max(xs), max(ys)]
        wanted = [500000 + x0 / 2, 5800000 - y1 / 2, 500000 + x1 / 2, 5800000 - y0 / 2]
        assert bounds == pytest.approx(wanted, abs=1e-6)
        assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 64
    scores = [row[5] for row in written]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("setting", ["score_thresh=0.28", "merge_thresh=0.3"])
def test_thresholds_run_only_the_merge(boxes: Space, setting: str) -> None:
    before = boxes.shown()
    result = boxes.rvbuild("build", "--json", "--set", f"predict.{setting}")
    assert result.status == 0, result.out
    assert not result.did("built") & NEVER_AGAIN
    # The test scene is the same image, so that one result serves both.
    assert result.did("built") | result.did("restored") >= {"predict:c", "predict:t", "eval:c", "eval", "bundle"}
    after = boxes.shown()
    assert after["predict/c/raw_boxes.safetensors"] == before["predict/c/raw_boxes.safetensors"]
    assert after["predict/c/detections.json"] != before["predict/c/detections.json"]
    back = boxes.rvbuild("build", "--json")
    assert not back.did("built") and boxes.shown() == before


def test_the_threshold_of_the_evaluation_evaluates_alone(boxes: Space) -> None:
    result = boxes.rvbuild("build", "--json", "--set", "eval.iou_thresh=0.25")
    assert result.did("built") == {"eval:c", "eval", "report:c", "report"}
    assert boxes.read("eval/eval.json")["summary"]["overall"]["iou_thresh"] == 0.25


def test_a_geopackage_holds_the_same(boxes: Space) -> None:
    result = boxes.rvbuild("build", "--json", "--set", 'predict.boxes="gpkg"')
    assert not result.did("built") & {*NEVER_AGAIN, "eval:c"}
    path = boxes.root / "cache/p/predict/c/boxes.gpkg"
    count = sum(row[5] >= 0.1 for row in boxes.read("predict/c/detections.json")["boxes"])
    with fiona.open(path) as layer:
        assert len(layer) == count and layer.crs.to_epsg() == 32633
        assert set(next(iter(layer)).properties) == {"class_id", "class_name", "score"}
    assert style_path(path).exists()


def test_a_bundle_predicts_the_same(boxes: Space, tmp_path: Path) -> None:
    result = boxes.rvbuild("predict", "cache/p/bundle/p.zip", "data/c.tif", "-o", str(tmp_path / "out"), "--allow-code")
    assert result.status == 0, result.out + result.err
    for name in ("boxes.geojson", "detections.json", "raw_boxes.safetensors", "boxes.qml"):
        assert (tmp_path / "out/c" / name).read_bytes() == (boxes.root / "cache/p/predict/c" / name).read_bytes()
    again = boxes.rvbuild("predict", "cache/p/bundle/p.zip", "data/c.tif", "-o", str(tmp_path / "out"), "--allow-code")
    assert again.status == 0, again.out + again.err


def test_one_csv_for_all_scenes_is_read_scene_by_scene(fresh: Space) -> None:
    path = fresh.root / "data/boxes.csv"
    rows = "a.tif,5,5,25,20,House\na.tif,35,30,60,55,House\nb.tif,10,30,30,60,House\nc.tif,8,8,30,30,House\n"
    path.write_text("image_path,xmin,ymin,xmax,ymax,label\n" + rows)
    fresh.edit('{ vector = "data/{id}.geojson", class = "building" }',
               '{ csv = "data/boxes.csv", class_map = { House = "building" } }')  # fmt: skip
    result = fresh.rvbuild("chip", "--json")
    assert result.status == 0, result.out + result.err
    path.write_text(path.read_text().replace("b.tif,10,30,30,60", "b.tif,12,30,30,60"))
    result = fresh.rvbuild("chip", "--json")
    assert result.did("built") == {"chip:b"} and result.did("fresh") == {"chip:a", "chip:c"}
    path.write_text(path.read_text().replace("House", "Hous"))
    result = fresh.rvbuild("chip", "-k")
    assert result.status == 1 and "has `label` = 'Hous'; did you mean \"House\"?" in result.out + result.err
    assert "Traceback" not in result.out + result.err


def test_scenes_with_an_empty_label_file_and_background(fresh: Space) -> None:
    write_labels(fresh.root / "data/b.geojson", [])
    write_labels(fresh.root / "data/c.geojson", [])
    fresh.edit("stride_px = 16", "stride_px = 16\nneg_ratio = 1.0\nioa_thresh = 0.5\nclip = true")
    result = fresh.rvbuild("eval")
    assert result.status == 0, result.out + result.err
    overall = fresh.read("eval/eval.json")["summary"]["overall"]
    assert overall["labels"] == 0 and overall["mean_ap50"] is None and overall["recall"] is None
    assert fresh.read("chip/b/index.json")["class_counts"] == [0, 0]
    assert fresh.read("chip/b/index.json")["count"] == 1
    assert fresh.read("chip/a/index.json")["class_counts"][0] > 2


def test_boxes_belong_to_an_area_by_their_centre(boxes: Space) -> None:
    # A window that lies in the area in part is predicted: Raster Vision predicts those wholly inside alone.
    write_labels(boxes.root / "data/area.geojson", [(0, 0, 20, 64)])
    boxes.edit("[scenes.by_id.t]", '[scenes.by_id.c]\naoi = "data/area.geojson"\n\n[scenes.by_id.t]')
    result = boxes.rvbuild("eval", "--json")
    assert result.status == 0, result.out + result.err
    rows = np.array(boxes.read("predict/c/detections.json")["boxes"])
    centres = (rows[:, 0] + rows[:, 2]) / 2
    assert len(rows) and centres.max() < 20 and centres.max() > 10
    # The label whose centre lies outside is not wanted.
    assert boxes.read("eval/eval.json")["summary"]["overall"]["labels"] == 1


def test_a_detector_of_the_users_learns_and_evaluation_finds_it_out(fresh: Space) -> None:
    rng = np.random.default_rng(0)
    for number, scene in enumerate("abc"):
        places = [(x, y) for x in range(2, 60, 20) for y in range(2, 60, 20)]
        corners = [(x + int(rng.integers(0, 6)), y + int(rng.integers(0, 6))) for x, y in places]
        detected = [(x, y, x + 12, y + 12) for x, y in corners if rng.uniform() < 0.7]
        write_image(fresh.root / f"data/{scene}.tif", detected, seed=number)
        write_labels(fresh.root / f"data/{scene}.geojson", detected)
    fresh.edit("lr = 2e-3", "lr = 1e-2")
    fresh.edit("epochs = 1", 'epochs = 12\nschedule = "constant"\nselect = "best"')
    result = fresh.rvbuild("eval")
    assert result.status == 0, result.out + result.err
    overall = fresh.read("eval/eval.json")["summary"]["overall"]
    assert overall["mean_ap50"] > 0.8
    assert "Mean average precision" in (fresh.root / "cache/p/eval/eval.md").read_text()
    assert "Validation AP50" in (fresh.root / "cache/p/train/curves.svg").read_text()
    # Its code counts: the scenes are trained on and predicted again.
    path = fresh.root / "detector.py"
    path.write_text(path.read_text().replace("16", "8"))
    assert "train" in fresh.rvbuild("build", "-n", "--json").did("stale")
