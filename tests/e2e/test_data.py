"""`rvbuild data` and `rvbuild check --deep`: all pixels counted, and looked at once."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import rasterio
from PIL import Image

from rvbuild import rules
from rvbuild.checks import label_rasters
from rvbuild.session import session
from rvbuild.session.checking import check as checking

from .conftest import BOXES, Space, write_labels


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run workers' jobs in this process: a pool takes a second to start."""
    make = session.make_executor
    for module in (session, checking):
        monkeypatch.setattr(module, "make_executor", lambda workspace, projects, *_: make(workspace, projects, True))


def test_what_a_project_holds(space: Space, inline: None) -> None:
    space.edit('validation = ["c"]', 'validation = ["c"]\ntest = ["t"]')
    space.edit("[chip]", '[scenes.by_id.t]\nimage = "data/c.tif"\nlabels = false\n\n[chip]')
    result = space.rvbuild("data", "-q")
    assert (result.status, result.out) == (0, "")
    report = json.loads((space.root / "cache/p/data/data.json").read_text())
    area = {scene: sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) for scene, boxes in BOXES.items()}
    train = area["a"] + area["b"]
    counts = {split["split"]: split["counts"] for split in report["splits"]}
    assert counts["train"] == [train, 2 * 64 * 64 - train, 0]
    assert counts["validation"] == [area["c"], 64 * 64 - area["c"], 0]
    assert [split["labelled"] for split in report["splits"]] == [2, 1, 0]
    assert report["splits"][0]["area_m2"] == 2 * 32 * 32
    page = (space.root / "cache/p/data/index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4 and f"{train:,} pixels" in page
    assert "http" not in page
    again = space.rvbuild("data")
    assert "built" not in again.out and f"building  {train:,}" in again.out
    assert json.loads(space.rvbuild("data", "--json").out)["p"] == report
    # It is no part of a build, and an edit looks at one scene again.
    assert "data" not in {a["stage"] for a in space.rvbuild("status", "--json").json["artifacts"]}
    write_labels(space.root / "data/a.geojson", [(0, 0, 64, 64)])
    assert [line.split()[1] for line in space.rvbuild("data").out.splitlines() if line.startswith("built")] == [
        "data:a",
        "data",
    ]


def test_labels_are_drawn_as_outlines(space: Space, inline: None) -> None:
    picture = space.root / "cache/p/data/a.jpg"
    assert space.rvbuild("data", "-q").status == 0
    filled = picture.read_bytes()
    assert space.rvbuild("data", "-q", "--outlines").status == 0
    pixels = np.asarray(Image.open(picture)).astype(int)
    plain, labelled = pixels[:, :64], pixels[:, -64:]
    unchanged = np.abs(plain - labelled).max(axis=-1) < 24
    assert 0.3 < unchanged.mean() < 0.95, "the image stays visible inside of outlines"
    assert space.rvbuild("data", "-q").status == 0
    assert picture.read_bytes() == filled


def test_clean_knows_what_data_made(space: Space, inline: None) -> None:
    made = ("data:a", "data:b", "data:c", "data")

    def built() -> list[str]:
        return [line.split()[1] for line in space.rvbuild("data").out.splitlines() if line.startswith("built")]

    assert sorted(built()) == sorted(made)
    shown = space.shown()
    output = space.rvbuild("clean", "data").out
    assert "p: data forgotten, " in output and "cache/p/data/{a." in output
    assert space.shown() == {}
    assert space.rvbuild("status", "--json").did("missing")  # of a build, which knows nothing of it
    assert sorted(built()) == sorted(made)  # forgotten, so that it is really made again
    assert space.shown() == shown
    assert "removed, kept in the store" in space.rvbuild("clean", "data", "--keep-cache").out
    assert built() == [] and space.shown() == shown
    assert space.rvbuild("log", "data", "--json").json["log"][4]["state"] == "cleaned"
    assert f"{len(shown)} files removed" in space.rvbuild("clean").out
    assert 'no such stage; did you mean "data"' in space.rvbuild("clean", "dat").err


def test_the_lock_of_stages_knows_surveys(space: Space, inline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that is as it was released is in no key of a survey; code that was edited is."""
    lock = importlib.import_module("rvbuild.rules.lock")
    name, version = "data/semantic_segmentation", rules.ASIDE["data"].VERSION
    code = lock.code_digest("data", "semantic_segmentation")
    keys = {}
    for locked in (code, "0" * 32):
        stages = {name: {"version": version, "code": locked}}
        monkeypatch.setattr(lock, "read", lambda stages=stages: {"stages": stages, "golden": {}})
        lines = [line for line in lock.changed(("semantic_segmentation",)) if line.startswith(name)]
        assert bool(lines) == (locked != code)
        for path in (space.root / "cache").glob("state.db*"):
            path.unlink()  # it keeps what was found of the code
        assert space.rvbuild("data", "-q").status == 0
        keys[locked] = space.rvbuild("log", "data", "--json").json["log"][0]["key"]
    assert keys[code] != keys["0" * 32]


def test_a_deep_check_finds_every_value_that_is_no_class(
    space: Space, inline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, value in (("ALL_PX", 0), ("SAMPLES", 1), ("SAMPLE_PX", 4)):
        monkeypatch.setattr(label_rasters, limit, value)
    for scene in "abc":
        with rasterio.open(space.root / f"data/{scene}.tif") as image:
            profile = {**image.profile, "count": 1}
        ids = np.zeros((1, 64, 64), dtype=np.uint8)
        if scene == "b":
            ids[0, 10:12, 10:13], ids[0, 5, 40] = 7, 9
        with rasterio.open(space.root / f"data/{scene}_label.tif", "w", **profile) as file:
            file.write(ids)
    space.edit(
        '{ vector = "data/{id}.geojson", class = "building", background = "ground" }',
        '{ raster = "data/{id}_label.tif" }',
    )
    assert space.rvbuild("check").status == 0  # these pixels are not read
    result = space.rvbuild("check", "--deep")
    assert result.status == 2
    assert "scene b: data/b_label.tif: values without a class: 7 (6 pixels), 9 (1 pixels)" in result.err
    assert len(result.err.splitlines()) == 1
    space.edit('"data/{id}_label.tif"', '"data/{id}_label.tif", other = "building"')
    result = space.rvbuild("check", "--deep")
    assert result.status == 0
    assert "no train scene has a label of class ground, which is not learnt" in result.out


def test_a_deep_check_finds_an_image_without_data(space: Space, inline: None) -> None:
    with rasterio.open(space.root / "data/c.tif", "r+") as file:
        file.nodata = 0
        file.write(np.zeros((3, 64, 64), dtype=np.uint8))
    result = space.rvbuild("check", "--deep")
    assert result.status == 2 and "scene c: no pixel has data" in result.err
