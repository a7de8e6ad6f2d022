"""Folds: each is the project with another part for validation; maps and metrics of all of them together."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rvbuild.tasks.classification.cells import read_cells

from .conftest import Space, write_image, write_labels
from .projects import write_project

BLOCKS = "{ folds = 2, fold = 1, block_px = 32 }"


def _edited(root: Path, validation: str) -> Space:
    space = Space(root)
    space.edit('validation = ["c"]', f'validation = {validation}\ntest = ["d"]')
    space.edit("stride_px = 16", 'stride_px = 16\nscores = "uint8"')
    boxes = [(10.0, 10.0, 30.0, 30.0)]
    write_image(root / "data/d.tif", boxes, seed=7)
    write_labels(root / "data/d.geojson", boxes)
    return space


@pytest.fixture(scope="module")
def by_block(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Space:
    root = tmp_path_factory.mktemp("folds") / "ws"
    shutil.copytree(template, root)
    space = _edited(root, BLOCKS)
    space.edit('train = ["a", "b"]', 'train = ["a", "b", "c"]')
    result = space.rvbuild("folds", "--inline", "--soup", "--json")
    assert result.status == 0, result.out + result.err
    (root / "first.json").write_text(result.out)
    return space


def test_the_mean_and_the_deviation_of_all_folds(by_block: Space) -> None:
    document = json.loads((by_block.root / "first.json").read_text())
    assert (document["folds"], document["by"]) == (2, "block")
    values = [by_block.read(f"folds/2-{fold}/eval/eval.json")["summary"]["overall"]["mean_iou"] for fold in (0, 1)]
    summary = document["overall"]["mean_iou"]
    assert summary["values"] == values
    assert summary["mean"] == pytest.approx(statistics.mean(values))
    assert summary["std"] == pytest.approx(statistics.stdev(values))
    assert "building" in document["classes"] and "± " in (by_block.root / "cache/p/folds/folds.md").read_text()


def test_maps_take_each_pixel_from_the_fold_that_has_not_learned_it(by_block: Space) -> None:
    for scene in "abc":
        with rasterio.open(by_block.root / f"cache/p/folds/maps/{scene}/raw_labels.tif") as file:
            joined = file.read(1)
        parts = []
        for place in ("folds/2-0/predict", "predict"):  # fold 1 is the project's own split
            with rasterio.open(by_block.root / f"cache/p/{place}/{scene}.validation/raw_labels.tif") as file:
                parts.append(file.read(1))
        known = np.stack([part != 255 for part in parts])
        assert (known.sum(axis=0) == 1).all()  # the blocks of the folds are all of the scene, each once
        assert np.array_equal(joined, np.where(known[0], *parts))
        with rasterio.open(by_block.root / f"cache/p/folds/maps/{scene}/scores.tif") as file:
            assert file.descriptions == ("building", "ground") and (file.dataset_mask() > 0).all()
        assert (by_block.root / f"cache/p/folds/maps/{scene}/labels.qml").exists()


def test_a_fold_has_the_bytes_of_a_project_file_with_that_fold(by_block: Space, template: Path, tmp_path: Path) -> None:
    shutil.copytree(template, tmp_path / "ws")
    clean = _edited(tmp_path / "ws", "{ folds = 2, fold = 0, block_px = 32 }")
    clean.edit('train = ["a", "b"]', 'train = ["a", "b", "c"]')
    clean.project.write_text(clean.project.read_text() + '\n[eval]\nsplits = ["validation"]\n')
    assert clean.rvbuild("eval").status == 0
    expected, fold = clean.shown(), by_block.shown("p/folds/2-0")
    assert {"train/model.safetensors", "eval/eval.json"} <= fold.keys()
    assert fold == {path: content for path, content in expected.items() if path in fold}


def test_again_nothing_is_built_and_scenes_can_be_folds(by_block: Space, tmp_path: Path) -> None:
    shutil.copytree(by_block.root, tmp_path / "ws", symlinks=True)
    space = Space(tmp_path / "ws")
    before = space.shown("p/folds")
    again = space.rvbuild("folds", "--inline", "--soup")
    assert ": " in again.out and "built" not in again.out.partition("folds by block")[2].splitlines()[0]
    other = space.rvbuild("folds", "--inline", "--by", "scene", "-k", "3")
    assert other.status == 0, other.err
    with (
        rasterio.open(space.root / "cache/p/folds/maps/b/raw_labels.tif") as joined,
        rasterio.open(next((space.root / "cache/p/folds").glob("3-*/predict/b/raw_labels.tif"))) as alone,
    ):
        assert np.array_equal(joined.read(1), alone.read(1))
    back = space.rvbuild("folds", "--inline", "--soup")
    assert " train: epoch" not in back.out
    assert {path: content for path, content in space.shown("p/folds").items() if path in before} == before
    assert space.rvbuild("clean", "folds", "projects/p.toml").status == 0
    assert space.shown("p/folds") == {}
    assert (space.root / "cache/p/train/model.safetensors").exists()  # the project's own


def test_the_mean_of_weights_is_evaluated_where_no_fold_has_learned(by_block: Space) -> None:
    evaluation = by_block.read("folds/2-soup/eval/eval.json")
    assert list(evaluation["per_scene"]) == ["d"]
    document = json.loads((by_block.root / "first.json").read_text())
    assert document["soup"]["test.mean_iou"] == evaluation["summary"]["overall"]["mean_iou"]
    assert (by_block.root / "cache/p/folds/2-soup/bundle/p.zip").exists()
    predicted = by_block.rvbuild("predict", "cache/p/folds/2-soup/bundle/p.zip", "data/d.tif", "-o", "out")
    assert predicted.status == 0, predicted.err


def test_reviews_take_the_maps_of_folds_where_there_are_some(by_block: Space, tmp_path: Path) -> None:
    shutil.copytree(by_block.root, tmp_path / "ws", symlinks=True)
    space = Space(tmp_path / "ws")
    space.project.write_text(space.project.read_text() + "\n[review]\nmodel = true\n\n[draft]\nblock_px = 32\n")
    review = space.rvbuild("review")
    assert review.status == 0 and "rvbuild folds" not in review.out
    record = space.rvbuild("why", "suspects").out
    assert "fresh" in record
    write_labels(space.root / "data/a.geojson", [(5.0, 5.0, 21.0, 21.0)])
    review = space.rvbuild("review")
    assert "the labels of a have changed since `rvbuild folds` mapped the scenes" in review.out, review.out
    (space.root / "cache/p/folds/maps/a/scores.tif").unlink()
    changed = space.rvbuild("why", "suspects")
    assert "scores/a.train no longer read: cache/p/folds/maps/a/scores.tif" in changed.out


@pytest.fixture(scope="module", params=["cells", "boxes"])
def other_task(request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Space:
    """Two folds of blocks of two cells, or of a chip."""
    root = tmp_path_factory.mktemp(request.param) / "ws"
    shutil.copytree(template, root)
    write_project(root, request.param)
    space = Space(root)
    block_px = {"cells": 30, "boxes": 32}[request.param]
    space.edit('validation = ["c"]', f"validation = {{ folds = 2, fold = 1, block_px = {block_px} }}")
    result = space.rvbuild("folds", "--inline", "--json")
    assert result.status == 0, result.out + result.err
    return space


def test_maps_of_cells_and_of_boxes_take_each_place_from_its_fold(other_task: Space) -> None:
    cache = other_task.root / "cache/p"
    for scene in "ab":
        places = [cache / place / f"{scene}.validation" for place in ("folds/2-0/predict", "predict")]
        joined = cache / "folds/maps" / scene
        shown = {path.name for path in joined.iterdir()}
        if (joined / "cells.json").exists():
            assert shown == {"cells.json", "cells.geojson", "cells.qml", "labels.tif", "labels.qml"}
            parts = [read_cells(place / "cells.json") for place in places]
            whole = read_cells(joined / "cells.json")
            known = np.stack([part.predicted for part in parts])
            assert (known.sum(axis=0) == 1).all() and known.any(axis=(1, 2)).all()
            expected = np.where(known[0][..., None], parts[0].scores, parts[1].scores)
            assert np.array_equal(whole.scores, expected)
        else:
            assert shown == {"raw_boxes.safetensors", "detections.json", "boxes.geojson", "boxes.qml"}
            found = json.loads((joined / "detections.json").read_text())["boxes"]
            of_folds = [json.loads((place / "detections.json").read_text())["boxes"] for place in places]
            assert all(of_folds) and all(box in of_folds[0] or box in of_folds[1] for box in found)
            # What is left out lies on the boundary, where the other fold has found it, too.
            assert max(map(len, of_folds)) < len(found) <= sum(map(len, of_folds))


def test_a_review_of_cells_takes_their_maps(other_task: Space, tmp_path: Path) -> None:
    if not (other_task.root / "cache/p/folds/maps/a/cells.json").exists():
        pytest.skip("boxes have no scores of places")
    shutil.copytree(other_task.root, tmp_path / "ws", symlinks=True)
    space = Space(tmp_path / "ws")
    space.project.write_text(space.project.read_text() + "\n[review]\nmodel = true\n\n[draft]\nblock_px = 32\n")
    result = space.rvbuild("review")
    assert result.status == 0, result.err
    (space.root / "cache/p/folds/maps/a/cells.json").unlink()
    changed = space.rvbuild("why", "suspects")
    assert "scores/a.train no longer read: cache/p/folds/maps/a/cells.json" in changed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "scene", "-k", "4"], 'by = "scene" splits the 3 scenes of train: 3 is too few'),
        (["x"], "x: not a project file"),
    ],
)
def test_mistakes_have_one_message(space: Space, words: list[str], message: str) -> None:
    result = space.rvbuild("folds", *words)
    assert result.status == 2 and message in result.err and "Traceback" not in result.err
