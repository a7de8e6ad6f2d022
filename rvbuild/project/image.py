"""The `image` of a scene: a path, a list of paths (one mosaic), or a table."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, GetJsonSchemaHandler, Strict, Tag, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rvbuild.project.table import SomePaths, Table, by_type, expected, wrong

_NODATA = by_type({int: "<number>", float: "<number>", list: "<bands>"}, "a number, or a list with one number per band")


class ImageTable(Table):
    """The imagery of a scene."""

    later: ClassVar[dict[str, str]] = {
        "stack": "not supported yet; several files make one mosaic, and must have the same bands",
        "bbox_px": 'not supported yet; limit a scene with "aoi"',
        "transform": "not supported yet; training normalises imagery by itself",
    }

    files: SomePaths = Field(description="The image, or the images that make one mosaic.")
    nodata: (
        Annotated[
            Annotated[float, Tag("<number>")] | Annotated[tuple[float, ...], Strict(False), Tag("<bands>")], _NODATA
        ]
        | None
    ) = Field(
        None,
        description="Value of pixels without data, or one value per band; [] if every value is data, whatever the file "
        "says. Default: what the file says. NaN is always without data.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_paths(cls, value: Any) -> Any:
        """Take a bare path or list of paths for a table."""
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            return wrong("a list of tables is not supported yet; give a path, a list of paths, or one table")
        if isinstance(value, str | list):
            return {"files": value}
        return value if isinstance(value, dict) else expected("a path, a list of paths or a table")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Offer the bare forms to editors, too."""
        bare = [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
        return {"anyOf": [*bare, handler(schema)]}

    def slice(self) -> dict[str, Any]:
        """Return the settings, without the paths."""
        return self.model_dump(mode="json", exclude={"files"})
