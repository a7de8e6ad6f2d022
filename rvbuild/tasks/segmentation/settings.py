"""The settings of the task, see `rvbuild.tasks.settings`."""

from __future__ import annotations

from typing_extensions import ReadOnly

from rvbuild.settings.predict import BlendSettings, RasterFileSettings
from rvbuild.tasks.settings import DeriveSettings, InferSettings


class SegmentationInferSettings(InferSettings):
    """How windows become the raw result."""

    predict: ReadOnly[BlendSettings]


class SegmentationDeriveSettings(DeriveSettings):
    """Which files are derived from it."""

    predict: ReadOnly[RasterFileSettings]
