"""Data of strangers against the types of settings: the same verdict as pydantic's, and messages."""

from __future__ import annotations

import copy
import json
from typing import Annotated, Any, Literal, NotRequired

import pytest
from annotated_types import Ge, MultipleOf
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from rvbuild import tasks
from rvbuild.project.tasks import SPECS
from rvbuild.settings.fitting import misfit
from rvbuild.settings.normalize import NormalizeSettings
from rvbuild.stages.bundle.settings import BundleSettings
from rvbuild.tasks.detection.candidates import Reading

VECTOR = {"class": "car", "format": "gpkg", "min_area_units": 1.5, "simplify_px": 0, "denoise_px": 2}
LAYER = {"nodata": None, "resample": "cubic", "files": 1, "channels": [0, 2]}
PREDICT: dict[str, Any] = {
    "batch_size": 4,
    "device": "auto",
    "tta": "d4",
    "stride_px": 8,
    "blend": "mean",
    "scores": "uint8",
    "rgb": False,
    "vectors": [VECTOR, {**VECTOR, "kind": "buildings", "split": 0.5, "side_px": 3.5}],
}
OF_TASKS: dict[str, dict[str, Any]] = {
    "semantic_segmentation": {},
    "chip_classification": {"cell_px": 16, "cells": "geojson"},
    "object_detection": {"boxes": "gpkg", "score_thresh": 0.5, "merge_thresh": 1},
}
TRANSFORM = [
    {"kind": "cast", "dtype": "uint8"},
    {"kind": "reclass", "map": {"3": 4}},
    {"kind": "nodata", "value": -1.5},
    {"kind": "expression", "bands": [["a", "b1 + 1"]], "keep": True},
    {"kind": "function", "function": "a.b:c", "args": {"x": [1, None]}},
]
CONTENT = {
    "task": "semantic_segmentation",
    "image": {
        "nodata": [0, 1.5],
        "layers": [LAYER, {**LAYER, "name": "b", "layers": [LAYER], "primary": 0}],
        "primary": 1,
        "reduce": "median",
        "transform": TRANSFORM,
        "code": {"a.b": "x = 1"},
        "alpha": True,
    },
    "channels": [0, 1],
    "classes": [{"id": 0, "name": "car", "color": "#ffff00"}, {"id": 1, "name": "null", "color": "#000000"}],
    "null_id": 1,
    "chip_px": 16,
    "predict": PREDICT,
}
BANDS = {"mean": [1.0, 2], "std": [0.5, 0.5]}
READING = {
    "parts": [3, 4],
    "of": "level",
    "most": None,
    "score_thresh": 0.5,
    "merge_thresh": 0.5,
    "detections": 100,
    "smallest_px": 0.01,
}
CASES: list[tuple[Any, Any]] = [
    *(
        (BundleSettings[tasks.get(name).PREDICT_SETTINGS], {**CONTENT, "predict": {**PREDICT, **OF_TASKS[name]}})
        for name in SPECS
    ),
    (NormalizeSettings, {"kind": "scale", "max": 255, "standard": BANDS}),
    (NormalizeSettings, {"kind": "zscore", "max_stds": 3, **BANDS}),
    (NormalizeSettings, {"kind": "linear", "low": [0, 1], "high": [2.5, 3]}),
    (Reading, READING),
]  # fmt: skip
ADAPTERS = [TypeAdapter(kind) for kind, _ in CASES]

ODD = [
    None, True, False, 0, 1, -1, 2, 1.0, 0.5, -0.5, 3.7, 1 << 16, (1 << 16) + 1, 1 << 70, 10**400, 1e300,
    float("nan"), float("inf"), "", "0", "car", "gpkg", "scale", "cast", "linear", "\ud800",
    [], [0], [0.5], [None], ["a"], [[]], {}, {"kind": "cast"}, {"kind": "zoom"}, {"a": 1},
    {"kind": "scale", "max": 1}, {"kind": []}, LAYER, VECTOR, [LAYER], [VECTOR], [{}],
]  # fmt: skip


def places(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the place of each value in data, from the outside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for name, item in items for place in places(item, (*at, name)))]


def changed(content: Any, place: tuple[str | int, ...], change: str, odd: Any) -> Any:
    """Return data with another value at a place, without it, or with a key or an item more there."""
    if not place:
        return odd
    content = copy.deepcopy(content)
    outer = content
    for step in place[:-1]:
        outer = outer[step]
    inner = outer[place[-1]]
    if change == "without":
        del outer[place[-1]]
    elif change == "more" and isinstance(inner, dict):
        inner[odd if isinstance(odd, str) else "other"] = odd
    elif change == "more" and isinstance(inner, list):
        inner.append(odd)
    else:
        outer[place[-1]] = odd
    return content


def of_pydantic(number: int, content: Any) -> bool:
    try:
        ADAPTERS[number].validate_python(content, strict=True, extra="forbid")
    except ValidationError:
        return False
    return True


def zero_for_false(content: Any) -> bool:
    """Tell whether `scores` is 0, which pydantic takes for false."""
    scores = content.get("predict", {}) if isinstance(content, dict) else {}
    value = scores.get("scores") if isinstance(scores, dict) else None
    return type(value) in (int, float) and value == 0


@pytest.mark.parametrize("number", range(len(CASES)))
def test_what_is_right_fits(number: int) -> None:
    kind, content = CASES[number]
    assert misfit(json.loads(json.dumps(content)), kind) == "" and of_pydantic(number, content)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_the_verdict_is_that_of_pydantic(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(CASES) - 1))
    kind, content = CASES[number]
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(places(content)))
        content = changed(
            content, place, data.draw(st.sampled_from(["other", "without", "more"])), data.draw(st.sampled_from(ODD))
        )
    problem = misfit(content, kind)
    problem.encode("utf-8", "backslashreplace")
    # Halves of surrogate pairs are texts to some versions of pydantic.
    if not zero_for_false(content) and "\\ud800" not in json.dumps(content):
        assert (problem == "") == of_pydantic(number, content), problem


Leaf = Annotated[int, Ge(1)]


class Box(TypedDict):
    side: Leaf
    name: NotRequired[str]


def test_messages() -> None:
    assert misfit({}, Box) == "side is missing"
    assert misfit("\ud800", str) == r"the content: expected a text of Unicode, found '\ud800'"
    assert misfit({"\ud800": 1}, dict[str, int], "x") == "x.\ud800: expected a text of Unicode, found '\\ud800'"
    assert misfit({"side": 1, "other": 2}, Box, "box") == "box.other: unknown key"
    assert misfit([{"side": 0}], list[Box], "boxes") == (
        "boxes[0].side: expected a whole number of at least 1, found 0"
    )
    assert misfit(True, int | str | None) == "the content: expected a whole number or a text, found True"
    assert misfit("c", Literal["a", "b", False], "x") == 'x: expected "a", "b" or false, found \'c\''
    assert misfit({"kind": "scale"}, NormalizeSettings, "normalize") == "normalize.max is missing"
    assert misfit({"kind": "x"}, NormalizeSettings) == (
        'kind: expected "scale", "zscore", "stats" or "linear", found \'x\''
    )
    deep, nested = LAYER, []
    for _ in range(5000):
        deep, nested = {**LAYER, "layers": [deep], "primary": 0}, [nested]
    image = {"nodata": None, "layers": [deep], "primary": 0, "reduce": None}
    for odd in ({**CONTENT, "image": image}, {**CONTENT, "chip_px": nested}):
        assert misfit(odd, CASES[0][0]) == "the content: is nested too deeply"


@pytest.mark.parametrize("kind", [bytes, tuple[int, ...], Annotated[int, MultipleOf(2)], Annotated[int, "text"]])
def test_types_that_settings_do_not_have_are_an_error_of_the_program(kind: Any) -> None:
    with pytest.raises(TypeError, match="settings have no"):
        misfit(2, kind)
