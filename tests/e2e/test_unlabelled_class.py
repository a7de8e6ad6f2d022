"""A class that no label shows: said by check, chip, train and eval, and in no mean."""

from __future__ import annotations

import json

import pytest

from .conftest import Space
from .projects import write_project

WATER = '= "#ff0000"\nwater = "#0000ff"'


@pytest.mark.parametrize("task", ["segmentation", "cells", "boxes"])
def test_a_class_that_no_label_shows(space: Space, task: str) -> None:
    write_project(space.root, task)
    space.edit('= "#ff0000"', WATER)
    checked = space.rvbuild("check")
    assert "classes.water: warning: no train scene has a label of class water, which is not learnt" in checked.out
    chips = space.rvbuild("chip").out
    assert "classes.water: warning: no train chip shows class water, which is not learnt" in chips
    assert "no validation chip shows class water" in chips
    assert "chip shows" not in space.rvbuild("chip").out  # nothing is new
    built = space.rvbuild("eval").out
    assert built.count("train: no train chip shows class water, which is not learnt\n") == 1
    assert built.count("train: no validation chip shows class water") == 1
    assert built.count("no evaluated scene has a label of class water, which has no recall and is in no mean") == 1

    page = (space.root / "cache/p/eval/eval.md").read_text()
    assert "Not shown by any label: water. It has no recall, and is in no mean.\n" in page
    evaluation = space.read("eval/eval.json")
    water = next(item for item in evaluation["overall"] if item["class_name"] == "water")
    assert water["gt_count"] == 0
    assert not {"recall", "f1", "iou", "average_precision", "ap", "ap50"} & {
        name for name, value in water["metrics"].items() if value is not None
    }
    # As in sklearn: of what was predicted, nothing is right; of nothing, nothing is known.
    assert water["metrics"]["precision"] == (0.0 if water["pred_count"] else None)

    # Means are those of the classes that labels show.
    mean, metric = {
        "segmentation": ("mean_iou", "iou"),
        "cells": ("mean_average_precision", "average_precision"),
        "boxes": ("mean_ap50", "ap50"),
    }[task]
    shown = [item["metrics"][metric] for item in evaluation["overall"][:-1] if item["gt_count"]]
    assert evaluation["summary"]["overall"][mean] == pytest.approx(sum(shown) / len(shown))
    line = json.loads((space.root / "cache/p/train/log.jsonl").read_text().splitlines()[-1])["metrics"]
    mean, by_class = {"segmentation": ("mean_iou", "iou"), "cells": ("mean_f1", "f1"), "boxes": ("mean_ap50", "ap50")}[
        task
    ]
    shown = [value for name, value in line[by_class].items() if name != "water"]
    assert line[mean] == pytest.approx(sum(shown) / len(shown))
    assert not line[by_class]["water"]


def test_classes_that_labels_show_are_not_spoken_of(space: Space) -> None:
    out = space.rvbuild("chip").out + space.rvbuild("eval").out
    assert "chip shows" not in out and "has a label of class" not in out
    assert "Not shown by any label" not in (space.root / "cache/p/eval/eval.md").read_text()
