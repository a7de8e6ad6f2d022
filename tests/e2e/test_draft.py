"""`rvbuild draft`: a map from labels, without a training, and what an edit of labels builds again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rvbuild.cli.report import make
from rvbuild.session.build import Order, planned
from rvbuild.session.projects import load_all
from rvbuild.tasks.classification.cells import read_cells

from .conftest import BOXES, Space, write_labels
from .projects import PROJECTS, write_project

pytestmark = pytest.mark.slow

SMALL = "\n[draft]\nblock_px = 32\n"


def drafted(space: Space) -> Space:
    space.project.write_text(space.project.read_text() + SMALL)
    result = space.rvbuild("draft", "-q")
    assert result.status == 0, result.out + result.err
    return space


def test_a_draft_is_a_map_of_all_scenes_and_an_evaluation(space: Space) -> None:
    result = drafted(space).rvbuild("draft", "--json")
    scenes = [f"{stage}:{scene}" for stage in ("features", "draft") for scene in "abc"]
    assert result.did("fresh") == {*scenes, "sums:a", "sums:b", "head", "draft_eval:c", "draft_eval"}
    assert not (space.root / "cache/p/chip").exists()
    assert space.read("draft/eval.json")["summary"]["overall"]["mean_iou"] > 0.6
    assert "# Evaluation" in (space.root / "cache/p/draft/eval.md").read_text()
    with rasterio.open(space.root / "cache/p/draft/c/labels.tif") as file:
        labels = file.read(1)
    x0, y0, x1, y1 = BOXES["c"][0]
    assert (labels[y0:y1, x0:x1] == 0).mean() > 0.8
    assert np.isin(labels, (0, 1)).all()


def test_an_edit_of_labels_sums_solves_and_maps_again(space: Space) -> None:
    drafted(space)
    before = space.shown()
    write_labels(space.root / "data/a.geojson", [*BOXES["a"], (40, 5, 50, 12)])
    result = space.rvbuild("draft", "--json")
    assert result.did("built") >= {"sums:a", "head"}
    assert {label for label in result.did("built") if label.startswith("features")} == set()
    assert "sums:b" in result.did("fresh")
    row = "sums/a/row-00001.npy"
    assert space.shown()[row] == before[row]
    assert space.shown()["sums/a/row-00000.npy"] != before["sums/a/row-00000.npy"]
    write_labels(space.root / "data/a.geojson", BOXES["a"])
    result = space.rvbuild("draft", "--json")
    assert not result.did("built")
    assert space.shown() == before


def test_the_scene_that_was_edited_is_mapped_first(space: Space) -> None:
    drafted(space)
    write_labels(space.root / "data/b.geojson", [BOXES["b"][0]])
    lines = [line for line in space.rvbuild("draft").out.splitlines() if "    draft:" in line]
    assert [line.split()[1] for line in lines] == ["draft:b", "draft:a", "draft:c"]


def test_files_can_be_checked_after_the_build(space: Space, capsys: pytest.CaptureFixture[str]) -> None:
    drafted(space)
    write_labels(space.root / "data/a.geojson", [BOXES["a"][0]])
    reporter = make(False, 0, False)
    with planned(load_all([space.project], []), Order("draft", inline=True, checks_after=True), reporter) as work:
        work.run(reporter)
    out = capsys.readouterr().out
    assert out.index("built    sums:a") < out.index("one split")


def test_labels_of_a_validation_scene_are_only_evaluated(space: Space) -> None:
    drafted(space)
    write_labels(space.root / "data/c.geojson", [BOXES["c"][0]])
    assert space.rvbuild("draft", "--json").did("built") == {"draft_eval:c", "draft_eval"}


def test_build_leaves_drafts_out_and_status_shows_them_once_there_are_some(space: Space) -> None:
    stages = {row["stage"] for row in space.rvbuild("status", "--json").json["artifacts"]}
    assert "chip" in stages
    assert not stages & {"draft", "features"}
    assert "head" in space.rvbuild("why", "draft").out
    drafted(space)
    assert {"draft", "features"} <= {row["stage"] for row in space.rvbuild("status", "--json").json["artifacts"]}
    built = {row["stage"] for row in space.rvbuild("build", "-n", "--json").json["artifacts"]}
    assert "train" in built
    assert not built & {"draft", "features", "sums", "head", "draft_eval"}
    assert space.rvbuild("clean", "draft", "-q").status == 0
    assert not (space.root / "cache/p/features").exists()


@pytest.mark.parametrize("task", list(PROJECTS))
def test_each_task_has_a_draft(space: Space, task: str) -> None:
    write_project(space.root, task)
    lines = drafted(space).rvbuild("draft").out
    with rasterio.open(space.root / "cache/p/draft/c/labels.tif") as file:
        labels = file.read(1)
    x0, y0, x1, y1 = BOXES["c"][0]
    inside, whole = (labels[y0:y1, x0:x1] == 0).mean(), (labels == 0).mean()
    assert inside > 0.7
    assert whole < 0.5
    evaluated = task != "boxes"
    assert (space.root / "cache/p/draft/eval.json").exists() == evaluated
    assert ("a draft of boxes is a map of where objects are; it is not evaluated" in lines) != evaluated


def test_cells_are_evaluated(space: Space) -> None:
    write_project(space.root, "cells")
    drafted(space)
    assert read_cells(space.root / "cache/p/draft/c/cells.json").predicted.all()
    assert space.read("draft/eval.json")["summary"]["overall"]["accuracy"] > 0.7
    write_labels(space.root / "data/c.geojson", [BOXES["c"][0]])
    assert space.rvbuild("draft", "--json").did("built") == {"draft_eval:c", "draft_eval"}


def test_parts_of_a_scene_share_its_features_and_map(space: Space) -> None:
    space.edit(
        'train = ["a", "b"]\nvalidation = ["c"]',
        'train = ["a", "b"]\nvalidation = { fraction = 0.25, by = "block", block_px = 32 }',
    )
    result = drafted(space).rvbuild("draft", "--json")
    parts = [
        f"{stage}:{scene}.{split}"
        for stage, split in (("sums", "train"), ("draft_eval", "validation"))
        for scene in "ab"
    ]
    scenes = [f"{stage}:{scene}" for stage in ("features", "draft") for scene in "ab"]
    assert result.did("fresh") == {*parts, *scenes, "head", "draft_eval"}
    pixels = [space.read(f"sums/{scene}.train/sums.json")["pixels"] for scene in "ab"]
    assert [sum(each) for each in pixels] == [3 * 32 * 32] * 2


def test_scenes_with_one_image_are_encoded_once_without_a_word(space: Space) -> None:
    for scene in "bc":
        shutil.copy(space.root / "data/a.tif", space.root / f"data/{scene}.tif")
    space.project.write_text(space.project.read_text() + SMALL)
    result = space.rvbuild("draft", "-j", "3", inline=False)
    assert result.status == 0, result.err
    assert "waiting" not in result.out + result.err
    assert sum(line.startswith("built    features:") for line in result.out.splitlines()) == 1


def test_drafts_travel_with_a_remote_store(space: Space, tmp_path: Path) -> None:
    before = drafted(space).shown()
    assert space.rvbuild("cache", "push", str(tmp_path / "remote")).status == 0
    shutil.rmtree(space.root / "cache")
    fetched = space.rvbuild("cache", "pull", str(tmp_path / "remote"))
    assert fetched.status == 0
    # What `build` makes was not sent.
    assert "fetched 11 results" in fetched.out and "are still to be built" in fetched.out, fetched.out
    assert space.rvbuild("draft", "--json").did("built") == set()
    assert space.shown() == before


def test_bytes_do_not_depend_on_threads_or_processes(space: Space) -> None:
    first = drafted(space).shown()
    shutil.rmtree(space.root / "cache")
    space.environment = {"RVBUILD_THREADS": "3", "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    result = space.process("draft", "-q", "-j", "2")
    assert result.status == 0, result.err
    assert space.shown() == first


def test_no_torch_is_imported(space: Space) -> None:
    code = (
        "import sys; from rvbuild.cli import main; sys.argv = ['rvbuild', 'draft', '--inline', '-q']; status = main()\n"
        "print(status, sorted({'torch', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=space.root, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "0 []", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('encoder = "mobilenet_v3"', 'unknown encoder "mobilenet_v3"; did you mean "mobilenet_v'),
        ('encoder = "random"\nweights = "w.pth"', 'draft.weights: has no effect with encoder = "random"'),
        ("block_px = 100", "draft.block_px: expected a multiple of 8 cells (32 px), found 100"),
        ('encoder = "resnet18"\nbands = [0, 1]', "draft.bands: expected three bands, found 2"),
    ],
)
def test_mistakes_in_the_table_are_told(space: Space, table: str, message: str) -> None:
    space.project.write_text(f"{space.project.read_text()}\n[draft]\n{table}\n")
    result = space.rvbuild("draft")
    assert result.status == 2
    assert message in result.err


def test_weights_that_are_not_there_are_told_when_a_draft_is_made(space: Space) -> None:
    space.project.write_text(
        f'{space.project.read_text()}\n[draft]\nencoder = "mobilenet_v2"\nweights = "data/w.pth"\n'
    )
    result = space.rvbuild("draft")
    assert result.status == 2
    assert "draft.weights: no such file: data/w.pth" in result.err
    assert "w.pth" not in space.rvbuild("chip", "-n").err


def test_a_project_without_training_scenes_has_no_draft(space: Space) -> None:
    space.edit('train = ["a", "b"]\nvalidation = ["c"]', 'test = ["c"]')
    space.edit("[train]\n", '[train]\nchips = { folder = "data/own" }\n')
    result = space.rvbuild("draft")
    assert result.status == 2
    assert "draft learns from the labels of training scenes" in result.err
