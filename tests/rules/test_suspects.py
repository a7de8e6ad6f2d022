"""What the suspects of a project depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvbuild.errors import ProjectError
from rvbuild.project.load import load
from rvbuild.rules.drafts import suspects

PROJECT = """
[project]
task = "{task}"
[classes]
barn = "#ff0000"
ground = "#00ff00"
[scenes]
train = ["a"]
validation = ["b"]
test = ["c"]
[scene]
image = "{{id}}.tif"
labels = {{ vector = "{{id}}.geojson", class = "barn" }}
[scenes.by_id.c]
labels = false
[predict]
{predict}
[review]
model = {model}
"""


def roles(path: Path, model: str, predict: str = "", task: str = "semantic_segmentation") -> set[str]:
    content = PROJECT.format(model=model, predict=predict, task=task)
    if task == "chip_classification":
        content = content.replace('class = "barn"', 'class = "barn", cell_px = 8')
    path.write_text(content)
    (artifact,) = suspects.artifacts(load(path), "")
    return {source.role for source in artifact.inputs}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "p.toml"


def test_scenes_with_labels_are_reviewed_by_models_that_have_not_seen_them(path: Path) -> None:
    every = {"sums/a", "features/a", "labels/a", "sums/b", "features/b", "labels/b"}
    assert roles(path, "false", 'scores = "uint8"') == every
    assert roles(path, "true", 'scores = "uint8"') == {*every, "scores/b"}


def test_the_cells_of_a_model_have_scores_in_any_case(path: Path) -> None:
    assert "scores/b" in roles(path, "true", task="chip_classification")


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("semantic_segmentation", 'review.model: needs the scores of the model; set predict.scores = "uint8"'),
        (
            "object_detection",
            "review.model: has no effect with task = 'object_detection': there are no scores of pixels",
        ),
    ],
)
def test_a_model_without_scores_of_pixels_cannot_review(path: Path, task: str, expected: str) -> None:
    with pytest.raises(ProjectError) as error:
        roles(path, "true", task=task)
    assert expected in str(error.value)
