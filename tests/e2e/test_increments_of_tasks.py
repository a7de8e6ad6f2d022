"""What runs after an edit, for every task: what a result depends on, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from .conftest import BOXES, Space, write_image, write_labels
from .projects import PROJECTS

#: By task: a setting of predictions and of the network's windows, and what it runs at most.
PREDICT = {
    "segmentation": ("predict.stride_px=24", {"infer:c", "predict:c", "eval:c", "eval"}),
    "cells": ('predict.scores="uint8"', {"predict:c", "predict:t"}),
    "boxes": ("predict.stride_px=32", {"infer:c", "infer:t", "predict:c", "predict:t", "eval:c", "eval"}),
}
SHOWN = {"bundle", "report:c", "report:t", "report"}


@pytest.fixture(params=list(PROJECTS))
def task(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def built(built_of: Callable[[str], Space], task: str) -> Space:
    return built_of(task)


def build(space: Space, *words: str) -> tuple[set[str], set[str]]:
    """Build; return what was built and what was restored or fresh."""
    result = space.rvbuild("build", "--json", *words)
    assert result.status == 0, result.out + result.err
    return result.did("built"), result.did("fresh") | result.did("restored")


def test_nothing_runs_without_an_edit_that_means_something(built: Space) -> None:
    path = built.root / "data/a.geojson"
    data = json.loads(path.read_text())
    for feature in data["features"]:
        feature["properties"]["note"] = "edited, and not used"
    path.write_text(json.dumps(data, indent=2))
    for touched in (built.root / "data").iterdir():
        touched.touch()
    assert build(built)[0] == set()
    assert built.rvbuild("build").out.startswith("nothing to do")


def test_labels_of_a_training_scene_rechip_it_alone_then_train_and_a_revert_runs_nothing(built: Space) -> None:
    path, before = built.root / "data/a.geojson", built.shown()
    text = path.read_text()
    write_labels(path, [(4, 4, 60, 30)])
    ran, kept = build(built)
    assert {"chip:a", "train", "infer:c", "predict:c"} <= ran
    assert {"chip:b", "chip:c", "analyze", "analyze:a", "analyze:b"} <= kept
    path.write_text(text)
    assert build(built)[0] == set()
    assert built.shown() == before


def test_an_edit_that_changes_no_chip_ends_there(built: Space) -> None:
    # A corner more on an edge: other geometries, but the same pixels, cells and bounds.
    path = built.root / "data/a.geojson"
    data = json.loads(path.read_text())
    ring = data["features"][0]["geometry"]["coordinates"][0]
    ring.insert(1, [(ring[0][0] + ring[1][0]) / 2, ring[0][1]])
    path.write_text(json.dumps(data))
    assert build(built)[0] == {"chip:a"}


def test_labels_of_a_validation_scene_choose_no_last_model(built: Space) -> None:
    write_labels(built.root / "data/c.geojson", [(0, 0, 64, 30)])
    ran, kept = build(built)
    # The scores of its epochs are other ones, its weights are not.
    assert ran - SHOWN == {"chip:c", "eval:c", "eval", "train"}
    assert {"infer:c", "predict:c"} <= kept


def test_labels_of_a_validation_scene_that_scores_no_epoch_are_evaluated_alone(built: Space) -> None:
    built.edit("[train]\n", "[train]\nvalidation = false\n")
    build(built)
    assert '"val_loss": null' in (built.root / "cache/p/train/log.jsonl").read_text()
    write_labels(built.root / "data/c.geojson", [(0, 0, 64, 30)])
    assert build(built)[0] == {"chip:c", "eval:c", "eval", "report:c", "report"}


def test_an_image_of_a_training_scene_reaches_its_statistics_and_chips(built: Space) -> None:
    write_image(built.root / "data/a.tif", BOXES["a"], seed=9)
    assert built.rvbuild("analyze", "--json").did("built") == {"analyze:a", "analyze"}
    # Chips hold raw values: new statistics cut nothing again.
    assert built.rvbuild("chip", "--json").did("built") == {"chip:a"}


def test_settings_of_predictions_train_nothing(built: Space, task: str) -> None:
    setting, most = PREDICT[task]
    ran, kept = build(built, "--set", setting)
    assert "predict:c" in ran and ran - SHOWN <= most
    assert {"train", "chip:a", "chip:c", "analyze"} <= kept


def test_a_scene_to_train_on_is_computed_alone(built: Space) -> None:
    for kind in ("tif", "geojson"):
        shutil.copy(built.root / f"data/c.{kind}", built.root / f"data/d.{kind}")
    built.edit('train = ["a", "b"]', 'train = ["a", "b", "d"]')
    result = built.rvbuild("train", "--json")
    assert result.did("built") == {"chip:d", "analyze:d", "analyze", "train"}, result.out + result.err
    assert "chips/train/d was added (chip:d)" in result.reasons("train")


def test_a_scene_to_predict_is_computed_alone(built: Space) -> None:
    before = built.shown()
    write_image(built.root / "data/u.tif", BOXES["b"], seed=8)
    built.edit("[scene]\n", "[scenes.by_id.u]\nlabels = false\n\n[scene]\n")
    text = built.project.read_text()
    old = 'test = ["t"]\n' if 'test = ["t"]\n' in text else 'validation = ["c"]\n'
    built.edit(old, {'test = ["t"]\n': 'test = ["t", "u"]\n'}.get(old, f'{old}test = ["u"]\n'))
    assert build(built)[0] == {"infer:u", "predict:u", "report:u", "report"}
    assert built.shown()["eval/eval.json"] == before["eval/eval.json"]


def test_another_colour_trains_nothing_and_runs_no_network(built: Space) -> None:
    built.edit('building = "#ff0000"', 'building = "#ff0001"')
    ran, kept = build(built)
    drawn = {"chip:a", "chip:b", "chip:c", "predict:c", "predict:t", "eval"}
    assert "predict:c" in ran and ran - SHOWN <= drawn
    assert {"train", "analyze", "infer:c", "eval:c"} <= kept
