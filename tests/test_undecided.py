"""Suspects without a verdict, as `status` names them."""

from __future__ import annotations

from pathlib import Path

import pytest
from affine import Affine

from rvbuild.engine.plan.artifact_status import ArtifactStatus
from rvbuild.engine.plan.decide import State
from rvbuild.geo.grid import Grid
from rvbuild.review.suspect import Source, Suspect
from rvbuild.review.table import TABLE, Row, write_table
from rvbuild.review.verdicts import set_verdict
from rvbuild.session.remarks.undecided import undecided

GRID = Grid(64, 64, Affine.identity(), None)
SQUARE = (((8.0, 8.0), (30.0, 8.0), (30.0, 30.0), (8.0, 30.0), (8.0, 8.0)),)


def suspect(number: int) -> Suspect:
    return Suspect(f"{number:016x}", "c", "spurious", 0.9, 80.0, "tree", None, "ground", Source(0, number), SQUARE)


def row(state: State = State.FRESH) -> ArtifactStatus:
    return ArtifactStatus("p", "suspects", None, state, (), (), None, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "cache/p/review"
    path.mkdir(parents=True)
    write_table(path, [Row(suspect(number), GRID) for number in range(3)])
    return path


def test_suspects_are_counted_until_all_have_a_verdict(tmp_path: Path, folder: Path) -> None:
    set_verdict(folder / TABLE, suspect(0).id, "accept")
    (line,) = undecided(tmp_path, [row()])
    assert line.startswith("p: 2 of 3 suspects have no verdict;")
    assert "cache/p/review/suspects.gpkg" in line
    for number in (1, 2):
        set_verdict(folder / TABLE, suspect(number).id, "reject")
    assert undecided(tmp_path, [row()]) == []


def test_suspects_that_are_not_up_to_date_are_not_counted(tmp_path: Path, folder: Path) -> None:
    assert undecided(tmp_path, [row(State.STALE)]) == []


def test_a_table_that_is_gone_or_broken_is_no_error(tmp_path: Path, folder: Path) -> None:
    (folder / TABLE).write_bytes(b"no database" * 100)
    assert undecided(tmp_path, [row()]) == []
    (folder / TABLE).unlink()
    assert undecided(tmp_path, [row()]) == []
    assert not (folder / TABLE).exists()
