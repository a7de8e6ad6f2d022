"""The last lines of a build: the main metric and the report come first."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rvbuild.cli.report import where
from rvbuild.rules import SHOWN
from rvbuild.session.headline import headline


def project(**splits: str) -> Any:
    scenes = [SimpleNamespace(id=scene, split=split) for scene, split in splits.items()]
    return SimpleNamespace(task="semantic_segmentation", scenes=scenes)


def test_one_split(tmp_path: Path) -> None:
    path = tmp_path / "eval.json"
    path.write_text(json.dumps({"per_scene": {"b": []}, "summary": {"overall": {"mean_iou": 0.6689}}}))
    assert headline(project(a="train", b="validation"), path) == "mean IoU 0.669 of the validation scenes"
    path.write_text(json.dumps({"per_scene": {"b": []}, "summary": {"overall": {"mean_iou": None}}}))
    assert headline(project(b="validation"), path) is None


def test_several_splits_are_not_pooled(tmp_path: Path) -> None:
    splits = {split: {"summary": {"mean_iou": value}} for split, value in (("test", 0.5), ("validation", 0.75))}
    path = tmp_path / "eval.json"
    path.write_text(json.dumps({"splits": splits, "per_scene": {}, "summary": {"overall": {"mean_iou": 0.6}}}))
    assert headline(project(), path) == "mean IoU 0.500 of the test scenes, 0.750 of the validation scenes"


def test_a_file_that_is_no_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "eval.json"
    for text in (None, "", "{", "[]", "7", "{}", '{"splits": {"test": 7}}', '{"per_scene": {}, "summary": 7}'):
        if text is not None:
            path.write_text(text)
        assert headline(project(b="validation"), path) is None, text


def test_the_report_comes_first(tmp_path: Path) -> None:
    outputs = ["cache/p/predict/a/crown.geojson", "cache/p/bundle/p.zip", "cache/p/report/index.html", "x.json"]
    lines = [line.rpartition("/")[2] for line in where(tmp_path, outputs, SHOWN)]
    assert lines == ["index.html", "crown.geojson", "p.zip"]
