from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rvbuild.errors import UsageError
from rvbuild.files.urls import Url
from rvbuild.session.predicting.inputs import Image, Item, find
from rvbuild.session.predicting.lists import entries


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: a folder of images with what lies beside them, and results of an earlier run."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *("data/b.tif", "data/a.TIF", "data/north/a.tif", "data/north/deep/c.jp2", "data/2020.01.tif", "data/all.vrt"),
        *("data/a.tif.aux.xml", "data/.hidden/x.tif", "data/notes.txt", "data/north/._a.tif", "data/.DS_Store"),
        *("data/out/a/labels.tif", "data/out/.rvbuild/state.db"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def images(*words: str, out: str = "data/out") -> dict[str, str]:
    """Return name of the result -> file of the images that words stand for, in order."""
    found = find(words, Path.cwd() / out)
    assert all(isinstance(each, Image) for each in found)
    paths = [(each.name, each.path) for each in found if isinstance(each, Image)]
    return {name: str(path) if isinstance(path, Url) else os.path.relpath(path) for name, path in paths}


def item(name: str, **assets: str) -> dict[str, Any]:
    links = {key: {"href": href, "roles": ["data"]} for key, href in assets.items()}
    return {"type": "Feature", "id": name, "geometry": None, "properties": {}, "assets": links}


def test_a_folder_is_searched_at_any_depth_and_mirrored(here: Path) -> None:
    assert list(images("data").items()) == [
        ("2020.01", "data/2020.01.tif"),
        ("a", "data/a.TIF"),
        ("b", "data/b.tif"),
        ("north/a", "data/north/a.tif"),
        ("north/deep/c", "data/north/deep/c.jp2"),
    ]


def test_results_are_no_images(here: Path) -> None:
    assert "out/a/labels" in images("data", out="elsewhere")
    assert "out/a/labels" not in images("data/**/*.tif")


def test_a_folder_that_links_to_one_above_ends(here: Path) -> None:
    (here / "data/north/up").symlink_to(here / "data")
    (here / "data/linked").symlink_to(here / "data/north/deep")
    (here / "data/gone.tif").symlink_to("nowhere")
    assert list(images("data")) == ["2020.01", "a", "b", "gone", "linked/c", "north/a", "north/deep/c"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("data/*.tif", {"2020.01", "b"}),
        ("data/*", {"2020.01", "a", "b"}),
        ("data/**/*.tif", {"2020.01", "b", "north/a"}),
        ("data/*/a.tif", {"north/a"}),
        ("data/[b-c].tif", {"b"}),
        ("data/*.vrt", {"all"}),
        ("d*/north/?.tif", {"data/north/a"}),
    ],
)
def test_patterns_mirror_what_is_below_their_fixed_part(here: Path, pattern: str, expected: set[str]) -> None:
    assert set(images(pattern)) == expected


def test_a_file_with_the_letters_of_a_pattern_is_itself(here: Path) -> None:
    (here / "a[1].tif").touch()
    assert images("a[1].tif") == {"a[1]": "a[1].tif"}


@pytest.mark.parametrize("word", ["list.txt", "@list.txt", "@names"])
def test_lists_have_an_input_a_line(here: Path, word: str) -> None:
    text = "# of today\n\ndata/b.tif\n  data/north  \nhttps://x.org/d/e.tif?key=1\n"
    (here / word.removeprefix("@")).write_text(text)
    assert images(word) == {
        "b": "data/b.tif",
        "a": "data/north/a.tif",
        "deep/c": "data/north/deep/c.jp2",
        "e": "https://x.org/d/e.tif?key=1",
    }


def test_tables_name_images_and_results(here: Path) -> None:
    (here / "t.csv").write_text('\ufeffname;Image\nfirst;"data/b.tif"\nin/second;data/north/a.tif\n;data/a.TIF\n')
    assert images("t.csv") == {"first": "data/b.tif", "in/second": "data/north/a.tif", "a": "data/a.TIF"}
    (here / "plain.csv").write_text("data/b.tif,2020\ndata/a.TIF,2021\n")
    assert list(images("plain.csv")) == ["b", "a"]
    (here / "bad.csv").write_text("image,name\ndata/b.tif,../b\n")
    with pytest.raises(UsageError, match=r"b\.tif: its result would be called '\.\./b', which is no name of a file"):
        find(["bad.csv"], here / "out")


def test_all_problems_are_reported_at_once(here: Path) -> None:
    (here / "empty").mkdir()
    (here / "none.txt").write_text("# nothing\n")
    (here / "data/list.txt").write_text("data/b.tif\nb.tif\n@other.txt\n")
    (here / "bad.json").write_text('{"type": "Catalog"}')
    words = ["no.tif", "empty", "x*.tif", "none.txt", "data/list.txt", "bad.json", "s3://bucket/*.tif", "@gone.txt"]
    with pytest.raises(UsageError) as caught:
        find(words, here / "out")
    lines = str(caught.value).splitlines()
    beginnings = [
        "no such file: no.tif",
        "empty: is a folder without images (.tif, ",
        "x*.tif: no image matches",
        "none.txt: names no image",
        "data/list.txt:2: no such file: b.tif; paths in a list are relative to the current directory, as in GDAL: "
        "there is data/b.tif",
        "data/list.txt:3: @other.txt: a list cannot name another list",
        "bad.json: is a STAC Catalog; expected an item or an item collection",
        "s3://bucket/*.tif: remote folders cannot be searched",
        "no such file: gone.txt; expected a list of images",
    ]
    assert len(lines) == len(beginnings)
    assert [line for line, start in zip(lines, beginnings, strict=True) if not line.startswith(start)] == []


def test_items_are_called_by_their_ids(here: Path) -> None:
    collection = {"type": "FeatureCollection", "features": [item("S2/1", red="r.tif"), item("S2_2", red="q.tif")]}
    (here / "data/items.json").write_text(json.dumps(collection))
    (here / "data/one.geojson").write_text(json.dumps(item("one", red="r.tif")))
    found = find(["data/items.json", "data/*.geojson"], here / "out")
    assert [each.name for each in found] == ["S2_1", "S2_2", "one"]
    assert all(isinstance(each, Item) and each.where.startswith(str(here / "data")) for each in found)
    (here / "odd.json").write_text(json.dumps(item("..", red="r.tif")))
    with pytest.raises(UsageError, match=r"odd\.json: an item has the id '\.\.'"):
        find(["odd.json"], here / "out")


def test_a_list_that_is_no_text(here: Path) -> None:
    (here / "l.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"l\.txt: cannot be read as a list of images"):
        find(["l.txt"], here / "out")
    (here / "t.csv").write_text("image\ndata/b.tif\n")
    assert [(entry.where, entry.text) for entry in entries("t.csv")] == [("t.csv:2: ", "data/b.tif")]
