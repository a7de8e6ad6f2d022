"""The `[eval]` table: the evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from rvbuild.project.tasks import keys_of_tasks
from rvbuild.project.toml.table import REFERENCE, Context, Finding, Pixels, Table, duplicates, expected
from rvbuild.settings.evaluation import EvalSettings


def _metric(value: str) -> str:
    if not REFERENCE.fullmatch(value):
        expected("your own function as package.module:name")
    return value


class EvalTable(Table):
    """Which scenes are evaluated, and how."""

    not_settings = ("splits", "metrics", *keys_of_tasks("eval"))  # they concern all scenes; a task adds its own

    splits: Annotated[tuple[Literal["validation", "test"], ...], Strict(False)] = Field(
        ("validation", "test"), description="The splits to evaluate; scenes without labels are skipped."
    )

    metrics: Annotated[tuple[Annotated[str, AfterValidator(_metric)], ...], Strict(False)] = Field(
        (),
        description="Your own metrics, each as package.module:function, called as function(evaluation, scenes) with "
        "the content of eval.json, and the content of eval/SCENE.json by scene; see docs/pipelines.md.",
    )

    iou_thresh: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="For object_detection: a predicted box counts as a true positive if it overlaps a label of its "
        "class by more than this intersection over union. Average precision uses its own thresholds.",
    )

    strip_px: Pixels | None = Field(
        None,
        description="For semantic_segmentation: scenes of more pixels are evaluated in strips of rows of about so many "
        "pixels, each stored as it is finished and computed wherever there is room; the result is the same, to the "
        "byte. See docs/huge_scenes.md. Default: scenes are evaluated at once.",
    )

    def stage_settings(self) -> EvalSettings:
        """Return the settings of the evaluation of a scene."""
        return self.settings_as(EvalSettings)

    def check(self, context: Context) -> Iterator[Finding]:
        """Find repeated splits and metrics."""
        yield from duplicates(self.splits, "splits")
        yield from duplicates(self.metrics, "metrics")
