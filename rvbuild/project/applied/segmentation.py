"""Semantic segmentation applied to the tables of a project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rvbuild.project.applied.parts import Parts
from rvbuild.project.tables.chip import ChipTable, KeepTable
from rvbuild.project.toml.keys import Key
from rvbuild.project.toml.problems import Problems
from rvbuild.project.toml.table import Context, Finding, Table


def check(table: Table, context: Context) -> Iterator[Finding]:
    """Find a threshold that no chip can reach."""
    if isinstance(table, KeepTable) and context.chip_px is not None and table.min_px > context.chip_px**2:
        yield Finding(
            ("min_px",),
            f"{table.min_px} is more than the pixels of a chip: {context.chip_px}² = {context.chip_px**2} pixels",
        )


def chip_px(chip: ChipTable, labels: list[Any]) -> int:
    """Return the side of chips, in pixels."""
    return chip.size_px


def apply(parts: Parts, labels: Mapping[Key, Any], problems: Problems) -> Parts:
    """Return the parts unchanged: the tables are about pixels."""
    return parts
