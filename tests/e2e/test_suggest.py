"""`rvbuild suggest`: windows to label next, and what an edit of labels builds again."""

from __future__ import annotations

import json

import fiona
import pytest

from .conftest import BOXES, Space, write_image, write_labels
from .projects import PROJECTS, write_project

pytestmark = pytest.mark.slow


def ready(space: Space, task: str = "segmentation") -> Space:
    """Add a scene without labels."""
    write_project(space.root, task)
    write_image(space.root / "data/d.tif", BOXES["b"], seed=9)
    text = space.project.read_text()
    if "test = " in text:  # a scene with the image of a validation scene, where nothing is suggested
        text = text.replace('test = ["t"]', 'test = ["d", "t"]')
    else:
        text = text.replace('validation = ["c"]', 'validation = ["c"]\ntest = ["d"]')
    space.project.write_text(f"{text}\n[scenes.by_id.d]\nlabels = false\n\n[draft]\nblock_px = 32\n")
    return space


def windows(space: Space) -> list[dict[str, object]]:
    found: list[dict[str, object]] = space.read("suggestions/suggestions.json")["windows"]
    return found


@pytest.mark.parametrize("task", list(PROJECTS))
def test_windows_of_scenes_without_labels_are_listed_and_written(space: Space, task: str) -> None:
    result = ready(space, task).rvbuild("suggest")
    assert result.status == 0, result.out + result.err
    assert "16 windows to label next:" in result.out
    assert "cache/p/suggestions/windows.gpkg" in result.out
    assert {window["scene"] for window in windows(space)} == {"d"}
    with fiona.open(space.root / "cache/p/suggestions/windows.gpkg") as file:
        assert len(file) == 16
    lines = [line for line in result.out.splitlines() if " px of labels" in line]
    assert len(lines) == 16
    assert lines[0].startswith("   1  d  rows ")
    assert space.rvbuild("suggest").out.count(" px of labels") == 16  # nothing to do, and told again


def test_the_number_of_windows_is_the_beginning_of_the_same_list(space: Space) -> None:
    assert ready(space).rvbuild("suggest", "-q").status == 0
    whole = [window["id"] for window in windows(space)]
    assert "3 windows to label next:" in space.rvbuild("suggest", "--count", "3").out
    assert [window["id"] for window in windows(space)] == whole[:3]


def test_an_edit_of_labels_suggests_again(space: Space) -> None:
    assert ready(space).rvbuild("suggest", "-q").status == 0
    before = space.shown()
    write_labels(space.root / "data/a.geojson", [*BOXES["a"], (40, 5, 50, 12)])
    assert space.rvbuild("suggest", "--json").did("built") == {"sums:a", "suggestions"}
    write_labels(space.root / "data/a.geojson", BOXES["a"])
    assert not space.rvbuild("suggest", "--json").did("built")
    assert space.shown() == before


def test_where_everything_is_labelled_it_is_said(space: Space) -> None:
    result = space.rvbuild("suggest", "--set", "draft.block_px=32")
    assert result.status == 0, result.err
    assert "every pixel that may have a label has one" in result.out


def test_status_shows_what_was_asked_for(space: Space) -> None:
    def stages() -> set[str]:
        return {row["stage"] for row in space.rvbuild("status", "--json").json["artifacts"]}

    ready(space)
    assert not stages() & {"suggestions", "features"}
    assert space.rvbuild("suggest", "-q").status == 0
    assert {"suggestions", "features", "sums"} <= stages()
    assert not stages() & {"head", "draft", "draft_eval"}
    assert "suggestions" not in json.dumps(space.rvbuild("build", "-n", "--json").json)
    assert space.rvbuild("clean", "suggest", "-q").status == 0
    assert not (space.root / "cache/p/suggestions").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "window_px = 48",
            "suggest.window_px: expected a part of draft.block_px = 32 in whole cells of 4 px, such as 32",
        ),
        ("window_px = 2", "such as 4; found 2"),
        ("count = 0", "suggest.count: "),
        ("counts = 3", "did you mean"),
    ],
)
def test_mistakes_in_the_table_are_told(space: Space, table: str, message: str) -> None:
    space.project.write_text(f"{space.project.read_text()}\n[draft]\nblock_px = 32\n[suggest]\n{table}\n")
    result = space.rvbuild("suggest")
    assert result.status == 2
    assert message in result.err
