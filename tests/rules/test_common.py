from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def common():
    return importlib.import_module("rvbuild.rules.common")


def test_names_are_safe_for_doit(common):
    assert common.name("chip", "potsdam", "2_10") == "chip:potsdam:2_10"
    assert common.name("chip", "p", "a=b*:c ü") == "chip:p:a%3Db%2A%3Ac %C3%BC"


def test_seeds_differ_by_artifact_and_project_seed(common):
    class Project:
        seed = 0

    class Other:
        seed = 1

    seeds = {common.seed(p, a) for p in (Project, Other) for a in ("chip:a", "chip:b", "train")}
    assert len(seeds) == 6
    assert all(0 <= s < 2**31 for s in seeds)


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b.tif", "/", "c\\d", " ", "é"]), max_size=6), st.booleans())
def test_paths_are_those_of_the_workspace_without_detours(parts, is_absolute):
    from rvbuild.rules.common import _resolve

    path = "/" * is_absolute + "/".join(parts)
    assert str(_resolve("/w/s", path)) == str(Path(os.path.normpath(os.path.join("/w/s", path))))  # noqa: PTH118


PROJECT = """
[project]
task = "semantic_segmentation"
[classes]
a = "#ff0000"
b = "#00ff00"
[scenes]
train = {train}
validation = {validation}
[scene]
image = "{{id}}.tif"
labels = {{ raster = "{{id}}_label.tif", encoding = "id" }}
[predict]
strip_px = 1000000
"""


def test_settings_are_made_as_often_for_many_scenes_as_for_few(tmp_path, monkeypatch):
    """What is equal for all scenes is computed once: there may be thousands of them."""
    from rvbuild import rules
    from rvbuild.project.load import load
    from rvbuild.project.toml.table import Table
    from rvbuild.rules.inputs.sizes import Sizes

    made: list[str] = []
    settings_as = Table.settings_as
    monkeypatch.setattr(Table, "settings_as", lambda *a: made.append(type(a[0]).__name__) or settings_as(*a))
    counts = []
    for number in (3, 12):
        ids = [f"s{n}" for n in range(number)]
        path = tmp_path / f"{number}.toml"
        path.write_text(PROJECT.format(train=ids[: number // 3], validation=ids[number // 3 :]))
        project = load(path)
        project.memo[Sizes] = Sizes(lambda questions: [(10, 10)] * len(questions))
        made.clear()
        artifacts = rules.artifacts(project)
        assert sum(artifact.stage == "infer" for artifact in artifacts) == number - number // 3
        counts.append(len(made))
    assert counts[0] == counts[1]
