"""What runs after an edit: exactly what rests on it, with the reason; and nothing after an edit that means nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import rasterio

from .conftest import BOXES, write_image, write_labels

ALL = {
    "analyze:a",
    "analyze:b",
    "analyze",
    "chip:a",
    "chip:b",
    "chip:c",
    "train",
    "infer:c",
    "predict:c",
    "eval:c",
    "eval",
    "bundle",
    "report:c",
    "report",
}


def test_a_second_build_does_nothing(built):
    assert built.rvbuild("build", "--json").did("fresh") == ALL
    result = built.rvbuild("build")
    assert result.out.startswith("nothing to do (14 artifacts up to date)\n")
    assert "cache/p/predict/c/labels.tif" in result.out and "raw_labels.tif" not in result.out


def test_a_label_edit_in_a_training_scene_rechips_it_alone_then_trains(built):
    write_labels(built.root / "data/a.geojson", [(5, 5, 25, 30)])
    result = built.rvbuild("build", "--json")
    assert result.did("fresh") >= {"analyze:a", "analyze:b", "analyze", "chip:b", "chip:c"}
    assert result.did("built") >= {"chip:a", "train", "infer:c", "predict:c"}
    assert result.reasons("chip:a") == ["labels changed: data/a.geojson"]
    assert result.reasons("train") == ["chips/train/a changed (chip:a)"]


def test_labels_of_a_validation_scene_reach_its_chips_and_evaluation(built):
    write_labels(built.root / "data/c.geojson", [(8, 8, 30, 34)])
    states = built.rvbuild("status", "--json")
    assert states.did("stale") == {"chip:c", "eval:c", "report:c"}
    result = built.rvbuild("eval", "--json")
    assert {"chip:c", "eval:c", "eval"} <= result.did("built")
    assert "infer:c" in result.did("fresh")  # the last model is kept: validation chips do not choose it


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[chip]\n", "[chip]\n# a remark\n"),
        ("[train]\n", "[train]\nseed_comment_only = 0\n"),
        ("epochs = 2\n", "epochs = 2\nworkers = 1\n"),
        ("stride_px = 24\n", 'stride_px = 24\nmethod = "sliding"\nwithin_aoi = true\n'),
    ],
    ids=["comment", "unknown", "workers", "defaults"],
)
def test_cosmetic_edits_of_the_project(built, old, new):
    built.edit(old, new)
    result = built.rvbuild("build", "--json")
    if "seed_comment_only" in new:
        assert result.status == 2
        assert "train.seed_comment_only: unknown key" in result.err
    else:
        assert result.did("fresh") == ALL


def test_tables_in_another_order_change_nothing(built):
    parts = built.project.read_text().split("\n\n")
    built.project.write_text("\n\n".join([parts[0], *reversed(parts[1:])]))
    assert built.rvbuild("build", "--json").did("fresh") == ALL


def test_a_renamed_project_restores_everything(built):
    built.project.rename(built.project.with_name("q.toml"))
    assert built.rvbuild("status", "--json").did("restorable") == ALL
    result = built.rvbuild("build", "--json")
    assert result.did("restored") == ALL
    assert (built.root / "cache/q/predict/c/labels.tif").exists()
    assert (built.root / "cache/q/bundle/q.zip").exists()


def test_a_moved_workspace_runs_nothing(built, tmp_path):
    target = tmp_path / "an other place"
    built.root.rename(target)
    built.root = target
    assert built.rvbuild("build", "--json").did("built") == set()


def test_settings_of_derived_outputs_never_run_the_network(built):
    built.edit("stride_px = 16", 'stride_px = 16\nrgb = true\nvectors = [{ class = "building" }]')
    result = built.rvbuild("build", "--json")
    assert result.did("built") == {"predict:c", "bundle"}
    assert {path.split("/")[-1] for path in built.shown() if path.startswith("predict/c/")} == {
        "building.geojson",
        "building.qml",
        "labels.qml",
        "labels.tif",
        "raw_labels.tif",
        "rgb.tif",
    }
    built.edit('"building" }]', '"building", simplify_px = 1.0 }]')
    assert built.rvbuild("predict", "--json").did("built") == {"predict:c"}
    built.edit('vectors = [{ class = "building", simplify_px = 1.0 }]', "")
    built.edit("rgb = true", "rgb = false")
    assert built.rvbuild("build", "--json").did("built") == set()
    assert {path for path in built.shown() if path.startswith("predict/c/")} == {
        "predict/c/labels.qml",
        "predict/c/labels.tif",
        "predict/c/raw_labels.tif",
    }


def test_a_mosaic_of_all_predicted_scenes(built):
    write_image(built.root / "data/d.tif", BOXES["c"], seed=7)
    built.edit('validation = ["c"]', 'validation = ["c"]\ntest = ["d"]\nby_id.d.labels = false')
    built.edit("stride_px = 16", "stride_px = 16\nmosaic = true")
    result = built.rvbuild("predict", "--json")
    assert result.did("built") == {"infer:d", "predict:d", "mosaic"}
    shown = {path for path in built.shown() if path.startswith("predict/labels")}
    assert shown == {"predict/labels.qml", "predict/labels.vrt"}
    with rasterio.open(built.root / "cache/p/predict/labels.vrt") as file:
        mosaic = file.read()
    with rasterio.open(built.root / "cache/p/predict/d/labels.tif") as file:
        assert (file.read() == mosaic).all()  # both scenes lie at one place, and the later one shows
    built.edit("mosaic = true", 'mosaic = "cog"')
    assert built.rvbuild("predict", "--json").did("built") == {"mosaic"}
    assert "predict/labels.tif" in built.shown()
    assert "mosaic forgotten" in built.rvbuild("clean", "mosaic").out
    built.rvbuild("clean", "predict")
    assert not (built.root / "cache/p/predict").exists()


def test_predict_means_its_inference_too(built):
    before = built.shown()
    result = built.rvbuild("clean", "predict")
    assert not (built.root / "cache/p/predict").exists()
    assert "cache/p/predict/c/raw_labels.tif" in result.out and "labels.qml, labels.tif" in result.out
    assert built.rvbuild("status", "--json").did("missing") == {"infer:c", "predict:c"}
    result = built.rvbuild("predict", "--scene", "c")
    assert result.out.splitlines()[-1] == "  cache/p/predict/c/labels.tif"
    assert built.shown() == before
    output = built.rvbuild("log", "predict").out
    assert "infer:c@0" in output
    assert "predict:c@0" in output
    built.rvbuild("clean", "infer")
    assert built.rvbuild("status", "--json").did("missing") == {"infer:c"}


def test_adding_a_scene_computes_that_scene(built):
    shutil.copy(built.root / "data/c.tif", built.root / "data/d.tif")
    shutil.copy(built.root / "data/c.geojson", built.root / "data/d.geojson")
    built.edit('train = ["a", "b"]', 'train = ["a", "b", "d"]')
    result = built.rvbuild("train", "--json")
    assert result.did("built") == {"chip:d", "analyze:d", "analyze", "train"}
    assert "chips/train/d was added (chip:d)" in result.reasons("train")


def test_set_overrides_for_one_call(built):
    result = built.rvbuild("status", "--set", "train.lr=0.5", "--json")
    assert result.did("stale") == {"train"}
    assert result.reasons("train") == ["train.lr: 0.01 → 0.5"]
    assert result.did("waiting") >= {"infer:c", "predict:c", "bundle"}
    result = built.rvbuild("train", "--set", "train.lr=high")
    assert result.status == 2
    assert "--set train.lr=high" in result.err


def test_clean_forgets_and_the_next_build_really_runs(built):
    before = built.shown()
    result = built.rvbuild("clean", "train")
    assert result.status == 0
    assert not (built.root / "cache/p/train").exists()
    assert built.rvbuild("status", "--json").did("missing") == {"train"}
    result = built.rvbuild("build", "--json")
    assert result.did("built") == {"train"}
    assert result.reasons("train") == ["removed by `rvbuild clean`"]
    assert built.shown() == before


def test_always_make(built):
    before = built.shown()
    result = built.rvbuild("chip", "-B", "--json")
    assert result.did("built") == {"chip:a", "chip:b", "chip:c"}
    assert built.shown() == before


def test_keep_going_finishes_what_can_be_finished(space):
    (space.root / "data/a.geojson").write_text("{ this is not GeoJSON")
    result = space.rvbuild("chip", "-k", "--json")
    assert result.status == 1
    assert result.did("failed") == {"chip:a"}
    assert result.did("built") == {"chip:b", "chip:c"}
    plain = space.rvbuild("build", "-k")
    assert "Traceback" not in plain.out + plain.err
    assert "a.geojson" in plain.out


def test_dry_run_does_nothing(space):
    result = space.rvbuild("build", "-n", "--json")
    assert result.did("missing") == ALL
    assert not (space.root / "cache/p").exists()


def test_why_goes_down_to_the_file(built):
    write_labels(built.root / "data/a.geojson", [(5, 5, 25, 30)])
    out = built.rvbuild("why", "eval", "projects/p.toml").out.splitlines()
    assert out[0] == "eval waits: would be built if its inputs change"
    assert any("because labels changed: data/a.geojson" in line for line in out)
    assert not any("chip:b" in line for line in out)


def test_graph_is_coloured_by_state(built):
    write_labels(built.root / "data/a.geojson", [(5, 5, 25, 30)])
    mermaid = built.rvbuild("graph", "projects/p.toml").out
    assert '["chip:a"]:::stale' in mermaid
    assert '["chip:b"]:::fresh' in mermaid
    dot = built.rvbuild("graph", "--dot").out
    assert dot.startswith("digraph rvbuild {")
    assert 'label="train"' in dot


def test_one_scene_alone(space):
    result = space.rvbuild("chip", "--scene", "b", "--json")
    assert result.did("built") == {"chip:b"}
    assert {a["scene"] for a in result.json["artifacts"]} == {"b"}


def test_json_of_a_build_is_one_object_with_the_documented_keys(space):
    result = space.rvbuild("analyze", "--json")
    assert set(result.json) == {"artifacts", "summary"}
    for artifact in result.json["artifacts"]:
        assert set(artifact) == {"project", "stage", "scene", "state", "reasons", "outputs", "key", "seconds"}
    assert result.json["summary"] == {"built": 3, "restored": 0, "fresh": 0, "failed": 0, "skipped": 0}
    assert Path(space.root / result.json["artifacts"][0]["outputs"][0]).exists()


def test_statistics_beside_an_image_are_no_edit_of_it(built):
    sidecar = built.root / "data/a.tif.aux.xml"
    band = '<PAMDataset><PAMRasterBand band="1">{}</PAMRasterBand></PAMDataset>'
    sidecar.write_text(band.format('<Metadata><MDI key="STATISTICS_MEAN">9.5</MDI></Metadata>'))
    assert built.rvbuild("build", "--json").did("built") == set()
    sidecar.write_text(band.format("<NoDataValue>7</NoDataValue>"))
    assert {"analyze:a", "chip:a"} <= built.rvbuild("status", "--json").did("stale")
