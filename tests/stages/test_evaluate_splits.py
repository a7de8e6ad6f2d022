"""Figures of validation and of test scenes are kept apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rvbuild.progress import Progress, Silent
from rvbuild.stages.evaluate.merge import run

CLASSES = [{"id": n, "name": name, "color": f"#00000{n}"} for n, name in enumerate(("tree", "ground", "null"))]
COUNTS = {"a": [[8, 2, 0], [0, 10, 0], [0, 0, 0]], "b": [[1, 9, 0], [0, 10, 0], [0, 0, 0]]}


def merged(folder: Path, progress: Progress | None = None, **settings: Any) -> tuple[dict[str, Any], str]:
    inputs = {}
    for scene, confusion in COUNTS.items():
        (folder / f"{scene}.json").write_text(json.dumps({"confusion": confusion}))
        inputs[f"eval/{scene}"] = [folder / f"{scene}.json"]
    out = folder / "out"
    out.mkdir(exist_ok=True)
    settings = {"task": "semantic_segmentation", "classes": CLASSES, "null_id": 2, **settings}
    run(inputs, settings, out, progress or Silent())
    return json.loads((out / "eval.json").read_text()), (out / "eval.md").read_text()


def test_the_headline_is_that_of_the_test_scenes(tmp_path: Path) -> None:
    content, page = merged(tmp_path, splits={"a": "validation", "b": "test"})
    assert content["summary"]["split"] == "test"
    assert content["summary"]["overall"]["overall_accuracy"] == 11 / 20
    assert content["summary"]["overall"] == content["splits"]["test"]["summary"]
    assert content["splits"]["validation"]["summary"]["overall_accuracy"] == 18 / 20
    assert content["overall"] == content["splits"]["test"]["overall"] == content["per_scene"]["b"]
    assert content["splits"]["validation"]["overall"] == content["per_scene"]["a"]
    assert page.startswith("# Evaluation of the test scenes\n\nMean IoU")
    assert page.index("overall accuracy 0.550") < page.index("# Evaluation of the validation scenes")
    assert "overall accuracy 0.900" in page and page.count("![") == 1


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_a_class_that_a_split_does_not_show_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COUNTS, "b", [[0, 0, 0], [3, 7, 0], [0, 0, 0]])
    progress = Notes()
    content, page = merged(tmp_path, progress, splits={"a": "validation", "b": "test"})
    assert progress.notes == ["no test scene has a label of class tree, which has no recall and is in no mean"]
    assert page.index("Not shown by any label: tree.") < page.index("# Evaluation of the validation scenes")
    assert page.count("Not shown") == 1
    assert content["summary"]["overall"]["mean_iou"] == content["overall"][1]["metrics"]["iou"] == 0.7


def test_one_split_is_all_there_is(tmp_path: Path) -> None:
    content, page = merged(tmp_path)
    assert "splits" not in content and content["summary"]["overall"]["labelled_px"] == 40
    assert page.startswith("# Evaluation\n")
