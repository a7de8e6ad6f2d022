"""Sweeps: a point gives what a project file with its keys gives, and the best one becomes the project."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .conftest import Space
from .test_pipelines import blocks, write_page

LR = "lr = 1e-2"


@pytest.fixture(scope="module")
def swept(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("swept") / "ws"
    shutil.copytree(template, root)
    result = Space(root).rvbuild("sweep", "--inline", "--grid", "train.lr=1e-2,2e-2,1e30", "--json")
    assert result.status == 1  # one point diverges
    (root / "first.json").write_text(result.out)
    return root


@pytest.fixture
def points(swept: Path, tmp_path: Path) -> Space:
    root = tmp_path / "ws"
    shutil.copytree(swept, root, symlinks=True)
    return Space(root)


def _ids(space: Space) -> dict[float, str]:
    return {
        row["keys"]["train.lr"]: row["id"]
        for row in space.rvbuild("exp", "--json").json["points"]
        if row["id"] != "project"
    }


def test_failures_stop_no_other_point_and_the_best_is_first(swept: Path) -> None:
    document = json.loads((swept / "first.json").read_text())
    states = {row["keys"]["train.lr"]: row["state"] for row in document["points"]}
    assert states == {0.01: "done", 0.02: "done", 1e30: "failed"}
    values = [row["metrics"].get("validation.mean_iou") for row in document["points"]]
    assert values[0] >= values[1] and values[2] is None
    assert document["best"] == document["points"][0]["id"]
    assert "diverged" in document["points"][2]["message"]


def test_a_point_has_the_bytes_of_a_project_file_with_its_keys(points: Space, template: Path, tmp_path: Path) -> None:
    id_ = _ids(points)[0.02]
    shutil.copytree(template, tmp_path / "clean")
    clean = Space(tmp_path / "clean")
    clean.edit(LR, "lr = 2e-2")
    assert clean.rvbuild("build").status == 0
    expected = clean.shown()
    of_point = points.shown(f"p/points/{id_}")
    assert json.loads(of_point.pop("point.json")) == {"train.lr": 0.02}
    assert {"train/model.safetensors", "eval/eval.json", "report/index.html", "bundle/p.zip"} <= of_point.keys()
    assert of_point == {path: content for path, content in expected.items() if path in of_point}
    shared = {path.partition("/")[0] for path in expected.keys() - of_point.keys()}
    assert shared == {"analyze", "chip"}  # these are the project's own
    project = points.shown()
    assert all(project[path] == expected[path] for path in expected if path.startswith(("analyze/", "chip/")))


def test_what_the_project_has_already_is_its_own(points: Space) -> None:
    folder = points.root / "cache/p/points" / _ids(points)[0.01]
    assert [path.name for path in folder.iterdir()] == ["point.json"]
    assert points.rvbuild("build", "--json").json["summary"]["built"] == 0


def test_a_sweep_goes_on_where_it_was(points: Space) -> None:
    again = points.rvbuild("sweep", "--inline", "--grid", "train.lr=1e-2,2e-2,4e-2", "--stage", "eval", "-v")
    assert again.status == 0, again.err
    made = [line for line in again.out.splitlines() if line.startswith(("built", "restored"))]
    new = _ids(points)[0.04]
    assert made and all(f"p/points/{new} " in line for line in made)
    assert not (points.root / f"cache/p/points/{new}/bundle").exists()
    points.edit("epochs = 2", "epochs = 1")
    states = {row["id"]: row["state"] for row in points.rvbuild("exp", "--json").json["points"]}
    assert states[new] == "stale" and "done" not in states.values()
    points.edit("epochs = 1", "epochs = 2")
    assert "done" in {row["state"] for row in points.rvbuild("exp", "--json").json["points"]}


def test_promotion_writes_the_keys_and_a_build_only_restores(points: Space) -> None:
    points.edit(LR, f"{LR}   # tried 1e-3")
    before = points.project.read_text()
    id_ = _ids(points)[0.02]
    shown = points.rvbuild("exp", "promote", id_[:5], "-n")
    assert "+lr = 0.02   # tried 1e-3" in shown.out and points.project.read_text() == before
    assert points.rvbuild("exp", "promote", id_).status == 0
    assert points.project.read_text() == before.replace(LR, "lr = 0.02")
    built = points.rvbuild("build", "--json").json["summary"]
    assert built["built"] == 0 and built["restored"] > 0
    assert points.rvbuild("exp", "promote", id_).out.strip().endswith("has these values already")


def test_removed_points_are_gone_but_the_store_keeps_results(points: Space) -> None:
    ids = _ids(points)
    kept = points.shown(f"p/points/{ids[0.02]}")
    assert points.rvbuild("exp", "rm", ids[0.02], "-n").out.startswith("would remove")
    assert points.rvbuild("exp", "rm", ids[0.02]).status == 0
    assert not (points.root / f"cache/p/points/{ids[0.02]}").exists()
    assert ids[0.02] not in _ids(points).values()
    assert points.rvbuild("clean", "projects/p.toml").status == 0
    assert _ids(points)[1e30] == ids[1e30]  # `clean` is about the project
    again = points.rvbuild("sweep", "--inline", "--grid", "train.lr=2e-2")
    assert again.status == 0 and " train: epoch" not in again.out  # trained before
    assert points.shown(f"p/points/{ids[0.02]}") == kept
    assert points.rvbuild("exp", "rm", "--all").status == 0
    assert not (points.root / "cache/p/points").exists()


def test_all_points_are_checked_before_anything_runs(space: Space) -> None:
    result = space.rvbuild("sweep", "--grid", "train.lr=1e-3,-1,abc", "--grid", "train.lossy=dice")
    assert result.status != 0 and not (space.root / "cache/p").exists()
    lines = result.err.splitlines()
    assert lines == [
        '--grid train.lossy="dice": train.lossy: unknown key; did you mean "loss"?',
        "--grid train.lr=-1: train.lr: expected a number above 0, found -1",
        '--grid train.lr="abc": train.lr: expected a number, found "abc"',
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep"], "--grid train.lr=1e-4,3e-4"),
        (["sweep", "--grid", "train.lr=1", "--metric", "test.mean_iou"], "the evaluated splits are validation"),
        (["sweep", "--grid", "train.lr=1", "--metric", "validation.mean_iuo"], 'did you mean "validation.mean_iou"?'),
        (["sweep", "--grid", "train.lr=1", "--metric", "validation.x.iou"], 'there is no class "x"'),
        (["sweep", "--grid", "train.lr=1", "--stage", "evla"], 'did you mean "eval"?'),
        (["exp", "promote", "p12"], "has no points"),
        (["exp", "rm"], "expected ids of points, or --all"),
        (["exp", "promot", "p12"], 'did you mean "promote"?'),
    ],
)
def test_mistakes_have_one_message(space: Space, words: list[str], message: str) -> None:
    result = space.rvbuild(*words)
    assert result.status == 2
    assert message in result.err and "Traceback" not in result.err


def test_the_page_shows_points_and_curves(points: Space) -> None:
    assert points.rvbuild("exp", "--html").status == 0
    page = (points.root / "cache/p/points/index.html").read_text()
    assert all(id_ in page for id_ in _ids(points).values())
    assert page.count("<polyline") >= 4 and "validation.mean_iou" in page
    assert "http" not in page and "<script" not in page  # it needs no other file


def test_points_and_projects_are_compared(points: Space) -> None:
    ids = _ids(points)
    two = points.rvbuild("diff", ids[0.01], ids[0.02], "--json").json
    assert two["keys"] == {"train.lr": [0.01, 0.02]}
    assert len(set(two["metrics"]["validation.mean_iou"])) == 2
    alone = points.rvbuild("diff", ids[0.02][:6])
    assert alone.out.startswith("- project  done") and "train.lr: 0.01 → 0.02" in alone.out
    (points.root / "projects/q.toml").write_text(points.project.read_text().replace("epochs = 2", "epochs = 3"))
    projects = points.rvbuild("diff", "projects/p.toml", "projects/q.toml")
    assert "train.epochs: 2 → 3" in projects.out
    assert "no such point" in points.rvbuild("diff", ids[0.01], "pzz", "projects/p.toml").err


def test_own_stages_that_points_share_are_built_once(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVBUILD_TRUST", "yes")
    write_page(space, "squares")
    labels = next(text for text in blocks("toml") if text.startswith("[scene]")).splitlines()[1]
    space.edit('labels = { vector = "data/{id}.geojson", class = "building", background = "ground" }', labels)
    result = space.rvbuild("sweep", "--inline", "--stage", "chip", "--grid", "chip.size_px=32,24")
    assert result.status == 0, result.out + result.err
    assert (space.root / "cache/p/squares/a.geojson").exists()
    (of_point,) = (space.root / "cache/p/points").glob("*/chip")
    assert [path.name for path in sorted(of_point.parent.iterdir())] == ["chip", "point.json"]
