"""What scenes contradict each other in, from facts alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from rvbuild.checks import project as across
from rvbuild.checks import resources
from rvbuild.checks.findings import Level
from rvbuild.project import Project, load

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
image = "{id}.tif"
labels = { vector = "{id}.geojson", class_attribute = "kind" }
[chip]
size_px = 100
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "p.toml").write_text(TEXT)
    return load(tmp_path / "p.toml")


def facts(**changes: Any) -> dict[str, Any]:
    image = {"height": 300, "width": 300, "crs": "EPSG:32633", "placed": True, "res_m": 0.5, "bands": 3}
    image |= {"dtype": "uint16", "itemsize": 2}
    labels = {"features": [1, 1, 0], "all": 2}
    found = {"problems": [], "image": image, "labels": labels, "chips": 9}
    for key, value in changes.items():
        place = image if key in image else found
        place[key] = value
    return found


def kinds(project: Project, **scenes: dict[str, Any]) -> list[tuple[str, str]]:
    found = across.findings(project, {"a": facts(), "b": facts(), "c": facts(), **scenes})
    return [(finding.kind, finding.scene) for finding in found]


def test_alike(project: Project) -> None:
    assert kinds(project) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bands": 4}, [("different bands", "c")]),
        ({"dtype": "uint8"}, [("different dtype", "c")]),
        ({"crs": None, "res_m": None}, [("no CRS", "c")]),
        ({"crs": "EPSG:25833"}, [("several CRSs", "")]),
        ({"res_m": 0.7}, [("different pixel size", "c")]),
        ({"res_m": 0.52}, []),
        ({"labels": {"features": [3, 0, 0], "all": 3}}, [("never labelled in validation", "")]),
    ],
)
def test_one_scene_that_differs(project: Project, changes: Any, expected: Any) -> None:
    assert kinds(project, c=facts(**changes)) == expected


def test_nothing_to_train_on(project: Project) -> None:
    none = facts(chips=0)
    assert kinds(project, a=none, b=none) == [("no chips at all", "")]
    assert kinds(project, a=none) == []
    bare = facts(labels={"features": [0, 0, 0], "all": 5})
    assert kinds(project, a=bare, b=bare) == [("no labels at all", "")]
    some = facts(labels={"features": [1, 0, 0], "all": 5})
    assert kinds(project, a=some, b=some) == [("never labelled in train", "")]


def test_a_scene_that_could_not_be_read_says_only_so(project: Project) -> None:
    broken = {"problems": [["error", "image", "x", "cannot be read", []]]}
    assert kinds(project, a=broken) == [("x", "a")]


def test_disk_and_memory(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = {"a": facts(), "b": facts(), "c": facts()}
    assert resources.chip_bytes(project, scenes["a"]) == 9 * 3 * 2 * 100 * 100
    assert list(resources.findings(project, scenes, scenes)) == []
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: usage)
    (finding,) = resources.findings(project, scenes, scenes)
    assert finding.level is Level.ERROR and "the chips need 0.0 GB" in finding.text
    assert list(resources.findings(project, scenes, {"a"})) == []  # the others are there already
    unstored = dataclasses.replace(project, chip=project.chip.model_copy(update={"store": False}))
    assert list(resources.findings(unstored, scenes, scenes)) == []
    monkeypatch.setattr(resources, "memory_bytes", lambda: 500_000)
    kinds = [finding.kind for finding in resources.findings(project, scenes, {"a"})]
    assert kinds == ["train.batch_size", "predict.batch_size"]


def test_the_memory_of_the_machine_is_known() -> None:
    found = resources.memory_bytes()
    assert found is not None and found > 100_000_000
