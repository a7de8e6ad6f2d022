"""The whole project file: its tables, and the JSON Schema that editors use."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from rvbuild.project.scenes.scene import SceneTable
from rvbuild.project.scenes.scenes import ScenesTable
from rvbuild.project.tables.analyze import AnalyzeTable
from rvbuild.project.tables.bundle import BundleTable
from rvbuild.project.tables.chip import ChipTable
from rvbuild.project.tables.classes import ClassTable
from rvbuild.project.tables.draft import DraftTable
from rvbuild.project.tables.evaluation import EvalTable
from rvbuild.project.tables.general import ProjectTable
from rvbuild.project.tables.predict import PredictTable
from rvbuild.project.tables.review import ReviewTable
from rvbuild.project.tables.suggest import SuggestTable
from rvbuild.project.tables.train import TrainTable
from rvbuild.project.toml.table import Table


class ProjectFile(Table):
    """A project of rvbuild. Paths are relative to the directory that holds projects/, or else to this file's."""

    project: ProjectTable = Field(description="General settings of the project: at least its task.")
    classes: dict[str, ClassTable] = Field(
        description='The classes: name = colour, for example building = "#ff0000". The order gives the ids 0, 1, 2 …'
    )
    scenes: ScenesTable = Field(description="The scenes, and the split that each belongs to.")
    scene: SceneTable = Field(
        default_factory=lambda: SceneTable.model_validate({}), description="Settings of every scene."
    )
    analyze: AnalyzeTable = Field(
        default_factory=lambda: AnalyzeTable.model_validate({}), description="The statistics of the imagery."
    )
    chip: ChipTable = Field(
        default_factory=lambda: ChipTable.model_validate({}), description="How training chips are cut from scenes."
    )
    train: TrainTable = Field(
        default_factory=lambda: TrainTable.model_validate({}), description="The model, and how it is trained."
    )
    predict: PredictTable = Field(
        default_factory=lambda: PredictTable.model_validate({}), description="How predictions are made and written."
    )
    eval: EvalTable = Field(
        default_factory=lambda: EvalTable.model_validate({}), description="Which scenes are evaluated."
    )
    bundle: BundleTable = Field(
        default_factory=lambda: BundleTable.model_validate({}), description="What the bundle contains."
    )
    draft: DraftTable = Field(
        default_factory=lambda: DraftTable.model_validate({}),
        description="How `rvbuild draft` makes a map in seconds.",
    )
    review: ReviewTable = Field(
        default_factory=lambda: ReviewTable.model_validate({}),
        description="What `rvbuild review` compares labels with.",
    )
    suggest: SuggestTable = Field(
        default_factory=lambda: SuggestTable.model_validate({}),
        description="What `rvbuild suggest` suggests to label next.",
    )


class _ForEditors(GenerateJsonSchema):
    """JSON Schema without null, which TOML does not have, and without titles."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Describe an optional value by the value alone: TOML has no null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave out the default None, which means that the value is derived."""
        described = super().default_schema(schema)
        if described.get("default", 0) is None:
            del described["default"]
        return described

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Omit titles, which would only repeat the names."""
        return False


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a project file, with a description of every key."""
    schema = ProjectFile.model_json_schema(by_alias=True, schema_generator=_ForEditors)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "rvbuild project"}


def keys_by_name() -> dict[str, list[str]]:
    """Return key -> tables that have it, for hints about misplaced keys.

    >>> keys_by_name()["lr"]
    ['[train]']
    """
    places: dict[str, list[str]] = {}
    for table, info in ProjectFile.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, Table):
            for name in field_names(annotation):
                places.setdefault(name, []).append(f"[{table}]")
    return places


def field_names(table: type[Table]) -> list[str]:
    """Return the keys of a table as users write them."""
    return [key_of(name, info) for name, info in table.model_fields.items()]


def key_of(name: str, info: FieldInfo) -> str:
    """Return the key of a field: its alias if the name is not one (`class`)."""
    return info.alias or name
