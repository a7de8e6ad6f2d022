"""What users decide about suspects: their verdicts, kept in `suspects.gpkg`.

Verdicts are set here, in QGIS, or by any other program that edits GeoPackages. They are the user's: a later review
carries them over, see `rvbuild.review.table`.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from rvbuild.errors import UsageError, nearest
from rvbuild.review import geopackage

LAYER = "suspects"
EARLIER = "earlier_verdicts"
"""The table of verdicts about what is no longer suspected."""

UNSAVED = "unsaved_verdicts.json"
"""Beside the table: verdicts of the page that are not in it yet, by id of the suspect."""

Verdict = Literal["", "accept", "reject"]
"""`accept`: the label is wrong, do what is proposed. `reject`: the label is right. Empty: not decided."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Decision(NamedTuple):
    """What a user has decided about a suspect."""

    verdict: str
    """One of `VERDICTS`; something else if another program wrote it."""
    note: str


UNDECIDED = Decision("", "")


def read_verdicts(path: Path) -> dict[str, Decision]:
    """Return the decision about each suspect by its id, of those suspected now; empty if there is no file yet.

    Raises
    ------
    DataError
        The file is something else, or locked for long.
    """
    if not path.exists():
        return {}
    with geopackage.read(path) as database:
        return decisions(database)


def decisions(database: sqlite3.Connection, table: str = LAYER) -> dict[str, Decision]:
    """Return the decision about each suspect in a table, by its id."""
    rows = database.execute(f"select id, verdict, note from {geopackage.quoted(table)}")
    return {str(key): _decision(verdict, note) for key, verdict, note in rows}


def read_unsaved(folder: Path) -> dict[str, Decision]:
    """Return the decisions that the page keeps beside the table until it can write them there, by id of the suspect.

    They are newer than those of the table.
    """
    try:
        content = json.loads((folder / UNSAVED).read_text(encoding="utf-8"))
        return {str(key): Decision(str(verdict), str(note)) for key, (verdict, note) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _decision(verdict: object, note: object) -> Decision:
    return Decision(cleaned(verdict), "" if note is None else str(note))


def require_verdict(verdict: str) -> None:
    """Raise a UsageError if a text is no verdict."""
    if verdict not in VERDICTS:
        raise UsageError(f"{verdict!r} is no verdict{nearest(verdict, VERDICTS)}; expected accept, reject or nothing")


def cleaned(verdict: object) -> str:
    """Return a verdict as programs write it: without blanks and capitals; NULL is none."""
    return "" if verdict is None else str(verdict).strip().lower()


def set_verdict(path: Path, suspect_id: str, verdict: Verdict, note: str | None = None) -> Decision:
    """Set the verdict about a suspect, durably: when this returns, a crash does not lose it.

    Other programs may have the file open.

    Parameters
    ----------
    path
        `suspects.gpkg`.
    suspect_id
        The id of a suspect, also of one in the table of earlier verdicts.
    verdict
        One of `VERDICTS`; empty to take a verdict back.
    note
        A new note of the user; None leaves it as it is.

    Returns
    -------
    Decision
        The former one; setting it again undoes the change.

    Raises
    ------
    UsageError
        There is no file, no such suspect in it, or no such verdict.
    DataError
        Another program locks the file for longer than some seconds.
    """
    require_verdict(verdict)
    if not path.exists():
        raise UsageError(f"{path}: there are no suspects yet; run `rvbuild review`")
    with geopackage.changed(path) as database:
        former = _set(database, LAYER, suspect_id, verdict, note)
        if former is None and has_table(database, EARLIER):
            former = _set(database, EARLIER, suspect_id, verdict, note)
        if former is None:
            raise UsageError(f"{path}: there is no suspect {suspect_id!r}; run `rvbuild review` again")
    return former


def _set(
    database: sqlite3.Connection, table: str, suspect_id: str, verdict: Verdict, note: str | None
) -> Decision | None:
    """Set a verdict in a table; return the former one, None without a row."""
    row = database.execute(f"select verdict, note from {table} where id = ?", (suspect_id,)).fetchone()
    if row is None:
        return None
    former = _decision(*row)
    kept = former.note if note is None else note
    database.execute(f"update {table} set verdict = ?, note = ? where id = ?", (verdict, kept, suspect_id))
    return former


def has_table(database: sqlite3.Connection, name: str) -> bool:
    """Tell whether there is a table."""
    return database.execute("select 1 from sqlite_master where name = ?", (name,)).fetchone() is not None
