"""The `[suggest]` table: the windows that are suggested to be labelled next."""

from __future__ import annotations

from pydantic import Field

from rvbuild.project.toml.table import Pixels, Table


class SuggestTable(Table):
    """Which windows `rvbuild suggest` suggests to label next."""

    count: int = Field(20, ge=1, le=10_000, description="How many windows are suggested.")
    window_px: Pixels | None = Field(
        None,
        description="The side of a window: draft.block_px divided by a whole number, in whole cells of "
        "draft.stride_px. Default: half of draft.block_px.",
    )
