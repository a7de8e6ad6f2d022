"""Automatic splits from the command: no pixel in two splits, and only what rests on a split is built again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from safetensors.numpy import load_file

from .conftest import BOXES, Space, write_labels

SCENES = 'train = ["a", "b"]\nvalidation = ["c"]'
BLOCKS = 'train = ["a", "b"]\nvalidation = { fraction = 0.25, by = "block", block_px = 32 }'


@pytest.fixture(scope="module")
def split_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("split") / "ws"
    shutil.copytree(template, root)
    space = Space(root)
    space.edit(SCENES, BLOCKS)
    space.edit("stride_px = 24", "stride_px = 16")
    result = space.rvbuild("build", "--json")
    assert result.status == 0, result.err
    assert result.did("built") >= {"chip:a.train", "chip:a.validation", "train", "predict:a.validation", "eval"}
    return root


@pytest.fixture
def split(split_template: Path, tmp_path: Path) -> Space:
    root = tmp_path / "ws"
    shutil.copytree(split_template, root)
    space = Space(root)
    assert space.rvbuild("build", "-q").status == 0
    return space


def cut(space: Space, scene: str) -> np.ndarray:
    """Return the pixels of the scene that are in a chip: (64, 64) bool."""
    seen = np.zeros((64, 64), bool)
    for shard in (space.root / "cache/p/chip" / scene).glob("images-*"):
        for row, col, height, width in load_file(shard)["windows"].tolist():
            seen[row : row + height, col : col + width] = True
    return seen


def test_no_pixel_is_trained_on_and_validated(split: Space) -> None:
    for scene in ("a", "b"):
        train, validation = cut(split, f"{scene}.train"), cut(split, f"{scene}.validation")
        assert train.sum() == 3 * validation.sum() == 3 * 32 * 32
        assert not (train & validation).any()
        with rasterio.open(split.root / f"cache/p/predict/{scene}.validation/labels.tif") as file:
            predicted = file.read_masks(1) > 0
        np.testing.assert_array_equal(predicted, validation)
        counts = json.loads((split.root / f"cache/p/eval/{scene}.validation.json").read_text())
        assert counts["scene"] == f"{scene}.validation"
        stats = json.loads((split.root / f"cache/p/analyze/{scene}.train.json").read_text())
        assert [band["count"] for band in stats["bands"]] == [train.sum()] * 3


def test_an_edit_of_validation_blocks_leaves_the_training_chips(split: Space) -> None:
    row, col = np.argwhere(cut(split, "a.validation"))[0].tolist()
    write_labels(split.root / "data/a.geojson", [*BOXES["a"], (col + 1, row + 1, col + 9, row + 9)])
    result = split.rvbuild("build", "--json")
    evaluated = {"eval:a.validation", "eval", "report:a.validation", "report"}
    assert result.did("built") == {"chip:a.train", "chip:a.validation", "train", *evaluated}
    assert result.reasons("train") == ["chips/validation/a.validation changed (chip:a.validation)"]


def test_only_what_rests_on_a_share_is_built_again(split: Space) -> None:
    split.edit("block_px = 32 }", "block_px = 32 }\ntest = { fraction = 0.25, block_px = 32 }")
    stale = split.rvbuild("status", "--json").did("stale")
    of_splits = {"eval", "report"}  # they name splits
    assert stale == {"analyze:a.train", "chip:a.train", "analyze:b.train", "chip:b.train", *of_splits}
    assert split.rvbuild("build", "-q").status == 0
    increment = split.shown()
    assert split.rvbuild("clean").status == 0
    assert split.rvbuild("build", "-q").status == 0
    assert split.shown() == increment


def test_a_scene_stands_for_its_parts(split: Space) -> None:
    assert split.rvbuild("chip", "--scene", "a", "--json").did("fresh") == {"chip:a.train", "chip:a.validation"}
    assert split.rvbuild("predict", "--scene", "b", "--dry-run", "--json").status == 0
    assert "chip:a.validation is fresh" in split.rvbuild("why", "chip:a").out


def test_a_scene_too_small_for_its_blocks_fails_with_advice(space: Space) -> None:
    space.edit(SCENES, BLOCKS.replace("32", "64"))
    result = space.rvbuild("chip", "--scene", "a", "--keep-going")
    assert result.status == 1
    assert "expected at least 2 blocks of 64 px" in result.out
    assert "Set `block_px` to 36 or less" in result.out
    assert "Traceback" not in result.out + result.err


def test_whole_scenes_are_chosen_by_the_seed(space: Space) -> None:
    space.edit(SCENES, 'train = ["a", "b", "c"]\nvalidation = { folds = 3, fold = 0, by = "scene" }')
    folds = []
    for fold in range(3):
        rows = space.rvbuild("status", "--set", f"scenes.validation.fold={fold}", "--json").json["artifacts"]
        folds += [row["scene"] for row in rows if row["stage"] == "eval" and row["scene"]]
    assert sorted(folds) == ["a", "b", "c"]
