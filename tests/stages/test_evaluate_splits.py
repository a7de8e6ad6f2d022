"""Figures of validation and of test scenes are kept apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rvbuild.progress import Silent
from rvbuild.stages.evaluate_merge import run

CLASSES = [{"id": n, "name": name, "color": f"#00000{n}"} for n, name in enumerate(("tree", "ground", "null"))]
COUNTS = {"a": [[8, 2, 0], [0, 10, 0], [0, 0, 0]], "b": [[1, 9, 0], [0, 10, 0], [0, 0, 0]]}


def merged(folder: Path, **settings: Any) -> tuple[dict[str, Any], str]:
    inputs = {}
    for scene, confusion in COUNTS.items():
        (folder / f"{scene}.json").write_text(json.dumps({"confusion": confusion}))
        inputs[f"eval/{scene}"] = [folder / f"{scene}.json"]
    out = folder / "out"
    out.mkdir(exist_ok=True)
    run(inputs, {"task": "semantic_segmentation", "classes": CLASSES, "null_id": 2, **settings}, out, Silent())
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


def test_one_split_is_all_there_is(tmp_path: Path) -> None:
    content, page = merged(tmp_path)
    assert "splits" not in content and content["summary"]["overall"]["labelled_px"] == 40
    assert page.startswith("# Evaluation\n")
