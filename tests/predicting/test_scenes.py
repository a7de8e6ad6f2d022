from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rvbuild.errors import UsageError
from rvbuild.project.scenes.stac import StacError
from rvbuild.session.predicting.inputs import Image, Item
from rvbuild.session.predicting.scenes import default_assets, scenes


def item(name: str = "s2", folder: Path = Path("/d"), **assets: dict[str, Any]) -> Item:
    whole = {key: {"href": f"{key}.tif", **asset} for key, asset in assets.items()}
    return Item(name, {"type": "Feature", "id": name, "assets": whole}, f"{folder}/items.json")


DATA: dict[str, Any] = {"roles": ["data"]}
TIFF: dict[str, Any] = {"type": "image/tiff; application=geotiff"}


@pytest.mark.parametrize(
    ("assets", "files", "layers", "expected"),
    [
        ({"a": DATA, "thumb": {}}, 1, [], ("a",)),
        ({"a": TIFF, "meta": {"type": "text/xml"}}, 1, [], ("a",)),
        ({"red": DATA, "nir": DATA, "visual": TIFF}, 1, [], ("visual",)),
        ({"red": DATA, "nir": DATA, "rgb": {"roles": ["visual"]}}, 1, [], ("rgb",)),
        ({"data": TIFF, "mask": TIFF, "visual": TIFF}, 1, [], ("data",)),
        ({"red": DATA, "nir": DATA}, 2, [], ("red", "nir")),
        ({"red": DATA, "nir": DATA, "green": DATA}, 2, ["nir", "red"], ("nir", "red")),
    ],
)
def test_default_assets(assets: dict[str, Any], files: int, layers: list[str], expected: tuple[str, ...]) -> None:
    assert default_assets(item(**assets), files, layers) == expected


def test_ambiguous_assets_are_listed() -> None:
    with pytest.raises(StacError, match=r"'s2' has several assets .*\(red, nir\).* 1 file; choose with --asset"):
        default_assets(item(red=DATA, nir=DATA), 1)
    with pytest.raises(UsageError, match=r'/d/items\.json: item "s2" has no asset "rde"; did you mean "red"'):
        scenes([item(red=DATA, nir=DATA)], 1, [], ["rde"])
    with pytest.raises(UsageError, match=r"needs 1 file for each image, and --asset names 2"):
        scenes([item(red=DATA, nir=DATA)], 1, [], ["red", "nir"])
    with pytest.raises(UsageError, match="--asset applies to STAC items"):
        scenes([Image("a", Path("/d/a.tif"), True)], 1, [], ["red"])


def test_items_are_scenes(tmp_path: Path) -> None:
    path = tmp_path / "red.tif"
    path.touch()
    made = scenes([item(folder=tmp_path, red=DATA), item("b", tmp_path, red=DATA)], 1, [], [])
    assert [(scene.name, scene.files) for scene in made] == [("s2", (path,)), ("b", (path,))]


def test_all_items_without_their_files_are_named(tmp_path: Path) -> None:
    items = [item(folder=tmp_path, red=DATA), item("b", tmp_path, red=DATA, nir=DATA), item("c", tmp_path, nir=DATA)]
    with pytest.raises(UsageError) as raised:
        scenes(items, 1, [], [])
    first, second, third = str(raised.value).splitlines()
    assert first == f"{tmp_path}/items.json: item 's2': no such file: {tmp_path}/red.tif"
    assert "item 'b' has several assets" in second and third.endswith(f"item 'c': no such file: {tmp_path}/nir.tif")


def test_an_image_that_is_named_twice_counts_once() -> None:
    path = Path("/d/a.tif")
    (scene,) = scenes([Image("a", path, True), Image("d/a", path, False), Image("a", path, True)], 1, [], [])
    assert scene.name == "a"


def test_results_of_one_name_are_listed_together() -> None:
    found = [
        Image("a", Path("/d/x/a.tif"), True),
        Image("A", Path("/d/y/A.png"), True),
        Image("b", Path("/d/b.tif"), True),
    ]
    with pytest.raises(
        UsageError, match=r"/d/x/a\.tif and /d/y/A\.png: both results would be called A; name a folder"
    ) as caught:
        scenes(found, 1, [], [])
    assert "such as /d, or a pattern in quotes" in str(caught.value)


def test_stacks_are_files_one_after_another() -> None:
    found = [Image(name, Path(f"/d/{name}.tif"), True) for name in ("a1", "dem", "a2", "dem")]
    made = scenes(found, 2, [], [])
    assert [(scene.name, [path.name for path in scene.files]) for scene in made] == [
        ("a1", ["a1.tif", "dem.tif"]),
        ("a2", ["a2.tif", "dem.tif"]),
    ]
    with pytest.raises(UsageError, match=r"stacks of 2 files: give 2 for each scene.* found 3"):
        scenes(found[:3], 2, [], [])
    with pytest.raises(UsageError, match="folders and patterns do not say which files belong together"):
        scenes([Image("a", Path("/d/a.tif"), False)], 2, [], [])
