"""Training scenes found by their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvbuild.errors import ProjectError
from rvbuild.project.load import load

PROJECT = """\
[project]
task = "semantic_segmentation"
[classes]
a = "#ff0000"
b = "#00ff00"
[scenes]
train = {train}
[scene]
image = "data/{{id}}.tif"
labels = {{ raster = "data/{{id}}.tif" }}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("img10.tif", "img9.tif", "img9.tif.aux.xml", "img1000.tif", "other.tif", "img.tif"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).touch()
    (tmp_path / "data/img5.tif").mkdir()
    return tmp_path / "p.toml"


def loaded(path: Path, train: str, **environ: str):
    path.write_text(PROJECT.format(train=train))
    return load(path, environ=environ)


def problems(path: Path, train: str) -> list[str]:
    with pytest.raises(ProjectError) as caught:
        loaded(path, train)
    return [text.replace(str(path.parent), "DIR") for text in caught.value.problems]


def test_ids_come_in_the_order_of_their_numbers(project: Path) -> None:
    result = loaded(project, '{ files = "data/img{id}.tif" }')
    assert [scene.id for scene in result.scenes] == ["9", "10", "1000"]
    assert str(project.parent / "data") in result.reads  # a new file breaks a seal


def test_some_can_be_left_out(project: Path) -> None:
    result = loaded(project, '{ files = "${DATA}/img{id}.tif", without = ["1000"] }', DATA="data")
    assert [scene.id for scene in result.scenes] == ["9", "10"]


def test_the_same_id_may_stand_twice(project: Path) -> None:
    for name in ("7_of_7.tif", "7_of_8.tif"):
        (project.parent / "data" / name).touch()
    assert [s.id for s in loaded(project, '{ files = "data/{id}_of_{id}.tif" }').scenes] == ["7"]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ('{ files = "data/none{id}.tif" }', "p.toml:7: scenes.train.files: no file matches data/none*.tif"),
        ('{ files = "nowhere/{id}.tif" }', "p.toml:7: scenes.train.files: no file matches nowhere/*.tif"),
        ('{ files = "data/a.tif" }', 'p.toml:7: scenes.train.files: expected a path with {id}, found "data/a.tif"'),
        (
            '{ files = "{id}/a.tif" }',
            'p.toml:7: scenes.train.files: {id} must be in the name of the file, not of a folder: "{id}/a.tif"',
        ),
        (
            '{ files = "${NOPE}/{id}.tif" }',
            'p.toml:7: scenes.train.files: environment variable NOPE is not set (needed by "${NOPE}/{id}.tif")',
        ),
        ('{ file = "data/{id}.tif" }', 'scenes.train.file: unknown key; did you mean "files"?'),
        ('{ files = "data/img{id}.tif", without = ["11"] }', 'scenes.train.without[0]: no file matches scene "11"'),
    ],
)
def test_what_is_wrong_is_said(project: Path, train: str, message: str) -> None:
    assert any(message in problem for problem in problems(project, train)), problems(project, train)
