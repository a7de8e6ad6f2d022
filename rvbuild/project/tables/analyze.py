"""The `[analyze]` table: the statistics of the imagery."""

from __future__ import annotations

from pydantic import Field

from rvbuild.project.toml.table import Table
from rvbuild.settings.analyze import SampleSettings


class AnalyzeTable(Table):
    """How band statistics are measured."""

    sample: float = Field(1.0, gt=0, le=1, description="Fraction of the pixels to use, chosen by the seed. 1 uses all.")

    def stage_settings(self) -> SampleSettings:
        """Return the settings."""
        return self.settings_as(SampleSettings)
