"""Scenes that are predicted in strips: the same keys and bytes, and only the strips that something touches."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from .conftest import Space
from .test_faults import start, wait_for

STRIPS = {"strips:c#0", "strips:c#1"}


def predict_by_small_batches(space: Space) -> None:
    space.edit("stride_px = 16\n", 'stride_px = 16\nbatch_size = 1\nscores = "uint8"\n')


def cut(space: Space) -> None:
    """Cut scenes of 64 x 64 px into two strips."""
    space.edit("batch_size = 1\n", "batch_size = 1\nstrip_px = 2048\n")


def write_area(space: Space, bottom: int) -> None:
    """Write an area of interest down to a row of the scene c."""
    y = 5800000 - bottom / 2
    ring = f"[[500001, 5799999], [500020, 5799999], [500020, {y}], [500001, {y}], [500001, 5799999]]"
    crs = '"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}'
    feature = f'{{"type": "Feature", "properties": {{}}, "geometry": {{"type": "Polygon", "coordinates": [{ring}]}}}}'
    (space.root / "data/area.geojson").write_text(f'{{"type": "FeatureCollection", {crs}, "features": [{feature}]}}')


def copied(space: Space, folder: Path) -> Space:
    shutil.copytree(space.root, folder, symlinks=True)
    return Space(folder)


def results(space: Space) -> dict[str, bytes]:
    return {name: content for name, content in space.shown().items() if not name.startswith("strips/")}


def predictions(space: Space) -> dict[str, bytes]:
    return {name: content for name, content in space.shown().items() if name.startswith("predict/")}


def keys(space: Space) -> dict[str, str]:
    rows = space.rvbuild("status", "--json").json["artifacts"]
    return {f"{row['stage']}:{row['scene']}": row["key"] for row in rows if row["stage"] != "strips"}


def test_strips_change_neither_keys_nor_bytes(built: Space, tmp_path: Path) -> None:
    predict_by_small_batches(built)
    in_strips = copied(built, tmp_path / "strips")
    cut(in_strips)
    once, joined = built.rvbuild("build", "--json"), in_strips.rvbuild("build", "--json")
    assert joined.status == once.status == 0, joined.err
    assert joined.did("built") - once.did("built") == STRIPS
    assert "infer:c" in joined.did("built")
    assert results(in_strips) == results(built) and keys(in_strips) == keys(built)

    # A scene that is predicted needs no strips, wherever its result is.
    cut(built)
    assert built.rvbuild("build", "--json").did("built") == set()
    shutil.rmtree(built.root / "cache/p/predict/c")
    again = built.rvbuild("build", "--json")
    assert not again.did("built") and "infer:c" in again.did("restored")
    assert not (built.root / "cache/p/strips").exists()


def test_statistics_and_evaluations_in_strips_have_the_same_keys_and_bytes(built: Space, tmp_path: Path) -> None:
    in_strips = copied(built, tmp_path / "strips")
    in_strips.edit("[predict]\n", "[analyze]\nstrip_px = 2048\n[eval]\nstrip_px = 2048\n[predict]\n")
    assert not in_strips.rvbuild("build", "--json").did("built"), "what is there needs no strips"
    shutil.rmtree(in_strips.root / "cache/store")
    shutil.rmtree(in_strips.root / "cache/p/analyze")
    shutil.rmtree(in_strips.root / "cache/p/eval")
    again = in_strips.rvbuild("build", "--json")
    assert again.status == 0, again.err
    assert again.did("built") >= {"analyze:a#0", "analyze:a", "eval:c#0", "eval:c"}
    assert results(in_strips) == results(built)
    of_scenes = {label: key for label, key in keys(in_strips).items() if "#" not in label}
    assert of_scenes == keys(built)
    for folder in ("store", "p/eval", "p/strips"):
        shutil.rmtree(in_strips.root / "cache" / folder)
    last_lines = in_strips.rvbuild("eval").out.partition("mean IoU")[2]
    assert "eval/eval.json" in last_lines and "strips/" not in last_lines


def test_an_edit_of_the_area_predicts_the_strips_that_it_touches(built: Space, tmp_path: Path) -> None:
    predict_by_small_batches(built)
    built.edit("[train]", '[scenes.by_id."c"]\naoi = "data/area.geojson"\n\n[train]')
    cut(built)
    write_area(built, bottom=52)
    assert built.rvbuild("predict").status == 0
    write_area(built, bottom=58)
    why = built.rvbuild("why", "infer:c").out
    assert "strips:c" in why and "aoi changed" in why, why
    edited = built.rvbuild("predict", "--json")
    assert edited.did("built") >= {"strips:c", "strips:c#1", "infer:c"}
    assert "strips:c#0" in edited.did("fresh")

    other = copied(built, tmp_path / "once")
    other.edit("strip_px = 2048\n", "")
    shutil.rmtree(other.root / "cache")
    assert other.rvbuild("predict").status == 0
    assert predictions(built) == predictions(other)

    # Strips belong to what they are of.
    assert built.rvbuild("clean", "infer").status == 0
    assert not (built.root / "cache/p/strips/c/0").exists()
    assert built.rvbuild("status", "--json").did("missing") >= STRIPS
    assert built.rvbuild("predict", "--json").did("built") >= STRIPS
    assert predictions(built) == predictions(other)


def test_a_killed_run_loses_no_strip_that_is_finished(built: Space, tmp_path: Path) -> None:
    predict_by_small_batches(built)
    cut(built)
    other = copied(built, tmp_path / "uninterrupted")
    process = start(built, "predict", "-j", "1")
    wait_for(lambda: (built.root / "cache/p/strips/c/1").exists(), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    again = built.rvbuild("predict", "--json")
    assert again.status == 0, again.err
    assert "strips:c#0" not in again.did("built")
    assert other.rvbuild("predict").status == 0
    assert predictions(built) == predictions(other)


@pytest.mark.parametrize(("task", "place"), [("cells", "[predict]\n"), ("boxes", "score_thresh = 0.1\n")])
def test_cells_and_boxes_are_in_the_strip_in_which_their_window_begins(
    built_of: Callable[[str], Space], task: str, place: str, tmp_path: Path
) -> None:
    space = built_of(task)
    text = (space.root / "projects/p.toml").read_text()
    if "[predict]" not in text:
        space.edit("[train]\n", "[predict]\n\n[train]\n")
    space.edit("[scenes.by_id.t]\n", '[scenes.by_id.c]\naoi = "data/area.geojson"\n\n[scenes.by_id.t]\n')
    space.edit(place, f"{place}batch_size = 1\n")
    write_area(space, bottom=53)
    in_strips = copied(space, tmp_path / "strips")
    in_strips.edit("batch_size = 1\n", "batch_size = 1\nstrip_px = 2048\n")
    once, joined = space.rvbuild("predict", "--json"), in_strips.rvbuild("predict", "--json")
    assert joined.status == once.status == 0, joined.err
    strips = joined.did("built") - once.did("built")
    assert strips >= {"strips:c", "strips:c#0", "strips:c#1", "strips:t#0", "strips:t#1"}
    assert not any(label.startswith("predict:c#") for label in strips), "lists are derived at once"
    assert predictions(in_strips) == predictions(space)
    assert keys(in_strips) == keys(space)

    for each, changed in ((space, "infer:c"), (in_strips, "strips:c#1")):
        write_area(each, bottom=60)
        edited = each.rvbuild("predict", "--json")
        assert changed in edited.did("built")
        assert "strips:c#0" not in edited.did("built")
    assert predictions(in_strips) == predictions(space)


def write_tall(space: Space) -> None:
    """Make the scene c higher than a strip of which files are derived."""
    path = space.root / "data/c.tif"
    with rasterio.open(path) as image:
        profile, pixels = image.profile, image.read()
    pixels = np.tile(pixels[:, :, :32], (1, 65, 1))
    profile.update(height=pixels.shape[1], width=pixels.shape[2])
    with rasterio.open(path, "w", **profile) as image:
        image.write(pixels)


def test_files_are_derived_in_strips_with_the_same_keys_and_bytes(built: Space, tmp_path: Path) -> None:
    vectors = '[predict]\nrgb = true\nvectors = [{ class = "building" }, { class = "ground", format = "gpkg" }]\n'
    built.edit("[predict]\n", vectors)
    write_tall(built)
    in_strips = copied(built, tmp_path / "strips")
    in_strips.edit("stride_px = 16\n", "stride_px = 16\nstrip_px = 65_536\n")
    once, joined = built.rvbuild("predict", "--json"), in_strips.rvbuild("predict", "--json")
    assert joined.status == once.status == 0, joined.err
    assert joined.did("built") - once.did("built") >= {"predict:c#0", "predict:c#1", "strips:c#0", "strips:c#1"}
    assert predictions(in_strips) == predictions(built)
    of_scenes = {label: key for label, key in keys(in_strips).items() if "#" not in label}
    assert of_scenes == keys(built)

    # Another format is derived in strips again, without the network.
    in_strips.edit('format = "gpkg"', 'format = "fgb"')
    edited = in_strips.rvbuild("predict", "--json")
    assert edited.did("built") == {"predict:c#0", "predict:c#1", "predict:c"}
