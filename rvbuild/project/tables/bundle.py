"""The `[bundle]` table: the content of the bundle."""

from __future__ import annotations

from pydantic import Field

from rvbuild.project.toml.table import Table


class BundleTable(Table):
    """The content of the bundle."""

    not_settings = ("onnx",)

    onnx: bool = Field(
        False,
        description="Whether the bundle also holds the model as ONNX, with normalisation and probabilities inside, for "
        "QGIS Deepness, GeoDeep and prediction without torch; a self-test; a STAC item; and a model card. Needs "
        "`pip install 'rvbuild[onnx]'`; see docs/bundle.md.",
    )
