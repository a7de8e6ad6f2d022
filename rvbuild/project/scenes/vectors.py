"""Settings of vector files: which features to use, the area of points and lines, areas of interest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Strict,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rvbuild.language import filters
from rvbuild.project.toml.keys import show
from rvbuild.project.toml.table import Context, Finding, Paths, Table, by_type, expected, wrong
from rvbuild.settings.area import AoiTableSettings
from rvbuild.settings.labels import BufferSettings


def _filter(value: object) -> filters.Filter:
    try:
        return filters.parse(value)
    except filters.FilterError as error:
        return wrong(str(error))


FilterValue: TypeAlias = Annotated[
    list[Any], BeforeValidator(_filter), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array"}]})
]
"""A filter of features, as text or as a list; always a list once validated."""

_PER_CLASS = by_type({int: "<number>", float: "<number>", dict: "<classes>"}, "a number, or a table of class = number")

Width: TypeAlias = Annotated[
    Annotated[Annotated[float, Field(gt=0)], Tag("<number>")]
    | Annotated[dict[str, Annotated[float, Field(gt=0)]], Tag("<classes>")],
    _PER_CLASS,
]
Change: TypeAlias = Annotated[
    Annotated[float, Tag("<number>")] | Annotated[dict[str, float], Tag("<classes>")], _PER_CLASS
]


def _codec(value: str) -> str:
    try:
        "".encode(value)
    except (LookupError, ValueError):
        return wrong(f'expected a text encoding, such as "UTF-8" or "windows-1252", found {show(value)}')
    return value


Encoding: TypeAlias = Annotated[str, AfterValidator(_codec)]
"""The encoding of the texts in a file."""

ENCODING = (
    'Encoding of the text in the file, such as "UTF-8". Default: as declared by the file (a shapefile in `.cpg`).'
)


def _two(value: tuple[float, ...]) -> tuple[float, ...]:
    return value if len(value) == 2 else expected("two numbers")


Shift: TypeAlias = Annotated[tuple[float, ...], Strict(False), AfterValidator(_two)]
"""A move along x and y."""

_Geometry: TypeAlias = Literal["Point", "LineString", "Polygon"]
_GEOMETRIES: tuple[_Geometry, ...] = get_args(_Geometry)
_DEFAULT_PX: Mapping[_Geometry, float] = {"Point": 1.0, "LineString": 1.0, "Polygon": 0.0}


class BufferTable(Table):
    """The buffers that give points and lines an area, and grow polygons: in pixels, or a table of class = pixels."""

    omitted_defaults = ("polygon",)

    point: Width = Field(
        1.0, alias="Point", description="Radius of a point, in pixels. Default for classes not named: 1."
    )
    line: Width = Field(
        1.0, alias="LineString", description="Half the width of a line, in pixels. Default for classes not named: 1."
    )
    polygon: Change = Field(
        0.0,
        alias="Polygon",
        description="Growth of polygons on every side, in pixels; negative values shrink them. Default for classes not "
        "named: 0.",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """Find unknown classes."""
        for kind, widths in (("Point", self.point), ("LineString", self.line), ("Polygon", self.polygon)):
            for name in widths if isinstance(widths, dict) else ():
                if problem := context.class_problem(name):
                    yield Finding((kind, name), problem)

    def stage_settings(self, classes: tuple[str, ...] = ()) -> BufferSettings:
        """Return pixels by type of geometry, and by class if they differ; no growth of polygons is omitted.

        Parameters
        ----------
        classes
            The names of all classes, each of which gets a value.
        """
        settings = self.settings_as(BufferSettings)
        for kind in _GEOMETRIES:
            px = settings.get(kind)
            if isinstance(px, dict):
                settings[kind] = {name: px.get(name, _DEFAULT_PX[kind]) for name in classes}
        return settings


class AoiTable(Table):
    """A part of an area of interest: the polygons of vector files."""

    not_settings = ("vector",)
    omitted_defaults = ("layer", "encoding", "where")

    vector: Paths = Field(description="One or more vector files, in any format and CRS.")
    layer: str | None = Field(None, description="Layer of the file. Default: its only layer.")
    encoding: Encoding | None = Field(None, description=ENCODING)
    where: FilterValue | None = Field(None, description="Which polygons to use: a filter, as in labels. Default: all.")

    def stage_settings(self) -> AoiTableSettings:
        """Return the settings, without the paths."""
        return self.settings_as(AoiTableSettings)

    @model_validator(mode="before")
    @classmethod
    def _from_paths(cls, value: Any) -> Any:
        """Take a bare path or list of paths for a table."""
        if isinstance(value, str | list):
            return {"vector": value}
        return value if isinstance(value, dict) else expected("a path, a list of paths or a table")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Also offer the short forms to editors."""
        bare = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
        return {"anyOf": [*bare, handler(schema)]}


def _form(value: object) -> str:
    several = isinstance(value, tuple) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
    return "<tables>" if several else "<table>"


AnyAoiTable: TypeAlias = Annotated[
    Annotated[AoiTable, Tag("<table>")] | Annotated[tuple[AoiTable, ...], Strict(False), Tag("<tables>")],
    Discriminator(_form),
]
"""The area of interest of a scene: a path, a list of paths, a table, or a list of tables."""


def areas(aoi: AoiTable | tuple[AoiTable, ...] | None) -> tuple[AoiTable, ...]:
    """Return the tables of an area of interest."""
    return aoi if isinstance(aoi, tuple) else (aoi,) if aoi else ()
