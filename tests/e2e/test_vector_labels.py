"""Vector labels from the command: only features that count, and what decides over them, are what labels mean."""

from __future__ import annotations

import json
from typing import Any

from .conftest import Space


def edit(space: Space, change: Any) -> None:
    path = space.root / "data/a.geojson"
    value = json.loads(path.read_text())
    change(value["features"])
    path.write_text(json.dumps(value))


def test_features_that_do_not_count_rechip_nothing(space: Space) -> None:
    space.edit('class = "building"', """class_where = { building = "note LIKE 'n%'" }, where = "old IS NULL" """)
    assert space.rvbuild("chip", "--scene", "a", "-q").status == 0

    def left_out(features: list[Any]) -> None:
        features.insert(0, {**features[0], "properties": {"old": True}})

    def another_note(features: list[Any]) -> None:
        features[-1]["properties"].update(note="n7", colour="red")

    def another_class(features: list[Any]) -> None:
        features[-1]["properties"].update(note="x")

    for change in (left_out, another_note):
        edit(space, change)
        assert space.rvbuild("chip", "--scene", "a", "--json").did("fresh") == {"chip:a"}
    edit(space, another_class)
    result = space.rvbuild("chip", "--scene", "a")
    assert result.status == 2
    assert "data/a.geojson: feature 2 (from 0) has no attribute `class_id` or `class_name` or `label`" in result.err
    assert "or a feature that passes one of `class_where`" in result.err
    assert "Traceback" not in result.err
