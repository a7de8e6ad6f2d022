"""Files that are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rvbuild.project.load import load
from rvbuild.project.missing import missing_files
from rvbuild.project.model import Project

Loader = Callable[..., Project]


def make(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("")


def test_nothing_is_missing(loaded: Loader, base: str) -> None:
    make(*(f"data/{id_}{suffix}.tif" for id_ in "abc" for suffix in ("", "_label")))
    assert missing_files(loaded(base)) == []


def test_each_file_is_named_with_its_scene_and_key(loaded: Loader, base: str) -> None:
    make("data/a.tif", "data/b.tif", "data/c.tif", "data/a_label.tif", "data/c_label.tif", "data/b_labels.tif")
    project = loaded(
        base.replace('["c"]', '["c"]\ntest = ["d"]\n\n[scenes.by_id.d]\nimage = ["data/a.tif", "tiles/d.tif"]')
        + 'aoi = ["aoi/{id}.geojson"]\n[train]\npretrained = "w/unet.pth"\n'
    )
    Path("data/c.tif").unlink()
    Path("data/c.tif").mkdir()
    assert missing_files(project, ["a"]) == [
        "projects/p.toml:22: train.pretrained: no such file: w/unet.pth",
        "projects/p.toml:20: scene.aoi: no such file: aoi/a.geojson (scene a)",
    ]
    assert missing_files(project, {"d", "b", "c"}) == [
        "projects/p.toml:22: train.pretrained: no such file: w/unet.pth",
        "projects/p.toml:18: scene.labels.raster: no such file: data/b_label.tif (scene b); "
        'did you mean "b_labels.tif"?',
        "projects/p.toml:18: scene.labels.raster: no such file: data/d_label.tif (scene d); "
        'if this scene has no labels, set labels = false in [scenes.by_id."d"]',
        "projects/p.toml:20: scene.aoi: no such file: aoi/b.geojson (scene b)",
        "projects/p.toml:20: scene.aoi: no such file: aoi/c.geojson (scene c)",
        "projects/p.toml:20: scene.aoi: no such file: aoi/d.geojson (scene d)",
        "projects/p.toml:17: scene.image: is a directory, not a file: data/c.tif (scene c)",
        "projects/p.toml:14: scenes.by_id.d.image[1]: no such file: tiles/d.tif (scene d)",
    ]


def test_many_files_are_listed_once_per_directory(loaded: Loader, base: str) -> None:
    text = base.replace("data/", "${DATA:-data/potsdam}/").replace('["a", "b"]', '["a", "b", "d"]')
    text = text.replace("[classes]", 'data_hint = "make data"\n\n[classes]')
    make("data/potsdam/b_label.tif")
    assert missing_files(loaded(text)) == [
        "projects/p.toml:15: scene.image: no such files: 4 in data/potsdam\n"
        "    a.tif (scene a)\n"
        "    b.tif (scene b)\n"
        "    d.tif (scene d)\n"
        "    c.tif (scene c)",
        "projects/p.toml:16: scene.labels.raster: no such file: data/potsdam/a_label.tif (scene a)",
        "projects/p.toml:16: scene.labels.raster: no such file: data/potsdam/d_label.tif (scene d)",
        "projects/p.toml:16: scene.labels.raster: no such file: data/potsdam/c_label.tif (scene c)",
        "note: environment variable DATA is not set, so ${DATA:-data/potsdam} takes its default",
        "hint: make data",
    ]
    assert missing_files(loaded(text, environ={"DATA": "/nowhere"}), ["a"])[-2:] == [
        'note: environment variable DATA is "/nowhere"',
        "hint: make data",
    ]


def test_overridden_paths_point_to_the_override(loaded: Loader, base: str) -> None:
    make(*(f"data/{id_}_label.tif" for id_ in "abc"))
    project = loaded(base, ["scene.image=gone/{id}.tif"])
    assert missing_files(project, ["a"]) == [
        "--set scene.image=gone/{id}.tif: scene.image: no such file: gone/a.tif (scene a)"
    ]


def test_where_relative_paths_start(workspace: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "projects" / "p.toml").write_text(base)
    (workspace / "elsewhere").mkdir()
    monkeypatch.chdir(workspace / "elsewhere")
    project = load(Path("../projects/p.toml"), environ={})
    assert missing_files(project, ["a"]) == [
        "../projects/p.toml:13: scene.image: no such file: data/a.tif (scene a)",
        "../projects/p.toml:14: scene.labels.raster: no such file: data/a_label.tif (scene a)",
        f"note: relative paths start from {workspace}",
    ]


@pytest.mark.parametrize(
    ("folder", "where", "first"),
    [("data/", "data", "s0000.tif"), ("data/{id}/", "5000 directories", "data/s0000/s0000.tif")],
)
def test_thousands_of_files_make_one_short_problem(
    loaded: Loader, base: str, folder: str, where: str, first: str
) -> None:
    train = ", ".join(f'"s{number:04d}"' for number in range(4999))
    text = base.replace("data/", folder).replace('["a", "b"]', f"[{train}]")  # and "c" for validation
    image = missing_files(loaded(text))[0].splitlines()
    assert image[0].endswith(f"scene.image: no such files: 5000 in {where}")
    assert image[1] == f"    {first} (scene s0000)"
    assert len(image) == 22 and image[-1] == "    and 4980 more"
