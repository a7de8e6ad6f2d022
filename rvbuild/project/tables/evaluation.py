"""The `[eval]` table: what is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict

from rvbuild.project.toml.table import REFERENCE, Finding, Known, Table, duplicates, expected


def _metric(value: str) -> str:
    if not REFERENCE.fullmatch(value):
        expected("a function of yours as package.module:name")
    return value


class EvalTable(Table):
    """What is evaluated."""

    splits: Annotated[tuple[Literal["validation", "test"], ...], Strict(False)] = Field(
        ("validation", "test"), description="Which scenes are evaluated; those without labels are left out."
    )

    metrics: Annotated[tuple[Annotated[str, AfterValidator(_metric)], ...], Strict(False)] = Field(
        (),
        description="Metrics of your own, each as package.module:function, called as function(evaluation, scenes) with "
        "what eval.json holds, and what eval/SCENE.json holds by scene; see docs/pipelines.md.",
    )

    iou_thresh: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="For object_detection: a predicted box is right if it overlaps a label of its class by more than "
        "this, intersection over union. The average precisions have thresholds of their own.",
    )

    def check(self, known: Known) -> Iterator[Finding]:
        """Find repeated splits and metrics."""
        yield from duplicates(self.splits, "splits")
        yield from duplicates(self.metrics, "metrics")

    def slice(self) -> dict[str, Any]:
        """Return the settings of the stage; which scenes are evaluated is not among them."""
        return {}
