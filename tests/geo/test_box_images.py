from __future__ import annotations

from pathlib import Path

import pytest

from rvbuild.errors import DataError
from rvbuild.geo.vector.box_images import Listed, choose

FILE = Path("boxes.json")


def chosen(names: list[str], scene: str | None = None, image: str | None = None) -> int | None:
    return choose(FILE, [Listed(name) for name in names], {"image": image, "scene_image": scene})


@pytest.mark.parametrize(
    ("names", "scene", "place"),
    [
        (["a/i.tif", "b/i.tif"], "data/b/i.tif", 1),
        (["x/a/i.tif", "y/a/i.tif"], "data/y/a/i.tif", 1),
        (["i.tif", "b/i.tif"], "data/i.tif", 0),
        (["i.tif", "b/i.tif"], "data/b/i.tif", 1),
        (["C:\\photos\\a\\i.tif", "C:\\photos\\b\\i.tif"], "data/a/i.tif", 0),
        (["./a/i.tif", "./b/i.tif"], "/abs/b/i.tif", 1),
        (["moved/i.tif", "moved/k.tif"], "data/k.tif", 1),
        (["else.jpg"], "data/i.tif", 0),
        ([], "data/i.tif", None),
    ],
)
def test_the_image_that_shares_most_folders_is_the_scenes(names: list[str], scene: str, place: int | None) -> None:
    assert chosen(names, scene) == place


@pytest.mark.parametrize(
    ("image", "place"), [("a/i.tif", 0), ("b/i.tif", 1), ("data/b/i.tif", 1), ("k.tif", 2), ("/x/data/a/i.tif", 0)]
)
def test_an_image_is_named_by_as_much_as_is_needed(image: str, place: int) -> None:
    assert chosen(["data/a/i.tif", "data/b/i.tif", "k.tif"], "data/z/i.tif", image) == place


@pytest.mark.parametrize(
    ("names", "scene", "image", "message"),
    [
        (["a/i.tif", "b/i.tif"], "data/i.tif", None, '2 of its images could be "data/i.tif": a/i.tif, b/i.tif'),
        (["a/i.tif", "b/i.tif"], "data/i.tif", "i.tif", '2 of its images could be "i.tif"'),
        (["i.tif", "i.tif"], "data/a/i.tif", None, 'lists 2 images "i.tif"'),
        (["a/i.tif", "b/i.tif"], "a/i.tif", "c/i.tif", 'has no image "c/i.tif"'),
        (["a/i.tif"], "a/i.tif", "c/i.tif", 'has no image "c/i.tif"; did you mean "a/i.tif"'),
        (["a/i.tif", "a/k.tif"], "data/j.tif", None, 'has no image "data/j.tif"'),
        (
            ["A/I.TIF", "B/I.TIF"],
            "a/i.tif",
            None,
            'has no image "a/i.tif"; did you mean "A/I.TIF"\\? It has A/I.TIF, B',
        ),
    ],
)
def test_what_is_not_clear_is_an_error(names: list[str], scene: str, image: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        chosen(names, scene, image)
