"""The `[analyze]` table: the statistics of the imagery."""

from __future__ import annotations

from pydantic import Field

from rvbuild.project.toml.table import Pixels, Table
from rvbuild.settings.analyze import SampleSettings


class AnalyzeTable(Table):
    """How band statistics are measured."""

    not_settings = ("strip_px",)  # it changes no result

    sample: float = Field(1.0, gt=0, le=1, description="Fraction of the pixels to use, chosen by the seed. 1 uses all.")

    strip_px: Pixels | None = Field(
        None,
        description="Scenes of more pixels are measured in strips of rows of about so many pixels, each stored as it "
        "is finished and computed wherever there is room; the result is the same, to the byte. See "
        "docs/huge_scenes.md. Default: scenes are measured at once.",
    )

    def stage_settings(self) -> SampleSettings:
        """Return the settings."""
        return self.settings_as(SampleSettings)
