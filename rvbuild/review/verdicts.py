"""What users decide about suspects: their verdicts, kept in `suspects.gpkg`.

Verdicts are set here, in QGIS, or by any other program that edits GeoPackages. They are the user's: a later review
carries them over, see `rvbuild.review.table`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from rvbuild.errors import UsageError, nearest
from rvbuild.review import geopackage

LAYER = "suspects"
EARLIER = "earlier_verdicts"
"""The table of verdicts about what is no longer suspected."""

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
        The id of a suspect.
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
        row = database.execute(f"select verdict, note from {LAYER} where id = ?", (suspect_id,)).fetchone()
        if row is None:
            raise UsageError(f"{path}: there is no suspect {suspect_id!r}; run `rvbuild review` again")
        former = _decision(*row)
        kept = former.note if note is None else note
        database.execute(f"update {LAYER} set verdict = ?, note = ? where id = ?", (verdict, kept, suspect_id))
    return former
