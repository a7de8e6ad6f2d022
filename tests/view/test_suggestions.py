"""Windows to label next on the page."""

from __future__ import annotations

import json
from dataclasses import replace

from rvbuild.engine.plan.decide import State
from rvbuild.view.reviewing.suggestions import suggestions_json

from .conftest import Results

WINDOW = {
    "id": "0a", "rank": 1, "scene": "c", "score": 0.7, "reason": "unlike all", "diversity": 2.5, "uncertainty": 0.2,
    "class": None, "row": 16, "col": 32, "height": 16, "width": 32,
}  # fmt: skip


def test_suggestions_are_windows_of_scenes(pixels: Results) -> None:
    assert suggestions_json(pixels.seen()) == {}
    assert "suggestions" not in pixels.scene().describe()["layers"]
    folder = pixels.folder("suggestions", None, "suggestions.json", "windows.gpkg", state=State.STALE)
    (folder / "suggestions.json").write_text(json.dumps({"windows": [WINDOW]}))
    by_name = pixels.by_name
    by_name["suggestions", None] = replace(by_name["suggestions", None], reasons=("count: 5 → 10",))
    shown = suggestions_json(pixels.seen())
    assert shown["reasons"] == ["count: 5 → 10"]
    assert (shown["state"], shown["files"]) == ("stale", ["cache/p/suggestions/windows.gpkg"])
    (window,) = shown["windows"]
    assert (window["rank"], window["scenes"], window["window"]) == (1, ["c"], [32, 16, 64, 32])
    assert pixels.scene().describe()["layers"]["suggestions"]["state"] == "stale"


def test_a_list_that_is_being_written_is_none(pixels: Results) -> None:
    folder = pixels.folder("suggestions", None, "suggestions.json")
    (folder / "suggestions.json").write_text('{"windows":[\n{"id"')
    assert suggestions_json(pixels.seen()) == {}
