"""The `[eval]` table: what is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, Strict

from rvbuild.project.table import Finding, Known, Table, duplicates


class EvalTable(Table):
    """What is evaluated."""

    later: ClassVar[dict[str, str]] = {"iou_thresh": "belongs to object_detection, which is not supported yet"}

    splits: Annotated[tuple[Literal["validation", "test"], ...], Strict(False)] = Field(
        ("validation", "test"), description="Which scenes are evaluated; those without labels are left out."
    )

    def check(self, known: Known) -> Iterator[Finding]:
        """Find repeated splits."""
        yield from duplicates(self.splits, "splits")

    def slice(self) -> dict[str, Any]:
        """Return the settings of the stage; which scenes are evaluated is not among them."""
        return {}
