from __future__ import annotations

from typing import Any

import pytest

from rvbuild.engine.plan.decide import Cause, Facts, differences
from rvbuild.engine.store.state import Record


def _reasons(was: Any, now: Any) -> list[str]:
    """Return the reasons that another value of the setting `classes` gives."""
    common = {"schema": 1, "stage": "chip", "version": 1, "inputs": []}
    record = Record("key", {**common, "settings": {"classes": was}}, {}, {}, 0.0, 0.0)
    causes = differences(record, Facts("other", {**common, "settings": {"classes": now}}))
    assert all(reason.cause is Cause.SETTING and reason.subject == "classes" for reason in causes)
    return [reason.text for reason in causes]


def _classes(*names: str) -> list[dict[str, Any]]:
    return [{"id": number, "name": name, "color": f"#{len(name):06x}"} for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("was", "now", "text"),
    [
        (_classes("tree", "null"), _classes("tree", "car", "null"), "class added: car"),
        (_classes("tree", "car", "null"), _classes("tree", "null"), "class removed: car"),
        (_classes("tree", "null"), _classes("oak", "null"), "class added: oak; class removed: tree"),
        (_classes("tree", "car"), _classes("car", "tree"), "order of classes: tree, car → car, tree"),
        (
            [{"id": 0, "name": "car", "color": "#ff0000"}],
            [{"id": 0, "name": "car", "color": "#00ff00"}],
            'color of class car: "#ff0000" → "#00ff00"',
        ),
        ([{"id": 0}, {"id": 1}], [{"id": 0}, {"id": 1}, {"id": 2}], "class added: 2"),
        ([{"id": 0}], [{"id": 0, "name": "tree"}], "the names of classes are now in the key"),
        ([{"id": 0, "name": "tree"}], [{"id": 0}], "the names of classes are no longer in the key"),
        (
            [{"id": 0}],
            [{"id": 0, "name": "tree"}, {"id": 1, "name": "car"}],
            "the names of classes are now in the key; class added: 1",
        ),
        ([], _classes("car"), 'classes: [] → [{"color": "#000003", "id": 0, "name": "car"}]'),
        (["car"], ["car", "tree"], 'classes: ["car"] → ["car", "tree"]'),
    ],
)
def test_lists_of_named_things_are_compared_in_words(was: Any, now: Any, text: str) -> None:
    assert _reasons(was, now) == [text]
    assert not _reasons(now, now)
