"""Training without stored chips: the same model, and no pixel of an image is copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from .conftest import Space, write_image, write_labels
from .projects import PROJECTS, write_project
from .test_property import unstored


def model(space: Space) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((space.root / "cache/p/train").iterdir())}


def chips(space: Space) -> dict[str, bytes]:
    return {name: content for name, content in space.shown().items() if name.startswith("chip/")}


def rewrite(path: Path, change: int, **profile: object) -> None:
    """Write an image again, in another way, and with `change` added to one pixel."""
    with rasterio.open(path) as file:
        pixels, old = file.read(), {**file.profile, **profile}
    pixels[:, 20, 20] += np.uint8(change)
    path.unlink()
    with rasterio.open(path, "w", **old) as file:
        file.write(pixels)


@pytest.fixture
def away(space: Space) -> Space:
    space.edit("[chip]\n", "[chip]\nstore = false\n")
    result = space.rvbuild("train", "-q")
    assert result.status == 0, result.err
    return space


@pytest.mark.parametrize("task", list(PROJECTS))
def test_the_model_is_the_same_to_the_byte(space: Space, task: str) -> None:
    write_project(space.root, task)
    # Chips of other sizes than they are cut at, and chips without data in places.
    for scene in "ab":
        rewrite(space.root / f"data/{scene}.tif", 0, nodata=25, compress="deflate")
    if task != "cells":
        limits = 'size_px = 32\nmethod = "random"\nper_scene = 9\nsize_limits_px = [20, 40]'
        space.edit(f"size_px = 32\nstride_px = {24 if task == 'segmentation' else 16}", limits)
    assert space.rvbuild("train", "-q").status == 0
    stored, before = model(space), chips(space)
    space.project.write_text(unstored(space.project.read_text()))

    # Nothing is trained, because the pixels are the same.
    result = space.rvbuild("train", "--json")
    assert result.did("built") == {"chip:a", "chip:b", "chip:c"}, result.out + result.err
    assert "train" in result.did("fresh")
    left = {name: content for name, content in before.items() if "/images-" not in name}
    known = {name for name in left if name.endswith("/blocks.json")}  # what it holds is of other settings
    assert {name: chips(space)[name] for name in left.keys() - known} == {
        name: left[name] for name in left.keys() - known
    }
    assert chips(space).keys() == left.keys()
    assert any("/images-" in name for name in before)
    shutil.rmtree(space.root / "cache")
    for workers in (0, 1):
        assert space.rvbuild("clean", "train", "-q").status == 0
        result = space.rvbuild("train", "--json", "--set", f"train.workers={workers}")
        assert "train" in result.did("built"), result.out + result.err
        assert model(space) == stored
    objects = [path.read_bytes() for path in (space.root / "cache/store/objects").rglob("*") if path.is_file()]
    assert objects and not any(b'"images":{"dtype"' in content for content in objects)


def test_edits_train_again_if_they_change_what_is_learnt(away: Space) -> None:
    space, first = away, model(away)
    write_labels(space.root / "data/a.geojson", [(5, 5, 25, 30)])
    result = space.rvbuild("train", "--json")
    assert result.did("built") == {"chip:a", "train"}
    assert result.reasons("train") == ["chips/train/a changed (chip:a)"]
    assert model(space) != first

    # A pixel of the image: chips are looked at again, and a model is trained.
    before = model(space)
    rewrite(space.root / "data/b.tif", 3)
    out = space.rvbuild("why", "train").out
    assert "image changed: data/b.tif" in out
    result = space.rvbuild("train", "--json")
    assert result.did("built") == {"analyze:b", "analyze", "chip:b", "train"}
    assert model(space) != before

    # The same pixels, stored in another way: nothing is trained.
    rewrite(space.root / "data/b.tif", 0, compress="lzw")
    result = space.rvbuild("train", "--json")
    assert result.did("built") == {"analyze:b", "chip:b"}
    assert "train" in result.did("fresh")
    assert space.rvbuild("status", "--json").did("fresh") >= {"train", "chip:a", "chip:b", "chip:c"}


def test_an_image_that_changes_while_a_model_is_trained(away: Space) -> None:
    (away.root / "meddle.py").write_text(
        "from pathlib import Path\n"
        "def meddle(sample, rng):\n"
        "    path = Path('data/b.tif')\n"
        "    if not path.with_suffix('.done').exists():\n"
        "        path.with_suffix('.done').touch()\n"
        "        path.write_bytes(Path('data/c.tif').read_bytes())\n"
        "    return sample\n"
    )
    away.edit("epochs = 2\n", 'epochs = 2\naugment = ["meddle:meddle"]\n')
    result = away.rvbuild("train")
    assert result.status == 1
    assert "data/b.tif" in result.out and "Traceback" not in result.out + result.err
    result = away.rvbuild("train", "--json")
    assert result.status == 0 and result.did("built") >= {"chip:b", "train"}


def test_scenes_may_differ(space: Space) -> None:
    space.edit("[chip]\n", "[scenes.by_id.a]\nchip = { store = false }\n\n[chip]\n")
    assert space.rvbuild("train", "-q").status == 0
    names = chips(space)
    assert not any("a/images-" in name for name in names) and any("b/images-" in name for name in names)
    write_image(space.root / "data/a.tif", [], seed=5)
    assert space.rvbuild("train", "--json").did("built") >= {"chip:a", "train"}
