"""The `[review]` table: what labels are compared with."""

from __future__ import annotations

from pydantic import Field

from rvbuild.project.toml.table import Table


class ReviewTable(Table):
    """What `rvbuild review` compares labels with, besides drafts."""

    model: bool = Field(
        False,
        description="Whether the trained model's scores of validation and test scenes count as much as the draft's, "
        "and those of all scenes once `rvbuild folds` has made them. Then a review trains and predicts first; for "
        "chip classification, and for segmentation with predict.scores.",
    )
