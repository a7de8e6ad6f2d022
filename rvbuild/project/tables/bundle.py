"""The `[bundle]` table: the content of the bundle."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from rvbuild.project.toml.table import Table, wrong


def _onnx(value: bool) -> bool:
    return wrong("true is not supported yet; the bundle holds the weights as safetensors") if value else value


class BundleTable(Table):
    """The content of the bundle."""

    not_settings = ("onnx",)

    onnx: Annotated[bool, AfterValidator(_onnx), WithJsonSchema({"const": False})] = Field(
        False, description="Whether to add the model as ONNX; not supported yet."
    )
