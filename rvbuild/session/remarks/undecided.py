"""Suspects without a verdict, in a sentence. Only the database is read, and nothing heavy is imported."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State

STAGE = "suspects"

_WAIT_S = 0.2


def undecided(workspace: Path, rows: Iterable[ArtifactStatus]) -> list[str]:
    """Return a sentence for each project with suspects that are up to date and have no verdict.

    Parameters
    ----------
    workspace
        The root of the workspace.
    rows
        The states of artifacts.
    """
    sentences = []
    for row in rows:
        if row.stage == STAGE and row.state is State.FRESH:
            table = f"cache/{row.project}/review/suspects.gpkg"
            counts = _counts(workspace / table)
            if counts is not None and counts[0]:
                sentences.append(
                    f"{row.project}: {counts[0]} of {counts[1]} suspects have no verdict; `rvbuild view` shows them, "
                    f"and so does QGIS ({table})"
                )
    return sentences


def _counts(path: Path) -> tuple[int, int] | None:
    """Return how many suspects of a table are open, and how many there are; None if it cannot be read now."""
    if not path.is_file():
        return None
    query = "select count(*) filter (where trim(coalesce(verdict, '')) = ''), count(*) from suspects"
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_WAIT_S)) as database:
            row = database.execute(query).fetchone()
    except sqlite3.Error:
        return None
    return int(row[0]), int(row[1])
