from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rvbuild.project.model import Project
from rvbuild.project.scenes.stac import AssetError, Items, StacError, StacReader, layout, parse
from rvbuild.settings.image import LayerDefaults


def item(name: str = "s2", **assets: Any) -> dict[str, Any]:
    """Return an item; assets are links, or whole."""
    whole = {key: {"href": value} if isinstance(value, str) else value for key, value in assets.items()}
    return {"type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": None, "properties": {}, "assets": whole}


def text(*items: Any) -> bytes:
    value = items[0] if len(items) == 1 else {"type": "FeatureCollection", "features": list(items)}
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("where", "href", "expected"),
    [
        ("data/item.json", "./red.tif", "data/red.tif"),
        ("data/items/a/item.json", "../red.tif", "data/items/red.tif"),
        ("item.json", "red.tif", "red.tif"),
        ("/data/item.json", "red.tif", "/data/red.tif"),
        ("data/item.json", "/big/red.tif", "/big/red.tif"),
        ("data/item.json", "file:///big/a%20b.tif", "/big/a b.tif"),
        ("data/item.json", "https://x.org/red.tif", "https://x.org/red.tif"),
        ("data/item.json", "/vsicurl/https://x.org/red.tif", "https://x.org/red.tif"),
        ("data/item.json", "/vsis3/bucket/red.tif", "s3://bucket/red.tif"),
        ("https://x.org/a/item.json", "./b/red.tif", "https://x.org/a/b/red.tif"),
        ("https://x.org/a/item.json?key=1", "/red.tif", "https://x.org/red.tif"),
        ("s3://bucket/a/item.json", "../red.tif", "s3://bucket/red.tif"),
        ("s3://bucket/a/item.json", "s3://other/red.tif", "s3://other/red.tif"),
        ("data/item.json", "a:b?c#d [é].tif", "data/a:b?c#d [é].tif"),
    ],
)
def test_links_start_from_the_file_of_the_item(where: str, href: str, expected: str) -> None:
    assert parse(text(item(red=href)), where, ["red"]).hrefs == ((expected,),)


def test_roles_are_a_list_of_texts() -> None:
    odd = [3, True, "metadata", {"data": 1}, [["data"]], None, "data"]
    items = item(**{f"a{i}": {"href": "a.tif", "roles": roles, "type": i} for i, roles in enumerate(odd)})
    with pytest.raises(AssetError, match="has no asset with the role data"):
        parse(text(items), "i.json")


def test_assets_are_those_with_data_or_else_rasters() -> None:
    data = {"href": "a.tif", "roles": ["data"], "type": "image/tiff; application=geotiff"}
    raster = {"href": "b.tif", "type": "image/jp2"}
    other = {"href": "c.xml", "type": "application/xml", "roles": ["metadata"]}
    assert parse(text(item(m=other, one=data, two=raster)), "i.json").assets == ("one",)
    assert parse(text(item(m=other, two=raster)), "i.json").assets == ("two",)
    with pytest.raises(
        AssetError, match=r'item "s2" has no asset with the role data, .* list the assets to use, of m, n'
    ):
        parse(text(item(m=other, n=other)), "i.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "is neither a STAC item"),
        (text({"type": "Catalog"}), "is a STAC Catalog; expected an item"),
        (text({"type": "Feature", "id": "x"}), 'item "x" has no assets'),
        (text({"type": "FeatureCollection", "features": []}), "is an item collection without items"),
        (text({"type": "FeatureCollection", "features": [3]}), "is neither a STAC item"),
        (text(item(red={"title": "x"})), 'asset "red" has no href'),
        (text(item(red="az://bucket/a.tif")), 'asset "red" has an href that cannot be read: "az://bucket/a.tif"'),
        (text(item(rad="a.tif")), 'item "s2" has no asset "red"; did you mean "rad"?'),
        (text(item(red="file://[a.tif")), 'asset "red" has an href that cannot be read: "file://[a.tif"'),
        (text(item(red="file://host")), 'asset "red" has an href that cannot be read'),
        (text(item(red="file:///a%00b.tif")), 'asset "red" has an href that cannot be read'),
        (text(item(red="a\0b.tif")), 'asset "red" has an href that cannot be read'),
        (text(item(red="a\x1b[2Jb.tif")), 'asset "red" has an href that cannot be read'),
        (
            b'{"type": "Feature", "id": 1, "assets": {"red": {"href": "\\ud800.tif"}}}',
            "has an href that cannot be read",
        ),
        (text(item(red="/vsizip//a.zip/b.tif")), 'asset "red" has an href that cannot be read: "/vsizip'),
        (text(item(red=" ")), 'asset "red" has no href'),
        (text(item(red={"href": ["a.tif"]})), 'asset "red" has no href'),
        (b"[" * 100_000, "is not JSON: it is nested too deeply"),
        (b'{"type": 1' + b"0" * 5000 + b"}", "is not JSON: it holds a number with too many digits"),
        (b'{"type": "Feature", "id": ' + b"[" * 300 + b"]" * 300 + b"}", r"item \[\[\[\[…\]\]\]\] has no assets"),
        (text(item(**{f"a{i}": "x.tif" for i in range(100_000)})), "its assets are a0, a1, .*, a19, …$"),
        (text(item(red="a.tif"), item("s3", nir="b.tif")), 'item "s3" has no asset "red"; its assets are nir'),
    ],
)
def test_what_is_wrong_is_said(content: bytes, message: str) -> None:
    with pytest.raises(StacError, match=message.replace("?", r"\?").replace("[a.tif", r"\[a.tif")):
        parse(content, "i.json", ["red"])


def test_an_item_elsewhere_names_no_files_here() -> None:
    with pytest.raises(StacError, match="has an href that cannot be read"):
        parse(text(item(red="file:///etc/passwd")), "https://x.org/i.json", ["red"])


def test_a_huge_file_of_items_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "i.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StacError, match="is larger than 64 MiB"):
        StacReader().items(tmp_path, "i.json", None)


def test_layouts() -> None:
    layer: LayerDefaults = {"nodata": None, "resample": "cubic"}
    two_by_two = Items(("red", "nir"), (("r0", "n0"), ("r1", "n1")))
    files, stack = layout(two_by_two, None, 1, layer)
    assert files == ("r0", "r1", "n0", "n1"), "every asset is a mosaic of all items"
    assert [(x["name"], x["files"], x["resample"]) for x in stack["layers"]] == [
        ("red", 2, "cubic"),
        ("nir", 2, "cubic"),
    ]
    assert (stack["primary"], stack["reduce"]) == (1, None)
    files, stack = layout(two_by_two, "median", 1, layer)
    assert files == ("r0", "n0", "r1", "n1"), "every time is a stack of all assets"
    assert [(x["files"], x["primary"], [y["name"] for y in x["layers"]]) for x in stack["layers"]] == [
        (2, 1, ["red", "nir"])
    ] * 2
    assert (stack["primary"], stack["reduce"]) == (0, "median")
    assert layout(Items(("v",), (("a",), ("b",))), None, 0, layer) == (("a", "b"), None)
    files, stack = layout(Items(("v",), (("a",), ("b",))), "mean", 0, layer)
    assert files == ("a", "b") and [x["name"] for x in stack["layers"]] == ["v", "v"]


def test_a_project_reads_its_items(loaded: Callable[..., Project], base: str, workspace: Path) -> None:
    (workspace / "data").mkdir()
    for scene in "abc":
        (workspace / f"data/{scene}.json").write_bytes(text(item(scene, red=f"{scene}_r.tif", nir=f"{scene}_n.tif")))
    image = 'image = { stac = "data/{id}.json", assets = ["nir", "red"], bbox_px = [0, 0, 9, 9] }'
    project = loaded(base.replace('image = "data/{id}.tif"', image))
    scene = project.scenes[0]
    assert scene.image.files == ("data/a_n.tif", "data/a_r.tif")
    assert [x["name"] for x in scene.image.stage_settings()["layers"]] == ["nir", "red"]
    assert scene.image.stage_settings()["bbox"] == {"px": [0, 0, 9, 9]}
    assert sorted(project.reads) == [str(workspace / f"data/{scene}.json") for scene in "abc"]
    assert [written.text for written in project.written["a", "image"]] == ["data/{id}.json"] * 2


def test_problems_of_items_are_told_with_the_others(
    problems: Callable[..., list[str]], base: str, workspace: Path
) -> None:
    (workspace / "a.json").write_bytes(text(item(red="r.tif")))
    (workspace / "b.json").write_text("{")
    image = 'image = { stac = "{id}.json", assets = ["rad"] }'
    assert problems(base.replace('image = "data/{id}.tif"', image) + "[train]\nepochs = 0\n") == [
        'projects/p.toml:13: scene.image.assets: a.json: item "s2" has no asset "rad"; did you mean "red"?',
        "projects/p.toml:13: scene.image.stac: b.json: is not JSON: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
        "projects/p.toml:13: scene.image.stac: c.json: no such file",
        "projects/p.toml:17: train.epochs: expected at least 1, found 0",
    ]
