"""The settings of the task, see `rvbuild.tasks.settings`."""

from __future__ import annotations

from typing_extensions import ReadOnly

from rvbuild.settings.predict import BoxForwardSettings, BoxResultSettings
from rvbuild.tasks.settings import DeriveSettings, InferSettings


class BoxInferSettings(InferSettings):
    """How windows become the raw result."""

    predict: ReadOnly[BoxForwardSettings]


class BoxDeriveSettings(DeriveSettings):
    """Which files are derived from it."""

    predict: ReadOnly[BoxResultSettings]
