"""The `[bundle]` table: what is packed for use elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from rvbuild.project.toml.table import Table, wrong


def _onnx(value: bool) -> bool:
    return wrong("true is not supported yet; the bundle holds the weights as safetensors") if value else value


class BundleTable(Table):
    """What is packed."""

    onnx: Annotated[bool, AfterValidator(_onnx), WithJsonSchema({"const": False})] = Field(
        False, description="Whether to add the model as ONNX; not supported yet."
    )

    def stage_settings(self) -> dict[str, Any]:
        """Return the settings of the stage: there are none yet."""
        return {}
