"""Projects: opened, looked at and built from Python."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import rvbuild

from .conftest import write_labels, write_workspace


def test_all_problems_are_in_one_exception(tmp_path: Path) -> None:
    path = write_workspace(tmp_path / "ws", "segmentation")
    path.write_text(path.read_text().replace("size_px", "sise_px").replace("epochs = 2", "epochs = 0"))
    with pytest.raises(rvbuild.ProjectError) as error:
        rvbuild.open(path)
    assert len(error.value.problems) == 2
    assert any('did you mean "size_px"?' in problem for problem in error.value.problems)


def test_a_project_says_what_it_declares(fresh: Path) -> None:
    project = rvbuild.open(fresh)
    assert (project.name, project.task, project.path) == ("p", "semantic_segmentation", fresh)
    assert project.workspace == fresh.parent.parent
    assert [(item.id, item.name) for item in project.classes] == [(0, "building"), (1, "ground"), (2, "null")]
    assert {scene.id: scene.split for scene in project.scenes.values()} == {
        "a": "train",
        "b": "train",
        "c": "validation",
    }


@pytest.mark.parametrize("overrides", [{"chip.stride_px": 32}, ["chip.stride_px=32"]])
def test_keys_are_overridden(fresh: Path, overrides: object) -> None:
    ours, theirs = rvbuild.open(fresh), rvbuild.open(fresh, set=overrides)  # type: ignore[arg-type]
    keys = [next(s.key for s in project.status() if s.stage == "chip") for project in (ours, theirs)]
    assert keys[0] != keys[1]


def test_values_of_every_type_are_overridden(fresh: Path) -> None:
    values = {
        "project.name": "q",
        "train.lr": 1e-5,
        "train.pretrained": False,
        "train.model_args": {"width": 3, "depth": 1},
        "scenes.train": ["b"],
    }
    project = rvbuild.open(fresh, set=values)
    assert project.name == "q"
    assert list(project.scenes) == ["b", "c"]


def test_status_and_why_are_data(fresh: Path) -> None:
    project = rvbuild.open(fresh)
    status = project.status()
    assert {item.state for item in status} == {rvbuild.State.MISSING}
    assert [item.label for item in status if item.stage == "chip"] == ["chip:a", "chip:b", "chip:c"]
    (explanation,) = project.why("eval")
    assert explanation.causes[0].label == "eval" and explanation.causes[0].depth == 0
    assert {cause.stage for cause in explanation.causes} >= {"eval", "infer", "train", "chip"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        status[0].stage = "x"  # type: ignore[misc]
    with pytest.raises(rvbuild.UsageError, match='did you mean "chip"'):
        project.why("chop")


def test_a_build_is_incremental_and_says_what_it_did(fresh: Path) -> None:
    project, lines = rvbuild.open(fresh), []
    run = project.build("chip", jobs=2, progress=lines.append)
    assert run.ok and run.did("built") == ("chip:a", "chip:b", "chip:c")
    assert all(path.is_file() for artifact in run.artifacts for path in artifact.outputs)
    assert sum(line.startswith("built chip:") for line in lines) == 3
    assert project.build("chip", inline=True).did("fresh") == ("chip:a", "chip:b", "chip:c")
    write_labels(project.workspace / "data/b.geojson", [(0, 0, 20, 20)])
    assert [s.label for s in project.status() if s.stage == "chip" and s.state is rvbuild.State.STALE] == ["chip:b"]
    assert any("data/b.geojson" in reason for cause in project.why("chip:b")[0].causes for reason in cause.reasons)
    assert project.build("chip", scenes=["b"], inline=True).did(rvbuild.Did.BUILT) == ("chip:b",)


def test_a_failure_is_an_exception_that_holds_what_was_done(fresh: Path) -> None:
    project = rvbuild.open(fresh, set={"train.lr": 1e30})
    with pytest.raises(rvbuild.BuildError, match="diverged") as error:
        project.build("train", inline=True)
    assert error.value.run.did("failed") == ("train",)
    assert set(error.value.run.did("built")) >= {"chip:a", "chip:b", "chip:c"}


def test_what_cannot_be_built_is_refused(fresh: Path) -> None:
    project = rvbuild.open(fresh)
    with pytest.raises(rvbuild.UsageError, match='did you mean "train"'):
        project.build("trian")
    with pytest.raises(rvbuild.UsageError, match="no such scene"):
        project.build("chip", scenes=["z"])
    with pytest.raises(rvbuild.UsageError, match="from 1"):
        project.build("chip", jobs=0)
    (project.workspace / "data/a.tif").unlink()
    with pytest.raises(rvbuild.ProjectError, match=r"data/a\.tif"):
        project.build("chip")


RULE = """\
from pathlib import Path
Path(__file__).with_name("ran").touch()
VERSION = 1
def artifacts(project, every):
    return ()
"""


def test_looking_runs_no_code_without_trust(fresh: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = fresh.parent.parent
    (root / "own").mkdir()
    (root / "own/count.py").write_text(RULE)
    fresh.write_text(fresh.read_text().replace("[classes]", 'rules = ["own/count.py"]\n\n[classes]'))
    project = rvbuild.open(fresh)
    with caplog.at_level(logging.WARNING, "rvbuild"):
        project.status()
        project.why("chip")
    assert not (root / "own/ran").exists()
    assert "left out: count" in caplog.text
    rvbuild.open(fresh, trust=True).status()
    assert (root / "own/ran").exists()


def test_a_rule_whose_package_is_hidden_by_another_says_where_that_is(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "library/hiding.py"
    other.parent.mkdir()
    other.touch()
    monkeypatch.syspath_prepend(str(other.parent))
    root = fresh.parent.parent
    (root / "hiding").mkdir()
    (root / "hiding/count.py").write_text(RULE)
    fresh.write_text(fresh.read_text().replace("[classes]", 'rules = ["hiding/count.py"]\n\n[classes]'))
    with pytest.raises(rvbuild.UsageError, match="because there is another package hiding") as error:
        rvbuild.open(fresh, trust=True).status()
    assert str(other) in str(error.value) and "hiding/__init__.py" in str(error.value)


def test_imagery_that_code_transforms_needs_trust(fresh: Path) -> None:
    root = fresh.parent.parent
    (root / "bright.py").write_text("def double(image, valid):\n    return image * 2\n")
    text = fresh.read_text()
    image = 'image = { files = "data/{id}.tif", transform = [{ kind = "function", function = "bright:double" }] }'
    fresh.write_text(text.replace('image = "data/{id}.tif"', image))
    with pytest.raises(rvbuild.UsageError, match="needs Python of the workspace, bright"):
        rvbuild.open(fresh).scenes["a"].read()
    plain = rvbuild.open(write_workspace(root.parent / "plain", "segmentation")).scenes["a"].read()
    doubled = rvbuild.open(fresh, trust=True).scenes["a"].read()
    assert (doubled.image == plain.image * 2).all()


def test_opening_and_looking_load_no_pixels(fresh: Path) -> None:
    code = (
        "import sys, rvbuild\n"
        "assert not {'numpy', 'torch', 'rasterio', 'doit', 'pydantic'} & set(sys.modules)\n"
        f"project = rvbuild.open({str(fresh)!r})\n"
        "project.scenes\n"
        "assert not {'torch', 'rasterio', 'fiona'} & set(sys.modules), 'opening'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
