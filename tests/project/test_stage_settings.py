"""What of a table becomes settings of a stage, and so a part of keys."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import Field

from rvbuild.project.toml.table import Table


class Cut(Table):
    """A table with a key that was added later, one with an alias, and one that names a file."""

    not_settings = ("mask",)
    omitted_defaults = ("overlap", "class_", "parts")

    size: int = 300
    mask: str | None = None
    overlap: int = 0
    class_: str | None = Field(None, alias="class")
    parts: tuple[int, ...] = Field(default_factory=tuple, strict=False)


def test_a_key_that_was_added_is_a_setting_only_where_it_is_not_at_its_default() -> None:
    assert Cut().stage_settings() == {"size": 300}
    assert Cut.model_validate({"overlap": 0, "parts": []}).stage_settings() == {"size": 300}, "as written, as left out"
    changed = {"overlap": 5, "class": "car", "parts": [1, 2]}
    assert Cut.model_validate(changed).stage_settings() == {"size": 300, **changed}


def test_what_is_no_setting_is_left_out() -> None:
    assert Cut(mask="a.tif").stage_settings() == {"size": 300}


@pytest.mark.parametrize("declared", ["not_settings", "omitted_defaults"])
def test_a_declared_field_must_be_there(declared: str) -> None:
    namespace = {"__annotations__": {declared: ClassVar[tuple[str, ...]]}, declared: ("class",)}
    with pytest.raises(TypeError, match="Wrong: not_settings and omitted_defaults name no field 'class'"):
        type("Wrong", (Cut,), {**namespace, "__module__": __name__})
