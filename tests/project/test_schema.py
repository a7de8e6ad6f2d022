"""The JSON Schema, and names that the schema shares with the modules that do the work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from rvbuild.project.networks.models import MODELS, SCRATCH_MODELS
from rvbuild.project.schema import ProjectFile, field_names, json_schema, keys_by_name
from rvbuild.project.tasks.augmentations import AUGMENTATIONS, MIXING
from rvbuild.project.toml.table import Table, tables_in


def properties(node: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        for name, described in node.get("properties", {}).items():
            yield f"{path}/{name}", described
        for name, inner in node.items():
            yield from properties(inner, f"{path}/{name}")
    elif isinstance(node, list):
        for number, inner in enumerate(node):
            yield from properties(inner, f"{path}/{number}")


def test_every_key_is_described() -> None:
    schema = json_schema()
    tables = dict(properties(schema))
    assert len(tables) > 60
    assert [name for name, described in tables.items() if not described.get("description")] == []


def test_it_is_json_without_null() -> None:
    text = json.dumps(json_schema(), allow_nan=False)
    assert '"null"}' not in text.replace('"default": "null"', "")
    assert '"type": "null"' not in text


def test_unknown_keys_are_forbidden_everywhere() -> None:
    schema = json_schema()

    def tables(node: object) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if "properties" in node:
                yield node
            for inner in node.values():
                yield from tables(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from tables(inner)

    assert all(table["additionalProperties"] is False for table in tables(schema))
    assert schema["required"] == ["project", "classes", "scenes"]
    assert schema["$schema"].startswith("https://json-schema.org/")


def test_short_forms_are_offered() -> None:
    definitions = json_schema()["$defs"]
    assert [form.get("type") for form in definitions["ImageTable"]["anyOf"]] == ["string", "array", "object"]
    color = definitions["ClassTable"]["anyOf"][0]
    assert re.search(color["pattern"], "#ff0000")
    assert not re.search(color["pattern"], "red")


def test_no_key_is_known_and_not_supported_at_once() -> None:
    def subclasses(table: type[Table]) -> Iterator[type[Table]]:
        for child in table.__subclasses__():
            yield child
            yield from subclasses(child)

    for table in subclasses(Table):
        assert not set(table.later) & set(field_names(table)), table


def test_defaults_are_valid() -> None:
    text = {"project": {"task": "semantic_segmentation"}, "classes": {}, "scenes": {}}
    file = ProjectFile.model_validate(text)
    for _, table in tables_in(file):
        values = table.model_dump(
            mode="python", by_alias=True, exclude_none=True, include=set(type(table).model_fields)
        )
        assert type(table).model_validate(_lists(values)) == table


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lists(item) for name, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def test_keys_by_name() -> None:
    assert keys_by_name()["stride_px"] == ["[chip]", "[predict]", "[draft]"]


def test_names_are_those_that_training_knows() -> None:
    from rvbuild.learn import models
    from rvbuild.learn.chips import augment
    from rvbuild.learn.models import cnn, unet
    from tests.learn import chipmaker

    for task, names in MODELS.items():
        assert sorted(names) == sorted(models.names(task))
    assert sorted(SCRATCH_MODELS) == sorted([*unet.NAMES, *cnn.NAMES])
    for name in set(AUGMENTATIONS) - set(MIXING):
        assert augment.Augmenter([name], {"kind": "scale", "max": 255}, "uint8", 3, chipmaker.OPS)
