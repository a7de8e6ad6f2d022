"""Whatever files hold, a look at a scene ends with findings, and never with a crash."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvbuild.checks.ground import shared
from rvbuild.checks.scene import check_scene
from tests.checks.test_scene import CHIP, CLASSES, NORTH, RASTER, VECTOR

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
DTYPES += ["complex64", "complex128", "complex_int16"]
CRS = [None, "EPSG:32633", "EPSG:4326", "EPSG:3031", 'LOCAL_CS["here",UNIT["metre",1]]']
TRANSFORMS = [
    NORTH,
    Affine.identity(),
    Affine(0.5, 0, 500000, 0, 0.5, 5800000),
    Affine(0.4, 0.3, 500000, 0.3, -0.4, 5800000),
    Affine(1e-5, 0, 179.9999, 0, -1e-5, 52),
    Affine(0, 0, 500000, 0, 0, 5800000),
    Affine(float("nan"), 0, 0, 0, 1, 0),
    Affine(1e300, 0, 0, 0, -1e300, 0),
]

numbers = st.one_of(
    st.integers(-5, 60),
    st.floats(499990, 500040),
    st.sampled_from([5_800_000, 5_799_980, 13.5, 52.1, 180, 1e18, 1e300, float("nan"), float("inf"), "1", None, True]),
)
points = st.lists(numbers, min_size=0, max_size=4)
lines = st.lists(points, max_size=5)
coordinates = st.one_of(points, lines, st.lists(lines, max_size=3), st.lists(st.lists(lines, max_size=2), max_size=2))
kinds = st.sampled_from(
    ["Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon", "LinearRing", "Nonsense", "", 7]
)
simple = st.fixed_dictionaries({"type": kinds, "coordinates": coordinates})
geometries = st.one_of(
    st.none(),
    st.just({}),
    st.just([]),
    simple,
    st.fixed_dictionaries({"type": st.just("GeometryCollection"), "geometries": st.lists(simple, max_size=3)}),
    st.just({"type": "Polygon", "coordinates": [[[500001, 5799999], [500009, 5799999], [500005, 5799990]]]}),
    st.just(
        {
            "type": "Polygon",
            "coordinates": [[[500001, 5799999, 5], [500009, 5799990], [500009, 5799999], [500001, 5799990]]],
        }
    ),
)
properties = st.one_of(
    st.none(),
    st.just([]),
    st.dictionaries(
        st.sampled_from(["label", "class_id", "", "x"]),
        st.one_of(st.none(), st.integers(-1, 300), st.text(max_size=3), st.floats(), st.just([1]), st.just("house")),
        max_size=3,
    ),
)
features = st.one_of(
    st.fixed_dictionaries({"type": st.just("Feature"), "properties": properties, "geometry": geometries}),
    st.sampled_from([None, 3, {}, {"type": "Feature"}]),
)
NAMED = "urn:ogc:def:crs:EPSG::32633"
crs_members = st.one_of(
    st.sampled_from([None, "EPSG:32633", {"type": "name"}, 3]),
    st.fixed_dictionaries(
        {"type": st.just("name"), "properties": st.fixed_dictionaries({"name": st.sampled_from([NAMED, "nowhere"])})}
    ),
)
collections = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["FeatureCollection", "Collection"]), "features": st.lists(features, max_size=6)},
        optional={"crs": crs_members},
    ),
    features,
    st.sampled_from(
        [[], None, 3, "x", {"type": "FeatureCollection", "features": {}}, {"images": [], "annotations": 1}]
    ),
)
damage = st.sampled_from(["", "", "", "", "empty", "cut", "noise", "directory", "missing", "locked"])
rasters = st.fixed_dictionaries(
    {
        "driver": st.sampled_from(["GTiff", "GTiff", "GTiff", "PNG"]),
        "width": st.integers(1, 70),
        "height": st.integers(1, 50),
        "count": st.integers(1, 5),
        "dtype": st.sampled_from(DTYPES),
        "crs": st.sampled_from(CRS),
        "transform": st.sampled_from(TRANSFORMS),
        "nodata": st.sampled_from([None, None, 0, 255, -9999, 1e300, float("nan"), float("inf")]),
    }
)


LABELS = {
    "semantic_segmentation": ("vector", "raster", "layers"),
    "chip_classification": ("vector", "raster"),
    "object_detection": ("vector", "coco", "voc", "csv"),
}
"""Kinds of labels by task."""


def write_raster(path: Path, profile: dict[str, Any], seed: int) -> None:
    """Write a raster as it is described, or what comes near to it if GDAL refuses."""
    random = np.random.default_rng(seed)
    kind = "complex64" if profile["dtype"].startswith("complex") else profile["dtype"]
    data = random.integers(0, 4, (profile["count"], profile["height"], profile["width"])).astype(kind)
    for change in (
        {},
        {"nodata": None},
        {"driver": "GTiff", "nodata": None},
        {"driver": "GTiff", "nodata": None, "crs": None},
    ):
        try:
            with rasterio.open(path, "w", **{**profile, **change}) as file:
                file.write(data)
        except Exception:
            continue
        return
    path.write_bytes(b"")


def hurt(path: Path, damage: str, noise: bytes) -> None:
    """Damage a file."""
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "noise":
        path.write_bytes(noise)
    elif damage in ("directory", "missing"):
        path.unlink()
        if damage == "directory":
            path.mkdir()
    elif damage == "locked":
        path.chmod(0)


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    image=rasters,
    labels=rasters,
    vector=collections,
    area=collections,
    hurts=st.tuples(damage, damage, damage),
    noise=st.binary(max_size=80),
    labelled=st.sampled_from([(task, kind) for task, kinds in LABELS.items() for kind in kinds]),
    encoding=st.sampled_from(["id", "rgb"]),
    named=st.booleans(),
    resample=st.sampled_from(["error", "nearest"]),
    with_area=st.booleans(),
    split=st.sampled_from(["train", "validation", "test"]),
    within=st.booleans(),
)
def test_nothing_crashes_a_look(
    tmp_path_factory: pytest.TempPathFactory,
    image: dict[str, Any],
    labels: dict[str, Any],
    vector: Any,
    area: Any,
    hurts: tuple[str, str, str],
    noise: bytes,
    labelled: tuple[str, str],
    encoding: str,
    named: bool,
    resample: str,
    with_area: bool,
    split: str,
    within: bool,
) -> None:
    folder, (task, kind) = tmp_path_factory.mktemp("wild"), labelled
    suffix = {"raster": ".tif", "voc": ".xml", "csv": ".csv", "coco": ".json"}.get(kind, ".geojson")
    files = [folder / "image.tif", folder / f"labels{suffix}", folder / "area.geojson"]
    more = folder / "land.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_raster(files[0], image, 1)
        write_raster(more, labels, 2)
        if kind == "raster":
            write_raster(files[1], labels, 2)
        else:
            files[1].write_text(json.dumps(vector))
        files[2].write_text(json.dumps(area))
        for path, harm in zip(files, hurts, strict=True):
            hurt(path, harm, noise)
        raster = {**RASTER, "encoding": encoding, "resample": resample}
        shapes = VECTOR if named else {**VECTOR, "class": None, "unknown": "drop"}
        boxes = {"kind": kind, "image": None, "scene_image": "image.tif", "class": None, "class_map": None}
        label_settings: dict[str, Any] = {"vector": shapes, "raster": raster}.get(kind, {**boxes, "unknown": "error"})
        inputs = {"image": [files[0]], "labels": [files[1]], "aoi": [files[2]] if with_area else []}
        if kind == "layers":
            label_settings = {
                "kind": "layers",
                "background": None,
                "parts": [{"files": 1, **raster}, {"files": 1, **shapes}],
            }
            inputs["labels"] = [more, files[1]]
        if task == "chip_classification":
            label_settings = {**label_settings, "cells": {"cell_px": 16, "cells": "grid", "rule": "area"}}
        with np.errstate(all="ignore"):
            facts = check_scene(
                inputs,
                {
                    "task": task,
                    "split": split,
                    "image": {"nodata": None},
                    "channels": None,
                    "labels": label_settings,
                    "classes": CLASSES,
                    "null_id": 2,
                    "chip": {**CHIP, "within_aoi": within, "ioa_thresh": 0.5, "clip": False, "neg_ratio": None},
                },
            )
    json.dumps(facts, allow_nan=False)
    for level, _, kind_of_problem, text, _ in facts["problems"]:
        assert level in ("error", "warning") and kind_of_problem and text
        # What is missing is said before; everything else has a message of its own.
        assert kind_of_problem != "unreadable" or "missing" in hurts, text
    assert "image" in facts or any(part == "image" for _, part, *_ in facts["problems"])
    if "ground" in facts:
        scenes = [{"id": s, "base": s, "split": s, "ground": facts["ground"]} for s in ("train", "validation")]
        json.dumps(shared(scenes), allow_nan=False)
