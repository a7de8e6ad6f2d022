"""The settings of the task, see `rvbuild.tasks.settings`."""

from __future__ import annotations

from typing_extensions import ReadOnly

from rvbuild.settings.predict import CellFileSettings, CellForwardSettings
from rvbuild.tasks.settings import DeriveSettings, InferSettings


class CellInferSettings(InferSettings):
    """How windows become the raw result."""

    predict: ReadOnly[CellForwardSettings]


class CellDeriveSettings(DeriveSettings):
    """Which files are derived from it."""

    predict: ReadOnly[CellFileSettings]
