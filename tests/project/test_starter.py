"""The starter project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rvbuild.errors import UsageError
from rvbuild.project.load import load
from rvbuild.project.starter import starter


def test_it_loads(workspace: Path) -> None:
    path = Path("projects/parcels.toml")
    path.write_text(starter("parcels", "semantic_segmentation"), encoding="utf-8")
    project = load(path, environ={})
    assert project.name == "parcels"
    assert [scene.id for scene in project.scenes] == ["a", "b", "c"]
    assert [c.name for c in project.classes] == ["background", "building", "null"]
    assert project.env == {}


def test_its_commented_defaults_are_the_defaults(workspace: Path) -> None:
    text = starter("parcels", "semantic_segmentation")
    plain, full = Path("projects/plain.toml"), Path("projects/full.toml")
    plain.write_text(text, encoding="utf-8")
    # The lines that show a default, without those that show an example.
    shown = re.sub(
        r"^# (?=(seed|stride_px = 300|method|max_nodata|pretrained|optimizer|schedule|class_weights|augment|select|"
        r"patience|blend|scores|splits|\[eval\]))",
        "",
        text,
        flags=re.MULTILINE,
    )
    assert shown.count("\n# ") < text.count("\n# ") - 12
    full.write_text(shown, encoding="utf-8")
    plain_project, full_project = load(plain, environ={}), load(full, environ={})
    for name in ("chip", "train", "predict", "eval"):
        assert getattr(plain_project, name).stage_settings() == getattr(full_project, name).stage_settings()
    assert plain_project.eval.splits == full_project.eval.splits


def test_the_one_for_cells(workspace: Path) -> None:
    text = starter("parcels", "chip_classification")
    plain, full = Path("projects/plain.toml"), Path("projects/full.toml")
    plain.write_text(text, encoding="utf-8")
    shown = re.sub(
        r"^# (?=(seed|stride_px = 200|method|max_nodata|pretrained|optimizer|schedule|class_weights|augment|select|"
        r"patience|cells|scores|rgb|splits|\[eval\]))",
        "",
        text,
        flags=re.MULTILINE,
    )
    full.write_text(shown, encoding="utf-8")
    plain_project, full_project = load(plain, environ={}), load(full, environ={})
    for name in ("chip", "train", "predict", "eval"):
        assert getattr(plain_project, name).stage_settings() == getattr(full_project, name).stage_settings()
    assert plain_project.chip_px == 200


def test_the_one_for_boxes(workspace: Path) -> None:
    text = starter("parcels", "object_detection")
    plain, full = Path("projects/plain.toml"), Path("projects/full.toml")
    plain.write_text(text, encoding="utf-8")
    shown = re.sub(
        r"^# (?=(seed|stride_px|method|ioa_thresh|clip|max_nodata|pretrained|optimizer|schedule|augment|select|"
        r"patience|score_thresh|merge_thresh|boxes|iou_thresh|splits|\[eval\]))",
        "",
        text,
        flags=re.MULTILINE,
    )
    full.write_text(shown, encoding="utf-8")
    plain_project, full_project = load(plain, environ={}), load(full, environ={})
    for name in ("chip", "train", "predict", "eval"):
        assert getattr(plain_project, name).stage_settings() == getattr(full_project, name).stage_settings()
    assert plain_project.predict.stage_settings()["stride_px"] == 150


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("a/b", "semantic_segmentation", 'project name: cannot be used in a file name: "a/b" holds "/"'),
        ("", "semantic_segmentation", "project name: cannot be used in a file name: the name is empty"),
        (
            "x",
            "segmentation",
            'task: expected "semantic_segmentation", "chip_classification" or "object_detection", found '
            '"segmentation"; did you mean "semantic_segmentation"?',
        ),
    ],
)
def test_what_is_refused(name: str, task: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        starter(name, task)
    assert str(caught.value) == message
