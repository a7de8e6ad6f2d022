"""A look at one scene: facts, problems, and no crash whatever the files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform as warp

from rvbuild.checks.project import NOT_READ, with_surveys
from rvbuild.checks.scene import check_scene

CLASSES = [
    {"id": 0, "name": "house", "color": "#ff0000"},
    {"id": 1, "name": "ground", "color": "#00ff00"},
    {"id": 2, "name": "null", "color": "#000000"},
]
CHIP = {
    "size_px": 16,
    "stride_px": 16,
    "method": "sliding",
    "per_scene": 10,
    "size_limits_px": None,
    "within_aoi": True,
    "max_nodata": 1.0,
    "keep": None,
}
VECTOR = {"kind": "vector", "layer": None, "class": "house", "background": "ground", "buffer_px": {}}
RASTER = {"kind": "raster", "encoding": "id", "map": None, "other": "error", "nodata": None, "resample": "error"}
NORTH = Affine(0.5, 0, 500000, 0, -0.5, 5800000)


def write_image(path: Path, **changes: Any) -> Path:
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", **{**profile, "transform": NORTH, **changes}):
        pass
    return path


def write_boxes(path: Path, boxes: list[tuple[float, float, float, float]], epsg: int = 32633) -> Path:
    """Write boxes in pixels of the image."""
    rings = [[NORTH * c for c in ((x, y), (u, y), (u, v), (x, v), (x, y))] for x, y, u, v in boxes]
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [r]}} for r in rings
    ]
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{epsg}"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    return path


def seen(inputs: dict[str, list[Path]], labels: dict[str, Any] | None = VECTOR, **changes: Any) -> dict[str, Any]:
    options = {
        "task": "semantic_segmentation",
        "split": "train",
        "image": {"nodata": None},
        "channels": None,
        "labels": labels,
        "classes": CLASSES,
        "null_id": 2,
        "chip": CHIP,
    }
    return check_scene(inputs, {**options, **changes})


def kinds(facts: dict[str, Any]) -> list[tuple[str, str]]:
    return [(level, part) for level, part, *_ in facts["problems"]]


def test_a_good_scene(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.tif")
    labels = write_boxes(tmp_path / "a.geojson", [(2, 2, 9, 9), (70, 2, 90, 9)])
    facts = seen({"image": [image], "labels": [labels]})
    assert facts["problems"] == []
    assert facts["image"] | {"crs": 0} == {
        "height": 48,
        "width": 64,
        "crs": 0,
        "placed": True,
        "res_m": 0.5,
        "bands": 3,
        "dtype": "uint8",
        "itemsize": 1,
        "tags": {"colors": ["red", "green", "blue"]},
    }
    assert facts["labels"] == {"features": [1, 0, 0], "all": 2}
    assert facts["chips"] == 12
    half = seen({"image": [image], "labels": [labels]}, chip={**CHIP, "stride_px": [8, 16]})
    assert half["chips"] > 12 and half["problems"] == []


def test_pixels_in_degrees_are_measured_in_metres(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.tif", crs="EPSG:4326", transform=Affine(1e-5, 0, 13, 0, -1e-5, 60))
    assert seen({"image": [image]}, None)["image"]["res_m"] == pytest.approx(1.113 * 0.5**0.5, rel=1e-3)


@pytest.mark.parametrize(("box", "level"), [((100, 100, 120, 120), ("warning", "labels")), ((60, 40, 120, 120), None)])
def test_labels_beside_the_image(tmp_path: Path, box: Any, level: Any) -> None:
    labels = write_boxes(tmp_path / "a.geojson", [box])
    facts = seen({"image": [write_image(tmp_path / "a.tif")], "labels": [labels]})
    assert kinds(facts) == ([level] if level else [])
    if level:
        assert "the labels x 500050.0 to 500060.0 and y 5799940.0 to 5799950.0" in facts["problems"][0][3]


def test_an_area_beside_the_image_and_one_without_room(tmp_path: Path) -> None:
    image, labels = write_image(tmp_path / "a.tif"), write_boxes(tmp_path / "a.geojson", [(2, 2, 9, 9)])
    far = write_boxes(tmp_path / "far.geojson", [(100, 100, 120, 120)])
    facts = seen({"image": [image], "labels": [labels], "aoi": [far]})
    assert ("error", "aoi") in kinds(facts) and facts["chips"] == 0
    narrow = write_boxes(tmp_path / "narrow.geojson", [(0, 0, 10, 48)])
    facts = seen({"image": [image], "labels": [labels], "aoi": [narrow]})
    assert kinds(facts) == [("warning", "")]
    assert "no window of 16 px lies in the area of interest" in facts["problems"][0][3]


def test_a_scene_smaller_than_a_chip(tmp_path: Path) -> None:
    image, labels = write_image(tmp_path / "a.tif"), write_boxes(tmp_path / "a.geojson", [(2, 2, 9, 9)])
    facts = seen({"image": [image], "labels": [labels]}, chip={**CHIP, "size_px": 64, "stride_px": 64})
    assert "25% of it is padding" in facts["problems"][0][3]


def test_each_part_reports_and_the_others_are_still_looked_at(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.tif")
    labels = write_image(tmp_path / "l.tif", count=1, width=32)
    (tmp_path / "aoi.geojson").touch()
    facts = seen({"image": [image], "labels": [labels], "aoi": [tmp_path / "aoi.geojson"]}, RASTER)
    assert kinds(facts) == [("error", "aoi"), ("error", "labels")]
    assert "is empty (0 bytes)" in facts["problems"][0][3]
    assert "expected labels on the pixel grid of the image" in facts["problems"][1][3]


def test_resampled_labels_must_lie_on_the_image(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.tif")
    labels = write_image(tmp_path / "l.tif", count=1, transform=Affine(0.5, 0, 700000, 0, -0.5, 5800000))
    facts = seen({"image": [image], "labels": [labels]}, {**RASTER, "resample": "nearest"})
    assert kinds(facts) == [("warning", "labels")] and "no label lies on the image" in facts["problems"][0][3]


def test_labels_without_features_are_background_if_there_is_one(tmp_path: Path) -> None:
    image, empty = write_image(tmp_path / "a.tif"), write_boxes(tmp_path / "a.geojson", [])
    for background, text in (("ground", "everything is labelled ground"), (None, "nothing is labelled")):
        facts = seen({"image": [image], "labels": [empty]}, {**VECTOR, "background": background})
        assert [problem[3] for problem in facts["problems"]] == [f"{empty}: has no feature with an area, so {text}"]


def test_a_header_that_promises_more_than_can_be_cut(tmp_path: Path) -> None:
    size = {"width": 1_000_000, "height": 1_000_000, "count": 1}
    blocks = {"tiled": True, "blockxsize": 4096, "blockysize": 4096, "sparse_ok": True, "bigtiff": "yes"}
    (problem,) = seen({"image": [write_image(tmp_path / "a.tif", **size, **blocks)]})["problems"]
    assert problem[:2] == ["error", "image"]
    assert "3,906,250,000 windows of 16 px; expected at most 4,000,000" in problem[3]


def test_labels_drawn_in_qgis_over_an_image_without_a_georeference(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.tif", crs=None, transform=Affine.identity())
    shape = {"type": "Polygon", "coordinates": [[[2, -2], [9, -2], [9, -9], [2, -9], [2, -2]]]}
    features = [{"type": "Feature", "properties": {}, "geometry": shape}]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    facts = seen({"image": [image], "labels": [tmp_path / "a.geojson"]})
    assert kinds(facts) == [("warning", "labels")]
    assert "A world file beside the image" in facts["problems"][0][3]


def test_an_image_that_was_cut_short(tmp_path: Path) -> None:
    image = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(image, "w", **profile, transform=NORTH) as file:
        file.write(np.ones((3, 48, 64), dtype=np.uint8))
    image.write_bytes(image.read_bytes()[:-500])
    facts = seen({"image": [image]}, None)
    assert kinds(facts) == [("error", "image")] and "its last pixel cannot be read" in facts["problems"][0][3]


def test_some_values_of_a_label_raster_are_read(tmp_path: Path) -> None:
    image, labels = write_image(tmp_path / "a.tif"), write_image(tmp_path / "l.tif", count=1)
    with rasterio.open(labels, "r+") as file:
        file.write(np.full((1, 48, 64), 9, dtype=np.uint8))
    for layers in (RASTER, {"kind": "layers", "background": None, "parts": [{"files": 1, **RASTER}]}):
        facts = seen({"image": [image], "labels": [labels]}, layers)
        assert kinds(facts) == [("error", "labels")] and "the label value 9" in facts["problems"][0][3]


def test_the_key_that_an_image_contradicts_is_named(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.tif")
    for changes, key in (
        ({"channels": [5]}, ["scene", "channels"]),
        ({"image": {"nodata": 999}}, ["scene", "image", "nodata"]),
        ({"image": {"nodata": None, "bbox": {"px": [0, 0, 99, 99]}}}, ["scene", "image", "bbox_px"]),
    ):
        ((_, _, _, text, named),) = seen({"image": [image]}, None, **changes)["problems"]
        assert named == key, text


def test_layers_of_labels_are_looked_at_one_by_one(tmp_path: Path) -> None:
    image, land = write_image(tmp_path / "a.tif"), write_image(tmp_path / "l.tif", count=1)
    far = write_boxes(tmp_path / "far.geojson", [(500, 500, 600, 600)])
    layers = {"kind": "layers", "background": None, "parts": [{"files": 1, **RASTER}, {"files": 1, **VECTOR}]}
    facts = seen({"image": [image], "labels": [land, far]}, layers)
    assert kinds(facts) == [("warning", "labels")] and "no label lies on the image" in facts["problems"][0][3]


def test_windows_of_unequal_strides_and_padding_are_counted(tmp_path: Path) -> None:
    inputs = {
        "image": [write_image(tmp_path / "i.tif")],
        "labels": [write_boxes(tmp_path / "l.geojson", [(1, 1, 9, 9)])],
    }
    assert seen(inputs, chip={**CHIP, "stride_px": [16, 8]})["chips"] == 3 * 7
    facts = seen(inputs, chip={**CHIP, "size_px": 90, "padding_px": 2})
    assert facts["chips"] == 0
    (problem,) = facts["problems"]
    assert "windows of 90 px do not fit into the image of 64 x 48 px with its padding" in problem[3]


def test_large_vector_labels_are_left_to_a_deep_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = write_image(tmp_path / "a.tif"), write_boxes(tmp_path / "a.geojson", [(2, 2, 9, 9)])
    monkeypatch.setattr("rvbuild.checks.scene.MAX_VECTOR_BYTES", 10)
    facts = seen({"image": [image], "labels": [labels]})
    ((level, part, kind, text, _),) = facts["problems"]
    assert (level, part) == ("warning", "labels") and "`rvbuild check --deep` reads them" in text
    assert facts["vector_bytes"] == labels.stat().st_size and "labels" not in facts
    survey = {"a": {"valid": 5, "unknown": {}, "counts": [4, 1, 0]}}
    deep = with_surveys({"a": facts}, survey, {"a": "a.geojson"})["a"]
    assert kind == NOT_READ and deep["problems"] == [] and deep["labels"] == {"features": [4, 1, 0]}


BOXES = {"kind": "voc", "class": "house", "class_map": None, "unknown": "error", "image": None, "scene_image": None}


@pytest.mark.parametrize(("name", "warned"), [("a.jpg", False), ("A.TIF", False), ("b.tif", True), ("", False)])
def test_a_box_file_of_another_image_is_said(tmp_path: Path, name: str, warned: bool) -> None:
    box = "<object><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>"
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation><folder>x</folder><filename>{name}</filename>{box}</annotation>")
    inputs = {"image": [write_image(tmp_path / "a.tif")], "labels": [path]}
    facts = seen(inputs, BOXES, task="object_detection", chip={**CHIP, "neg_ratio": None})
    assert facts["labels"] == {"features": [1, 0, 0], "all": 1}
    assert facts["boxes_of"] == ([[str(path), f"x/{name}"]] if name else [])
    assert [text for *_, text, _ in facts["problems"] if f'holds boxes of the image "x/{name}"' in text] == (
        [facts["problems"][0][3]] if warned else []
    )


@pytest.mark.parametrize("epsg", [4326, 32633])
def test_swapped_coordinates_are_recognised(tmp_path: Path, epsg: int) -> None:
    image = write_image(tmp_path / "a.tif")
    labels = write_boxes(tmp_path / "a.geojson", [(2, 2, 9, 9)])
    content = json.loads(labels.read_text())
    ((ring,),) = (feature["geometry"]["coordinates"] for feature in content["features"])
    if epsg == 4326:
        ring = list(zip(*warp("EPSG:32633", "EPSG:4326", *zip(*ring, strict=True)), strict=True))
        del content["crs"]
    content["features"][0]["geometry"]["coordinates"] = [[[y, x] for x, y in ring]]
    labels.write_text(json.dumps(content))
    for part in ("labels", "aoi"):
        facts = seen({"image": [image], part: [labels]}, VECTOR if part == "labels" else None)
        assert any("With x and y swapped they would lie on the image" in text for *_, text, _ in facts["problems"])


def test_latitudes_beyond_90_are_told_as_swapped(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.tif", crs="EPSG:32650", transform=Affine(0.5, 0, 500000, 0, -0.5, 4000000))
    labels = tmp_path / "a.geojson"
    (x,), (y,) = warp("EPSG:32650", "EPSG:4326", [500010], [3999990])
    point = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [y, x]}}
    labels.write_text(json.dumps({"type": "FeatureCollection", "features": [point]}))
    ((level, part, _, text, _),) = seen({"image": [image], "labels": [labels]}, {**VECTOR, "buffer_px": {"Point": 2}})[
        "problems"
    ]
    assert (level, part) == ("error", "labels")
    assert "With x and y swapped they would lie on the image" in text


@pytest.mark.parametrize(
    ("value", "nodata", "told"), [(-3.4e38, None, True), (-3.4e38, -3.4e38, False), (9e9, None, False)]
)
def test_values_that_look_like_nodata(tmp_path: Path, value: float, nodata: float | None, told: bool) -> None:
    path = write_image(tmp_path / "a.tif", dtype="float32", nodata=nodata)
    with rasterio.open(path, "r+") as file:
        pixels = np.ones((3, 48, 64), np.float32)
        pixels[:, :10] = value
        file.write(pixels)
    problems = [problem[2] for problem in seen({"image": [path]}, None)["problems"]]
    assert ("fill values" in problems) is told
