"""Verdicts that users give on the page: in the table of suspects at once, or kept beside it on the disk."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvbuild.engine.keys.signature import Signature, signature
from rvbuild.errors import DataError, RvbuildError, UsageError
from rvbuild.files.durable import sync
from rvbuild.review.outputs import require_no_links
from rvbuild.review.table import TABLE
from rvbuild.review.verdicts import (
    UNDECIDED,
    UNSAVED,
    Decision,
    read_unsaved,
    read_verdicts,
    require_verdict,
    set_verdict,
)

INTERVAL_S = 1.0


@dataclass(frozen=True)
class Decided:
    """What is decided now.

    Attributes
    ----------
    by_id : dict of str to Decision
        The decision about each suspect of the table, with those that wait.
    unsaved : frozenset of str
        The ids of suspects whose verdicts wait.
    message : str
        Why they wait, or why the table cannot be read; empty if all is well.
    """

    by_id: dict[str, Decision]
    unsaved: frozenset[str] = frozenset()
    message: str = ""


class Verdicts:
    """Reads and sets verdicts, and notices those of other programs in a thread of its own.

    A verdict is first written to a file of its own and only leaves it when the table has it. So neither a crash nor a
    program that locks the table, nor a table that is gone, loses one.
    """

    def __init__(self, folder: Callable[[], Path | None], changed: Callable[[], None]) -> None:
        """Look after the verdicts in a folder; `changed` is called when there are others than before."""
        self._folder, self._changed = folder, changed
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rvbuild-view-verdicts", daemon=True)
        self._before: tuple[object, ...] = ()
        self._told = Decided({})

    def start(self) -> None:
        """Begin to look for changes."""
        self._before, self._told = self._state(), self.decided()
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def decided(self) -> Decided:
        """Return what is decided now; nothing if there was no review."""
        folder = self._folder()
        if folder is None or not folder.is_dir():
            return Decided({})
        with self._lock:
            waiting = read_unsaved(folder)
            try:
                by_id, message = read_verdicts(folder / TABLE), ""
            except DataError as error:
                by_id, message = {}, str(error)
            if waiting and not message:
                message = _why(folder)
            return Decided({**by_id, **waiting}, frozenset(waiting), message)

    def set(self, suspect_id: str, verdict: str, note: str | None = None) -> dict[str, Any]:
        """Set the verdict about a suspect.

        Parameters
        ----------
        suspect_id, verdict, note
            As for `rvbuild.review.verdicts.set_verdict`.

        Returns
        -------
        dict
            `former`, the verdict and the note before; `note`, the one now; `unsaved`, why the verdict waits, empty if
            it is in the table.

        Raises
        ------
        UsageError
            There is no such verdict or suspect, or no review.
        DataError
            The directory leads elsewhere.
        """
        require_verdict(verdict)
        folder = self._folder()
        if folder is None or not folder.is_dir():
            raise UsageError("there are no suspects yet: run the review")
        with self._lock:
            _require_own(folder)
            known = self.decided()
            readable = (folder / TABLE).is_file() and (not known.message or bool(known.unsaved))
            if readable and suspect_id not in known.by_id:
                raise UsageError(f"there is no suspect {suspect_id!r} in {TABLE}: run the review again")
            former = known.by_id.get(suspect_id, UNDECIDED)
            now = Decision(verdict, former.note if note is None else note)
            _write_unsaved(folder, {**read_unsaved(folder), suspect_id: now})
            unsaved = self.save()
            self._before, self._told = self._state(), self.decided()
        return {"former": former._asdict(), "note": now.note, "unsaved": unsaved}

    def save(self) -> str:
        """Bring verdicts that wait into the table; return why some still wait, empty if none does."""
        folder = self._folder()
        if folder is None:
            return ""
        with self._lock:
            _require_own(folder)
            waiting, why = read_unsaved(folder), ""
            for suspect_id, decision in list(waiting.items()):
                try:
                    set_verdict(folder / TABLE, suspect_id, decision.verdict, decision.note)  # type: ignore[arg-type]
                except DataError as error:  # the others wait as well
                    why = str(error)
                    break
                except UsageError as error:
                    why = str(error)
                    continue
                del waiting[suspect_id]
            _write_unsaved(folder, waiting)
        return why

    def check(self) -> bool:
        """Bring verdicts that wait into the table, and tell if there are others than before; return whether."""
        if self._waits():
            self.save()
        now = self._state()
        if now == self._before:
            return False
        decided = self.decided()
        self._before = now
        if decided == self._told:
            return False  # the table was opened, or its rows were renewed
        self._told = decided
        self._changed()
        return True

    def _waits(self) -> bool:
        folder = self._folder()
        return folder is not None and (folder / UNSAVED).exists()

    def _state(self) -> tuple[Signature | None, ...]:
        folder = self._folder()
        if folder is None:
            return ()
        # SQLite keeps what programs have changed beside the table until it is written back.
        return tuple(signature(folder / name) for name in (TABLE, f"{TABLE}-wal", UNSAVED))

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            try:
                self.check()
            except (RvbuildError, OSError):
                continue  # for example a directory that cannot be read now


def _require_own(folder: Path) -> None:
    """Refuse a directory that leads elsewhere, as one of a clone may: nothing is written there."""
    if folder.parent.is_symlink():
        raise DataError(f"{folder.parent}: is a link, through which nothing is written; remove it")
    require_no_links(folder)


def _why(folder: Path) -> str:
    if not (folder / TABLE).is_file():
        return f"{folder / TABLE} is gone: run the review again. Verdicts that were given since are kept in {UNSAVED}"
    return f"some verdicts are not in {TABLE} yet; they are kept in {UNSAVED}, and it is tried again"


def _write_unsaved(folder: Path, waiting: dict[str, Decision]) -> None:
    """Write verdicts that wait, durably."""
    path = folder / UNSAVED
    if not waiting:
        path.unlink(missing_ok=True)
        return
    temporary = folder / f".{UNSAVED}-{os.getpid()}"
    temporary.write_text(json.dumps(waiting, ensure_ascii=False), encoding="utf-8")
    sync(temporary)
    temporary.replace(path)
