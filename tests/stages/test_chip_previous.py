"""A cut that makes use of the previous one gives the bytes of a cut from nothing, whatever was edited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvbuild.progress import Silent
from rvbuild.stages.chip import blocks as chip_blocks
from rvbuild.stages.chip import stage as chip
from rvbuild.stages.chip.previous import BLOCKS
from tests.stages.sample_scenes import chip_settings, digests, empty, image_array, write_aoi, write_raster

HEIGHT, WIDTH = 90, 110

VECTORS = {
    "kind": "vector",
    "layer": None,
    "class": None,
    "class_attribute": "label",
    "class_map": None,
    "background": None,
    "unknown": "error",
    "buffer_px": {},
    "all_touched": False,
}
CELLS = {"cell_px": 15, "cells": "grid", "rule": "area", "ioa_thresh": 0.3, "ioa_over": "cell", "pick": "max_ioa"}

Feature = tuple[float, float, float, float, str]
"""Column, row, width and height in pixels, and class."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chip_blocks, "BLOCK_BYTES", 4 * 3 * 16 * 16)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("image") / "i.tif", image_array(HEIGHT, WIDTH), crs=None)


def write_features(path: Path, features: list[Feature]) -> None:
    records = []
    for x, y, width, height, name in features:
        # A triangle: unlike a box it lies in some cells of its bounds and not in others.
        ring = [(x, y), (x + width, y + height / 3), (x, y + height), (x, y)]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        records.append({"type": "Feature", "properties": {"label": name}, "geometry": geometry})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": records}))


def cut(
    folder: Path, image: Path, features: list[Feature], settings: dict[str, Any], previous: Path | None = None
) -> tuple[Path, list[str]]:
    """Cut chips of the labels into `folder`; return it with all files of the result, and which of them were kept."""
    labels = folder.with_suffix(".geojson")
    write_features(labels, features)
    inputs = {"image": [image], "labels": [labels], "aoi": settings["aoi"]}
    files = None if previous is None else {path.name: path for path in previous.iterdir()}
    kept = chip.run(inputs, settings["settings"], empty(folder), Silent(), previous=files)
    for name in kept:
        assert previous is not None
        assert not (folder / name).exists()
        shutil.copy(previous / name, folder / name)
    return folder, kept


def described(name: str, aoi: Path, **table: Any) -> dict[str, Any]:
    """Return settings by the name of a kind of labels."""
    made = chip_settings(**table)
    made["labels"] = dict(VECTORS)
    if name == "boxes":
        made["task"] = "object_detection"
        made["chip"] |= {"ioa_thresh": 0.5, "clip": False, "neg_ratio": None, "neg_ioa_thresh": 0.2}
        if made["chip"]["keep"] or made["chip"]["method"] == "random":
            made["chip"]["neg_ratio"] = 1.0
    elif name in ("area", "ioa", "polygons"):
        made["task"] = "chip_classification"
        made["labels"]["cells"] = dict(CELLS)
        made["labels"]["background"] = "tree" if name == "ioa" else None
        made["labels"]["cells"] |= {"ioa": {"rule": "ioa"}, "polygons": {"cells": "polygons"}}.get(name, {})
    if name == "touched":
        made["labels"]["all_touched"] = True
    return {"settings": made, "aoi": [aoi]}


PLACE = st.floats(-15, 100).map(lambda value: round(value * 4) / 4)
FEATURE = st.tuples(PLACE, PLACE, st.sampled_from([0.5, 6, 20, 70]), st.sampled_from([1, 9, 33]), st.sampled_from("ct"))
NAMES = {"c": "car", "t": "tree"}


@st.composite
def edits(draw: st.DrawFn) -> tuple[list[Feature], list[Feature]]:
    """Draw features before and after some edits."""
    before = [(*f[:4], NAMES[f[4]]) for f in draw(st.lists(FEATURE, min_size=2, max_size=12))]
    after = list(before)
    for _ in range(draw(st.integers(1, 3))):
        if not after:
            break
        kind = draw(st.sampled_from(["add", "remove", "move", "reattribute", "swap"]))
        index, other = (draw(st.integers(0, len(after) - 1)) for _ in range(2))
        x, y, width, height, name = after[index]
        if kind == "add":
            new = draw(FEATURE)
            after.insert(index, (*new[:4], NAMES[new[4]]))
        elif kind == "remove":
            del after[index]
        elif kind == "move":
            after[index] = (x + draw(st.sampled_from([-30.0, -0.25, 0.5, 17.0])), y, width, height, name)
        elif kind == "reattribute":
            after[index] = (x, y, width, height, "tree" if name == "car" else "car")
        else:
            after[index], after[other] = after[other], after[index]
    return before, after


TABLES: list[dict[str, Any]] = [
    {},
    {"stride_px": 9},
    {"keep": {"classes": ["car"], "min_px": 30, "otherwise": 0.5}},
    {"method": "random", "per_scene": 25, "size_limits_px": [9, 30]},
    {"method": "random", "per_scene": 25, "max_nodata": 0.2},
]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits(),
    st.sampled_from(["pixels", "touched", "area", "ioa", "polygons", "boxes"]),
    st.sampled_from(TABLES),
    st.booleans(),
)
def test_it_equals_a_cut_from_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    image: Path,
    edit: tuple[list[Feature], list[Feature]],
    name: str,
    table: dict[str, Any],
    everywhere: bool,
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    options = described(name, write_aoi(folder / "aoi.geojson", (5, 5, 80, 100), crs=None), **table)
    if everywhere:
        options["aoi"] = []
    before, _ = cut(folder / "before", image, edit[0], options)
    after, _ = cut(folder / "after", image, edit[1], options, before)
    full, _ = cut(folder / "full", image, edit[1], options)
    assert digests(after) == digests(full)


FEATURES: list[Feature] = [(5, 5, 10, 10, "car"), (6, 70, 12, 12, "tree"), (75, 40, 10, 10, "car")]


def test_only_the_blocks_of_an_edit_are_cut(tmp_path: Path, image: Path) -> None:
    settings = described("pixels", tmp_path)
    settings["aoi"] = []
    before, _ = cut(tmp_path / "before", image, FEATURES, settings)
    after, kept = cut(tmp_path / "after", image, [*FEATURES[:2], (76, 40, 10, 10, "car")], settings, before)
    assert len([name for name in kept if name.startswith("labels")]) == 12 - 1
    assert set(digests(before)) == set(digests(after))
    changed = {name for name, value in digests(after).items() if value != digests(before)[name]}
    assert changed == {BLOCKS, "contact.png", "index.json", "labels-00006.safetensors"}


def test_an_edit_of_nothing_keeps_all_blocks(tmp_path: Path, image: Path) -> None:
    settings = described("pixels", tmp_path)
    settings["aoi"] = []
    before, _ = cut(tmp_path / "before", image, FEATURES, settings)
    after, kept = cut(tmp_path / "after", image, FEATURES, settings, before)
    assert len(kept) == 25
    assert digests(after) == digests(before)


def spoil(previous: Path, damage: str) -> None:
    blocks = previous / BLOCKS
    content = json.loads(blocks.read_text())
    if damage == "no blocks":
        blocks.unlink()
    elif damage == "no json":
        blocks.write_text(blocks.read_text()[:-30])
    elif damage == "another shape":
        blocks.write_text("[1, 2]")
    elif damage == "an entry of another version":
        content["blocks"][3]["more"] = 1
        blocks.write_text(json.dumps(content))
    elif damage == "other settings":
        content["settings"] = "0" * 32
        blocks.write_text(json.dumps(content))
    else:
        (previous / "labels-00005.safetensors").unlink()


@pytest.mark.parametrize(
    "damage",
    ["no blocks", "no json", "another shape", "an entry of another version", "other settings", "a shard is missing"],
)
def test_a_previous_result_that_is_not_one_changes_nothing(tmp_path: Path, image: Path, damage: str) -> None:
    made = described("pixels", tmp_path)
    made["aoi"] = []
    before, _ = cut(tmp_path / "before", image, FEATURES, made)
    full = digests(before)
    spoil(before, damage)
    after, kept = cut(tmp_path / "after", image, FEATURES, made, before)
    assert len(kept) in ((22, 23) if damage == "a shard is missing" else (0,))
    assert digests(after) == full


def test_raster_labels_say_nothing_of_blocks(tmp_path: Path, image: Path) -> None:
    labels = write_raster(tmp_path / "l.tif", image_array(HEIGHT, WIDTH)[0] % 2, crs=None)
    inputs = {"image": [image], "labels": [labels]}
    assert chip.run(inputs, chip_settings(), empty(tmp_path / "out"), Silent()) == []
    assert not (tmp_path / "out" / BLOCKS).exists()
