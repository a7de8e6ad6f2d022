"""The example projects of public data sets, each on small seeded data of the same layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import rvbuild

from .conftest import BOXES, Space, write_image, write_labels

PROJECTS = Path(rvbuild.__file__).parents[1] / "projects"


def space(tmp_path: Path, name: str) -> Space:
    root = tmp_path / "ws"
    (root / "projects").mkdir(parents=True)
    shutil.copy(PROJECTS / f"{name}.toml", root / "projects/p.toml")
    return Space(root)


def scene(image: Path, labels: Path, number: int) -> None:
    boxes = BOXES["abc"[number % 3]]
    image.parent.mkdir(parents=True, exist_ok=True)
    labels.parent.mkdir(parents=True, exist_ok=True)
    write_image(image, boxes, seed=number)
    write_labels(labels, boxes)


def built(space: Space, *settings: str) -> set[str]:
    words = [word for setting in settings for word in ("--set", setting)]
    result = space.rvbuild("eval", "projects/p.toml", "--json", *words)
    assert result.status == 0, result.out + result.err
    return result.did("built")


RIO = [
    "013022223130",
    "013022223131",
    "013022223132",
    "013022223133",
    "013022232020",
    "013022232022",
    "013022232023",
    "013022232032",
    "013022232033",
    "013022232120",
    "013022232122",
    "013022232200",
    "013022232210",
]
TINY = ("train.pretrained=false", "train.epochs=1", "train.batch_size=4")
UNET = ("train.model=unet", "train.model_args={ width = 2, depth = 1 }", "chip.size_px=32")


def test_spacenet_vegas(tmp_path, monkeypatch):
    here = space(tmp_path, "spacenet_vegas")
    monkeypatch.setenv("SPACENET", str(tmp_path / "spacenet"))
    base, prefix = tmp_path / "spacenet/SN2_buildings/train/AOI_2_Vegas", "SN2_buildings_train_AOI_2_Vegas"
    ids = [1, 7, 10, 99, 100]
    for number in ids:
        image = base / f"PS-RGB/{prefix}_PS-RGB_img{number}.tif"
        scene(image, base / f"geojson_buildings/{prefix}_geojson_buildings_img{number}.geojson", number)
    done = built(here, *TINY, *UNET)
    assert {f"chip:{number}" for number in ids} <= done
    assert len([label for label in done if label.startswith("eval:")]) == 1  # a fifth of them
    image = base / f"PS-RGB/{prefix}_PS-RGB_img8.tif"
    scene(image, base / f"geojson_buildings/{prefix}_geojson_buildings_img8.geojson", 8)
    assert "chip:8" in built(here, *TINY, *UNET)


def test_spacenet_rio(tmp_path, monkeypatch):
    here = space(tmp_path, "spacenet_rio")
    monkeypatch.setenv("SPACENET", str(tmp_path / "spacenet"))
    base = tmp_path / "spacenet/AOIs/AOI_1_Rio/srcData"
    labels = base / "buildingLabels/Rio_Buildings_Public_AOI_v2.geojson"
    for number in RIO:
        scene(base / f"mosaic_3band/{number}.tif", labels, 0)
    write_labels(base / "buildingLabels/Rio_OUTLINE_Public_AOI.geojson", [(0, 0, 64, 64)])
    cnn = ("train.model=cnn", "train.model_args={ width = 2, depth = 1 }", "scene.labels.cell_px=16")
    done = built(here, *TINY, *cnn)
    assert {"chip:013022223130", "train", "eval:013022232210", "eval"} <= done
    counts = json.loads((here.root / "cache/p/chip/013022223130/index.json").read_text())["class_counts"]
    assert sum(counts) == 16
    assert all(count > 0 for count in counts[:2])


def test_cowc_potsdam(tmp_path, monkeypatch):
    here = space(tmp_path, "cowc_potsdam")
    monkeypatch.setenv("POTSDAM", str(tmp_path / "potsdam"))
    monkeypatch.setenv("COWC", str(tmp_path / "cowc"))
    for number, id_ in enumerate(("2_10", "2_13")):
        image = tmp_path / f"potsdam/4_Ortho_RGBIR/top_potsdam_{id_}_RGBIR.tif"
        scene(image, tmp_path / f"cowc/labels/all/top_potsdam_{id_}_RGBIR.json", number)
    few = ('scenes.train=["2_10"]', 'scenes.validation=["2_13"]')
    done = built(here, *TINY, *few, "chip.size_px=64", "chip.per_scene=4", "train.model=ssdlite_mobilenet_v3_large")
    assert {"chip:2_10", "train", "infer:2_13", "predict:2_13", "eval"} <= done


def test_xview(tmp_path, monkeypatch):
    here = space(tmp_path, "xview")
    monkeypatch.setenv("XVIEW", str(tmp_path / "xview"))
    for number in (100, 1036, 104, 5, 88):
        labels = tmp_path / f"xview/labels/{number}.geojson"
        scene(tmp_path / f"xview/train_images/{number}.tif", labels, number)
        content = json.loads(labels.read_text())
        for feature, kind in zip(content["features"], (18, 73), strict=True):  # a car, a building
            feature["properties"] |= {"type_id": kind, "image_id": f"{number}.tif"}
        labels.write_text(json.dumps(content))
    small = ("chip.size_px=64", "chip.per_scene=2", "chip.neg_ratio=0.1", "train.model=ssdlite_mobilenet_v3_large")
    done = built(here, *TINY, *small)
    evaluated = [label for label in done if label.startswith("eval:")]
    assert len(evaluated) == 1
    report = json.loads((here.root / "cache/p/eval/eval.json").read_text())
    assert report["overall"][0]["gt_count"] == 1  # the car, and not the building


@pytest.mark.parametrize("name", ["spacenet_vegas", "spacenet_rio", "cowc_potsdam", "xview"])
def test_without_data_the_way_to_them_is_said(tmp_path, name):
    result = space(tmp_path, name).rvbuild("build", "projects/p.toml")
    assert result.status == 2
    assert "https://" in result.err or "http://" in result.err
    assert "Traceback" not in result.err
