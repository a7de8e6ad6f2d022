"""Checks before work, as a user meets them: `rvbuild check`, and the start of a build."""

from __future__ import annotations

import lzma
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import torchvision

from .conftest import Space, write_image, write_labels


def rewrite(space: Space, scene: str, **changes: object) -> None:
    """Write the image of a scene anew with another profile."""
    path = space.root / f"data/{scene}.tif"
    with rasterio.open(path) as file:
        profile, pixels = {**file.profile, **changes}, file.read()
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.resize(pixels, (profile["count"], *pixels.shape[1:])).astype(profile["dtype"]))


def test_everything_wrong_with_the_files_at_once(space: Space) -> None:
    rewrite(space, "a", count=4, dtype="uint16")
    (space.root / "data/b.geojson").write_text("")
    write_labels(space.root / "data/far.geojson", [(500, 500, 600, 600)])
    space.edit("[scene]", '[scenes.by_id.c]\naoi = "data/far.geojson"\n\n[scene]')
    result = space.rvbuild("check")
    assert result.status == 2
    lines = result.err.splitlines()
    assert len(lines) == 4, result.err
    assert "scene a: has 4 bands, but scene b has 3" in result.err
    assert "scene a: has pixels of type uint16, but scene b has pixels of type uint8" in result.err
    assert "projects/p.toml:17: scene.labels.vector: scene b: data/b.geojson: is empty (0 bytes)" in result.err
    assert "scenes.by_id.c.aoi: scene c: data/far.geojson: the area of interest lies outside the image" in result.err
    # A build says the same, and runs nothing.
    built = space.rvbuild("build")
    assert (built.status, built.err.splitlines()) == (2, lines)
    assert "built" not in built.out
    assert space.shown() == {}


def test_a_file_of_which_the_process_dies_is_a_finding(space: Space) -> None:
    """GDAL, or fiona, ends with a segmentation fault; versions of them that do not have a message of their own."""
    damaged = Path(__file__).parents[1] / "fuzz/corpus/ends-the-process.gpkg.xz"
    (space.root / "data/b.gpkg").write_bytes(lzma.decompress(damaged.read_bytes()))
    space.edit("[scene]", '[scenes.by_id.b]\nlabels = { vector = "data/b.gpkg", class = "building" }\n\n[scene]')
    result = space.rvbuild("check")
    assert result.status == 2
    (line,) = [line for line in result.err.splitlines() if "warning" not in line]
    assert "scenes.by_id.b.labels" in line and "scene b: " in line and "data/b.gpkg" in line
    assert "Traceback" not in result.err
    surveyed = space.rvbuild("data")
    assert surveyed.status == 1 and "data:b: " in surveyed.err and "data/b.gpkg" in surveyed.err
    assert "built    data:a" in surveyed.out
    built = space.rvbuild("chip", "--keep-going", "--json", inline=False)
    assert built.status == 1 and built.did("failed") == {"chip:b"}
    assert built.did("built") == {"chip:a", "chip:c"}


def test_a_build_asks_only_about_what_it_builds(space: Space) -> None:
    (space.root / "data/b.geojson").write_text("")
    assert space.rvbuild("analyze").status == 0  # reads no labels
    assert space.rvbuild("chip", "--scene", "a").status == 0
    result = space.rvbuild("chip", "--keep-going", "--json")
    assert result.status == 1 and result.did("built") == {"chip:c"} and result.did("failed") == {"chip:b"}


def test_nothing_is_opened_when_nothing_is_to_do(built: Space, monkeypatch) -> None:
    from rvbuild.checks import scene

    monkeypatch.setattr(scene, "check_scene", lambda *_: (_ for _ in ()).throw(AssertionError))
    assert built.rvbuild("build", "--json").did("fresh")
    monkeypatch.undo()
    assert built.rvbuild("check").status == 0
    monkeypatch.setattr(scene, "check_scene", lambda *_: (_ for _ in ()).throw(AssertionError))
    built.edit("epochs = 2", "epochs = 1")
    assert "train" in built.rvbuild("build", "--json").did("built")  # what was seen of the scenes is kept


def test_warnings_are_said_and_do_not_stop(space: Space) -> None:
    write_image(space.root / "data/c.tif", [], size=20)
    write_labels(space.root / "data/b.geojson", [(500, 500, 600, 600)])
    space.edit("size_px = 32", "size_px = 32\nwithin_aoi = true")
    space.edit("epochs = 2", "epochs = 1\nmax_stds = 2.0")
    result = space.rvbuild("check")
    assert result.status == 0, result.err
    for text in (
        "projects/p.toml:17: chip.size_px: warning: scene c: a chip of 32 px is larger than the image of 20 x 20 px",
        "projects/p.toml:14: scene.labels.vector: warning: scene b: data/b.geojson: no label lies on the image",
        "projects/p.toml:10: scenes.validation[0]: warning: scene c: all of the area of this validation scene is",
        "projects/p.toml:18: chip.within_aoi: warning: has no effect",
        "projects/p.toml:26: train.max_stds: warning: has no effect",
        "good, with 5 warnings",
    ):
        assert text in result.out, result.out
    chips = space.rvbuild("chip")
    assert chips.status == 0 and "warning: scene b: data/b.geojson: no label lies on the image" in chips.out


def test_many_scenes_with_one_problem_are_told_together(space: Space) -> None:
    scenes = [f"s{i}" for i in range(6)]
    for scene in scenes:
        write_image(space.root / f"data/{scene}.tif", [], size=20)
        write_labels(space.root / f"data/{scene}.geojson", [(500, 500, 600, 600)])
    space.edit('train = ["a", "b"]', f"train = {scenes}".replace("'", '"'))
    result = space.rvbuild("check")
    assert result.status == 2
    assert "no training scene has a label on its image" in result.err
    assert "and so 6 more scenes: s1, s2, s3, s4, s5, c" not in result.err
    assert result.out.count("no label lies on the image") == 1
    assert "and so 5 more scenes: s1, s2, s3, s4, s5" in result.out


def test_an_edit_is_seen_by_the_next_check(space: Space) -> None:
    assert space.rvbuild("check").status == 0
    write_labels(space.root / "data/a.geojson", [(500, 500, 600, 600)])
    assert "no label lies on the image" in space.rvbuild("check").out
    write_labels(space.root / "data/a.geojson", [(5, 5, 25, 20)])
    assert "no label" not in space.rvbuild("check").out


def test_a_model_that_cannot_be_trained_is_told_before_work(space: Space) -> None:
    space.edit("width = ", "widht = ")
    for command in ("check", "build"):
        result = space.rvbuild(command)
        assert result.status == 2
        assert 'train.model_args: model "unet" has no argument "widht"; did you mean "width"?' in result.err
    assert not (space.root / "cache/p/chip").exists()
    assert space.rvbuild("chip").status == 0  # needs no model
    space.edit("widht = ", "width = ")
    assert space.rvbuild("check").status == 0


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ('pretrained = "data/first.zip"', "train.pretrained: no such file: data/first.zip"),
        ('pretrained = "data"', "train.pretrained: is a directory, not a file: data"),
        ('pretrained = "data/a.geojson"', "train.pretrained: data/a.geojson cannot be read as weights"),
        ('pretrained = "data/notes.zip"', "train.pretrained: data/notes.zip: is not a bundle of rvbuild"),
        ("normalize = { mean = [0.5], std = [0.2] }", "train.normalize: expected values for the 3 bands"),
    ],
)
def test_what_a_training_cannot_start_from_is_told_before_work(space: Space, train: str, expected: str) -> None:
    with zipfile.ZipFile(space.root / "data/notes.zip", "w") as archive:
        archive.writestr("notes.txt", "")
    space.edit("pretrained = false", train)
    line = space.project.read_text().splitlines().index(train) + 1
    for command in ("check", "train"):
        result = space.rvbuild(command)
        assert result.status == 2
        assert f"projects/p.toml:{line}: {expected}" in result.err
    assert not (space.root / "cache/p/chip").exists()


@pytest.mark.slow
def test_the_weights_of_the_encoder_of_drafts_are_looked_at(space: Space) -> None:
    text = space.project.read_text()
    space.project.write_text(f'{text}\n[draft]\nencoder = "mobilenet_v2"\nweights = "data/weights.pth"\n')
    result = space.rvbuild("check")
    assert result.status == 2
    assert "draft.weights: no such file: data/weights.pth" in result.err
    (space.root / "data/weights.pth").write_bytes(b"no weights")
    result = space.rvbuild("check")
    assert result.status == 2
    assert ": draft.weights: " in result.err
    assert "data/weights.pth cannot be read as weights" in result.err
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), space.root / "data/weights.pth")
    assert "good" in space.rvbuild("check").out
    space.edit('encoder = "mobilenet_v2"', 'encoder = "resnet18"')
    result = space.rvbuild("check")
    assert result.status == 2
    assert 'expected the weights of torchvision\'s "resnet18"; the file lacks' in result.err
