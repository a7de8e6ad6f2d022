"""What tags of imagery say, told where it is not applied or differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rvbuild.checks import tags
from rvbuild.project.load import load
from rvbuild.project.model import Project

TEXT = """
[project]
task = "semantic_segmentation"
[classes]
house = "#ff0000"
road = "#00ff00"
[scenes]
train = ["a", "b"]
validation = ["c"]
[scene]
image = {{ files = "{{id}}.tif"{keys} }}
labels = {{ raster = "{{id}}.png" }}
[chip]
size_px = 100
"""


def project_with(tmp_path: Path, keys: str = "") -> Project:
    (tmp_path / "p.toml").write_text(TEXT.format(keys=keys))
    return load(tmp_path / "p.toml")


def told(project: Project, **scenes: dict[str, Any]) -> list[tuple[str, str]]:
    images = {id_: {"tags": scenes.get(id_, {})} for id_ in ("a", "b", "c")}
    return [(finding.kind, finding.scene) for finding in tags.findings(project, images)]


MASK = {"alpha": {"band": 3, "mask": True}}
BAND = {"alpha": {"band": 3, "mask": False}}


@pytest.mark.parametrize(
    ("scenes", "expected"),
    [
        ({"a": MASK, "b": MASK}, []),
        ({"a": BAND}, [("alpha", "a")]),
        ({"a": MASK, "b": BAND, "c": MASK}, [("alpha", "b"), ("alpha differs", "b")]),
        ({"b": {"palette": True}}, [("palette", "b")]),
        ({"c": {"inverted": True}}, [("inverted", "c")]),
        ({"c": {"signed": True}}, [("signed", "c")]),
        ({id_: {"scaling": [[0.1, 0.0]]} for id_ in "abc"}, []),
        ({"a": {"scaling": [[0.1, 0.0]]}}, [("different scales", "a")]),
        ({"a": {"units": ["m"]}}, []),
        ({"a": {"units": ["m"]}, "b": {"units": ["m"]}, "c": {"units": ["ft"]}}, [("different units", "c")]),
        ({id_: {"bits": 10 if id_ == "b" else 12} for id_ in "abc"}, [("different bits", "b")]),
        (
            {id_: {"colors": ["blue", "green", "red"][:: 1 if id_ == "a" else -1]} for id_ in "abc"},
            [("different colours", "a")],
        ),
    ],
)
def test_what_is_told(tmp_path: Path, scenes: Any, expected: Any) -> None:
    assert told(project_with(tmp_path), **scenes) == expected


@pytest.mark.parametrize(
    ("keys", "scenes"),
    [
        (", alpha = false", {"a": BAND}),
        (", palette = false", {"a": {"palette": True}}),
        (", scale = false", {"a": {"scaling": [[0.1, 0.0]]}}),
    ],
)
def test_what_the_project_decides_is_not_asked_again(tmp_path: Path, keys: str, scenes: Any) -> None:
    assert told(project_with(tmp_path), **scenes)
    assert told(project_with(tmp_path, keys), **scenes) == []


def test_keys_that_are_left_out_or_false_change_no_key_of_an_artifact(tmp_path: Path) -> None:
    plain = project_with(tmp_path).scenes[0].image.stage_settings()
    assert project_with(tmp_path, ", palette = false, scale = false").scenes[0].image.stage_settings() == plain
    assert project_with(tmp_path, ", alpha = false").scenes[0].image.stage_settings() == {**plain, "alpha": False}
    assert project_with(tmp_path, ", palette = true, scale = true").scenes[0].image.stage_settings() == {
        **plain,
        "palette": True,
        "scale": True,
    }


def test_what_is_no_cause_for_doubt_is_a_note() -> None:
    images = {"a": {"tags": {**MASK, "scaling": [[0.0001, -0.1]]}}, "b": {"tags": {}}}
    masks, scales = tags.notes(images)
    assert masks == "band 3 (alpha) is the mask of valid pixels, not an image band, in 1 scene"
    assert "(value × 0.0001 - 0.1), which are not applied" in scales
    assert tags.notes({"b": {"tags": {}}}) == []
