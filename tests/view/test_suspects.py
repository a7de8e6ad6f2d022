"""Suspects on the page, and verdicts that neither a lock, nor a crash, nor a table that is gone loses."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvbuild.engine.plan.decide import State
from rvbuild.errors import DataError, UsageError
from rvbuild.review import geopackage
from rvbuild.review.suspect import Source, Suspect, write_suspects
from rvbuild.review.table import TABLE, Row, write_table
from rvbuild.review.verdicts import EARLIER, UNSAVED, Decision, decisions, read_verdicts, set_verdict
from rvbuild.view.readers import Memo
from rvbuild.view.reviewing.deciding import Verdicts
from rvbuild.view.reviewing.suspects import review_folder, suspects_json

from .conftest import Results

A, B = "00000000000000aa", "00000000000000bb"
SQUARE = (((8.0, 8.0), (30.0, 8.0), (30.0, 30.0), (8.0, 30.0), (8.0, 8.0)),)
MOVED = (((9.0, 9.0), (31.0, 9.0), (31.0, 31.0), (9.0, 31.0), (9.0, 9.0)),)

SUSPECTS = [
    Suspect(A, "c", "outline", 0.9, 80.0, "building", None, "half of it is ground", Source(0, 0), SQUARE, MOVED),
    Suspect(B, "c", "missing", 0.6, 40.0, None, "building", "looks like one", None, SQUARE, SQUARE),
]


def review(results: Results, state: State = State.FRESH) -> Path:
    """Write what a review writes; return its directory."""
    write_suspects(results.folder("suspects", None, "suspects.json", state=state) / "suspects.json", SUSPECTS)
    folder = results.root / "cache/p/review"
    folder.mkdir(exist_ok=True)
    write_table(folder, [Row(one, results.grid, "data/c.geojson", None, "0", "00") for one in SUSPECTS])
    return folder


@pytest.fixture
def folder(pixels: Results) -> Path:
    return review(pixels)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def verdicts(folder: Path, told: list[str]) -> Iterator[Verdicts]:
    each = Verdicts(lambda: folder, lambda: told.append("changed"))
    each._before, each._told = each._state(), each.decided()
    yield each
    each.stop()


def test_suspects_are_shown_with_their_verdicts(pixels: Results, folder: Path, verdicts: Verdicts) -> None:
    set_verdict(folder / TABLE, B, "accept", "a shed")
    shown = suspects_json(pixels.seen(), verdicts, Memo(9))
    assert (shown["state"], shown["table"], shown["message"]) == ("fresh", "cache/p/review/suspects.gpkg", "")
    assert (shown["open"], shown["left_out"]) == (1, 0)
    first, second = shown["suspects"]
    assert first["window"] == [8, 8, 30, 30]
    assert first["proposed_rings"] == [[list(point) for point in ring] for ring in MOVED]
    assert (first["file"], first["feature_id"], first["verdict"]) == ("data/c.geojson", "0", "")
    assert (second["verdict"], second["note"], second["proposed_class"]) == ("accept", "a shed", "building")
    assert "suspects" in pixels.scene().describe()["layers"]


def test_without_a_review_there_are_none(pixels: Results) -> None:
    verdicts = Verdicts(lambda: review_folder(pixels.seen()), lambda: None)
    assert suspects_json(pixels.seen(), verdicts, Memo(9)) == {}
    with pytest.raises(UsageError, match="run the review"):
        verdicts.set(A, "accept")


def test_suspects_of_labels_that_were_edited_are_stale(pixels: Results) -> None:
    folder = review(pixels, State.STALE)
    assert suspects_json(pixels.seen(), Verdicts(lambda: folder, lambda: None), Memo(9))["state"] == "stale"


def test_a_verdict_is_in_the_table_at_once_and_can_be_taken_back(folder: Path, verdicts: Verdicts) -> None:
    assert verdicts.set(A, "reject", "it is fine") == {
        "former": {"verdict": "", "note": ""},
        "note": "it is fine",
        "unsaved": "",
    }
    assert read_verdicts(folder / TABLE)[A] == Decision("reject", "it is fine")
    assert not (folder / UNSAVED).exists()
    former = verdicts.set(A, "accept")["former"]
    verdicts.set(A, **former)
    assert read_verdicts(folder / TABLE)[A] == Decision("reject", "it is fine")


def test_what_is_no_verdict_and_no_suspect_is_refused(folder: Path, verdicts: Verdicts) -> None:
    with pytest.raises(UsageError, match="expected accept, reject or nothing"):
        verdicts.set(A, "acept")
    with pytest.raises(UsageError, match="no suspect 'x'"):
        verdicts.set("x", "accept")
    assert not (folder / UNSAVED).exists()


def test_a_verdict_waits_for_a_program_that_locks_the_table(
    folder: Path, verdicts: Verdicts, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geopackage, "WAIT_S", 0.05)
    other = sqlite3.connect(folder / TABLE, isolation_level=None)
    other.execute("begin immediate")
    answer = verdicts.set(A, "accept")
    assert "another program is writing to it" in answer["unsaved"]
    decided = verdicts.decided()
    assert (decided.by_id[A].verdict, decided.unsaved) == ("accept", {A})
    assert UNSAVED in decided.message
    assert verdicts.set(A, "reject")["former"]["verdict"] == "accept"
    other.execute("rollback")
    other.close()
    assert verdicts.check()
    assert told == ["changed"]
    assert read_verdicts(folder / TABLE)[A].verdict == "reject"
    assert verdicts.decided().unsaved == frozenset()


def test_a_verdict_that_waits_survives_a_review_that_suspects_the_label_no_more(
    pixels: Results, folder: Path, verdicts: Verdicts
) -> None:
    (folder / UNSAVED).write_text(f'{{"{A}": ["accept", "sure"]}}')
    write_table(folder, [Row(SUSPECTS[1], pixels.grid, "data/c.geojson", None, "0", "00")])
    assert verdicts.save() == ""
    assert not (folder / UNSAVED).exists()
    with geopackage.read(folder / TABLE) as database:
        assert decisions(database, EARLIER) == {A: Decision("accept", "sure")}


def test_a_verdict_waits_for_a_table_that_is_gone(pixels: Results, folder: Path, verdicts: Verdicts) -> None:
    (folder / TABLE).unlink()
    assert "no suspects yet" in verdicts.set(A, "accept")["unsaved"]
    assert "is gone" in suspects_json(pixels.seen(), verdicts, Memo(9))["message"]
    (folder / "suspects.geojson").unlink()
    review(pixels)
    verdicts.check()
    assert read_verdicts(folder / TABLE)[A].verdict == "accept"


def test_verdicts_of_other_programs_show_up(folder: Path, verdicts: Verdicts, told: list[str]) -> None:
    assert not verdicts.check()
    other = sqlite3.connect(folder / TABLE)
    for function, arguments in (("ST_IsEmpty", 1), *((f"ST_M{end}", 1) for end in ("inX", "axX", "inY", "axY"))):
        other.create_function(function, arguments, lambda _: 0)
    other.execute("pragma journal_mode = wal")  # as QGIS does
    other.execute("update suspects set verdict = 'Accept' where id = ?", (B,))
    other.commit()
    assert verdicts.check()
    assert verdicts.decided().by_id[B].verdict == "accept"
    assert not verdicts.check()
    other.close()
    verdicts.check()
    assert told == ["changed"], "writing back changes no verdict"


@pytest.mark.parametrize("link", ["", TABLE, UNSAVED, ".."])
def test_nothing_is_written_through_links(folder: Path, verdicts: Verdicts, tmp_path: Path, link: str) -> None:
    linked = folder.parent if link == ".." else folder / link
    elsewhere = tmp_path / "elsewhere"
    if linked.exists():
        linked.rename(elsewhere)
    else:
        elsewhere.write_text("{}")
    linked.symlink_to(elsewhere, target_is_directory=elsewhere.is_dir())
    before = {path: path.read_bytes() for path in (elsewhere, *elsewhere.rglob("*")) if path.is_file()}
    with pytest.raises(DataError, match="is a link, through which nothing is written"):
        verdicts.set(A, "accept")
    assert {path: path.read_bytes() for path in (elsewhere, *elsewhere.rglob("*")) if path.is_file()} == before


KILLED = """
import os, signal, sys
from pathlib import Path
from rvbuild.review import geopackage
from rvbuild.view.reviewing import deciding

if sys.argv[2] == "before":
    deciding.set_verdict = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
deciding.Verdicts(lambda: Path(sys.argv[1]), lambda: None).set("00000000000000aa", "accept", "sure")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="processes cannot be killed so")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_loses_no_verdict(folder: Path, moment: str) -> None:
    """The process is killed before the verdict is in the table, or after it."""
    status = subprocess.run([sys.executable, "-c", KILLED, str(folder), moment]).returncode
    assert status == -signal.SIGKILL
    assert (folder / UNSAVED).exists() == (moment == "before")
    verdicts = Verdicts(lambda: folder, lambda: None)
    assert verdicts.decided().by_id[A] == Decision("accept", "sure")
    verdicts.check()
    assert read_verdicts(folder / TABLE)[A] == Decision("accept", "sure")
    assert not (folder / UNSAVED).exists()
