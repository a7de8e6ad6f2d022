"""The state database of a workspace: digests of files, the origin of every artifact, failures, and a log."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from rvbuild.engine.keys.signature import Signature
from rvbuild.engine.store.record import Output, Record, decode, decode_all, encode, encode_shown
from rvbuild.engine.store.sqlite_errors import code, is_damage, texts
from rvbuild.errors import StoreError
from rvbuild.files.mounts import is_on_network

__all__ = ["Entry", "Output", "Record", "State", "records_of"]


_SCHEMA = """
create table if not exists file (path text primary key, size int, mtime int, ctime int, inode int, hashed_at int,
                                 digest text) without rowid;
create table if not exists view (digest text, name text, value text, primary key (digest, name)) without rowid;
create table if not exists companions (kind text, path text, answer text, primary key (kind, path)) without rowid;
create table if not exists record (artifact text primary key, json text, made text) without rowid;
create table if not exists failure (artifact text primary key, key text, message text) without rowid;
create table if not exists log (id integer primary key, at real, artifact text, key text, how text, seconds real,
                                reasons text);
create index if not exists log_artifact on log (artifact);
create table if not exists origin (artifact text, key text, sources text, primary key (artifact, key)) without rowid;
"""
_VERSION = 2


class Entry(NamedTuple):
    """One line of the log; `event` is `built`, `restored`, `failed` or `cleaned`."""

    at: float
    artifact: str
    key: str
    event: str
    seconds: float
    reasons: tuple[str, ...]


class State:
    """The database; every method may be called from any thread, every change is one transaction.

    Parameters
    ----------
    path : Path
        Path of the database. If it is damaged, it is moved aside and recreated as soon as that is noticed: its content
        is recovered from digests and the store.
    say : callable
        Receives a line for the user if that happens.
    """

    def __init__(self, path: Path, notify: Callable[[str], None] = lambda line: None) -> None:
        self.path = path
        self._notify = notify
        self._lock = threading.RLock()
        self._files: dict[str, tuple[Signature, int, str]] | None = None
        self._failures: dict[str, tuple[str, str]] | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            self._renew(error)

    def _renew(self, error: sqlite3.Error) -> None:
        """Move a damaged database aside and create a new one; raise if `error` does not mean damage."""
        if code(error) == sqlite3.SQLITE_FULL:
            raise StoreError(
                f"the disk is full: {self.path} ({error}); free space (`rvbuild cache gc` may help) and run again"
            ) from None
        if not is_damage(error):
            raise StoreError(
                f"{self.path}: cannot use the state database: {error}; is the disk full or the cache read-only?"
            ) from None
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._files = self._failures = None
        self._db = self._open()
        self._notify(
            f"the state database could not be read ({error}); it was moved to {aside} and a new one was created: "
            "earlier results are restored from the store"
        )

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows that `query` selects; if the database is damaged, those of the new, empty one."""
        with self._lock:
            try:
                with texts():
                    return self._db.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                if is_damage(error):
                    self._db.close()
                self._renew(error)
                return self._db.execute(query, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        try:
            with texts():
                return self._connect()
        except sqlite3.Error as error:
            if code(error) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise
            try:
                return self._connect_without_space()
            except sqlite3.Error:
                raise error from None

    def _connect_without_space(self) -> sqlite3.Connection:
        """Return a read-only connection to an existing database: gc needs one to free space on a full disk."""
        db = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
        try:
            db.execute("pragma locking_mode = exclusive")  # needs no shared-memory file
            if db.execute("pragma user_version").fetchone()[0] != _VERSION:
                raise sqlite3.OperationalError("another version")
            db.execute("select count(*) from record").fetchone()
        except BaseException:
            db.close()
            raise
        return db

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
        try:
            # A write-ahead log needs memory that its readers share, which a file server does not offer.
            journal, synchronous = ("delete", "full") if is_on_network(self.path.parent) else ("wal", "normal")
            db.execute(f"pragma journal_mode = {journal}")
            db.execute(f"pragma synchronous = {synchronous}")
            version = db.execute("pragma user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"version {version}")
            db.executescript(_SCHEMA)
            db.execute(f"pragma user_version = {_VERSION}")
            db.execute("select count(*) from record").fetchone()
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def __del__(self) -> None:
        # Whoever holds it may end without closing it, by an error; sqlite3 warns of that from Python 3.13 on.
        with contextlib.suppress(AttributeError):
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside one transaction, committed at the end or rolled back on an error."""
        with self._lock:
            try:
                self._db.execute("begin immediate")
                yield self._db
                self._db.execute("commit")
            except BaseException as error:
                self._files = self._failures = None  # they may hold what is not stored now
                with contextlib.suppress(sqlite3.Error):  # SQLite has already rolled back if the disk is full
                    if self._db.in_transaction:
                        self._db.execute("rollback")
                if isinstance(error, sqlite3.Error):
                    self._db_failed(error)
                raise

    def _db_failed(self, error: sqlite3.Error) -> NoReturn:
        """Convert an error of a change; a damaged database is recreated, so that the next change succeeds."""
        if is_damage(error):
            self._db.close()
        self._renew(error)
        raise StoreError(f"{self.path}: was damaged and is being recreated; run again, no results are lost")

    # -- digests ------------------------------------------------------------------------------------------------------

    def file(self, path: str) -> tuple[Signature, int, str] | None:
        """Return (signature, time of hashing in ns, digest) of a file as last hashed."""
        files = self._files
        if files is None:
            with self._lock:
                rows = self._rows("select path, size, mtime, ctime, inode, hashed_at, digest from file")
                files = self._files = {row[0]: (Signature(*row[1:5]), row[5], row[6]) for row in rows}
        return files.get(path)

    def remember_file(self, path: str, signature: Signature, hashed_at: int, digest: str) -> None:
        """Store the digest of a file."""
        with self.transaction() as db:
            db.execute(
                "insert or replace into file values (?, ?, ?, ?, ?, ?, ?)", (path, *signature, hashed_at, digest)
            )
            if self._files is not None:
                self._files[path] = (signature, hashed_at, digest)

    def content_digest(self, digest: str, name: str) -> str | None:
        """Return the content digest `name` of the bytes with `digest`, or None if it is not known."""
        rows = self._rows("select value from view where digest = ? and name = ?", (digest, name))
        return rows[0][0] if rows else None

    def content_digests(self, digests: Iterable[str], name: str) -> dict[str, str]:
        """Return digest of the bytes -> content digest `name`, for all that are known."""
        values: dict[str, str] = {}
        for chunk in _chunks(list(digests)):
            marks = ",".join("?" * len(chunk))
            rows = self._rows(f"select digest, value from view where name = ? and digest in ({marks})", (name, *chunk))
            values.update(rows)
        return values

    def remember_content_digest(self, digest: str, name: str, value: str) -> None:
        """Store a content digest."""
        self.remember_content_digests([(digest, name, value)])

    def remember_content_digests(self, digests: Iterable[tuple[str, str, str]]) -> None:
        """Store several content digests, each (digest of the bytes, name, value)."""
        with self.transaction() as db:
            db.executemany("insert or replace into view values (?, ?, ?)", digests)

    def sidecar_answers(self) -> list[tuple[str, str, str]]:
        """Return all stored answers about sidecars, each (kind of file, path, answer)."""
        return [tuple(row) for row in self._rows("select kind, path, answer from companions")]

    def remember_sidecar_answers(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Store answers about sidecars, each (kind of file, path, answer)."""
        with self.transaction() as db:
            db.executemany("insert or replace into companions values (?, ?, ?)", rows)

    # -- artifacts ----------------------------------------------------------------------------------------------------

    def record(self, artifact: str) -> Record | None:
        """Return the record of `artifact`, or None if it was never built here."""
        rows = self._rows("select json, made from record where artifact = ?", (artifact,))
        return decode(*rows[0]) if rows else None

    def records(self) -> dict[str, Record]:
        """Return all records by artifact, without explanations."""
        return decode_all(self._rows("select artifact, json from record"))

    def failure(self, artifact: str) -> tuple[str, str] | None:
        """Return (key, message) of the last failure of `artifact`, unless it was built since."""
        failures = self._failures
        if failures is None:
            with self._lock:
                rows = self._rows("select artifact, key, message from failure")
                failures = self._failures = {name: (key, message) for name, key, message in rows}
        return failures.get(artifact)

    def succeed(self, artifact: str, record: Record, event: str, reasons: Sequence[str], seconds: float) -> None:
        """Store a new record of `artifact` and log that this took `seconds`, in one transaction."""
        with self.transaction() as db:
            db.execute("insert or replace into record values (?, ?, ?)", (artifact, *encode(record)))
            db.execute(
                "insert or replace into origin values (?, ?, ?)", (artifact, record.key, json.dumps(record.sources))
            )
            self._forget_failure(db, artifact)
            _log(db, Entry(record.at, artifact, record.key, event, seconds, tuple(reasons)))

    def succeed_elsewhere(self, artifact: str, key: str, reasons: Sequence[str], seconds: float) -> None:
        """Log that `artifact` was built in `seconds`, and that its result is not here; the record is left as it is."""
        with self.transaction() as db:
            self._forget_failure(db, artifact)
            _log(db, Entry(time.time(), artifact, key, "built", seconds, tuple(reasons)))

    def refresh(self, artifact: str, record: Record) -> None:
        """Store the outputs of `record`, in which only signatures have changed."""
        with self.transaction() as db:
            db.execute("update record set json = ? where artifact = ?", (encode_shown(record), artifact))

    def fail(self, artifact: str, key: str, message: str, seconds: float) -> None:
        """Record that building `artifact` failed."""
        with self.transaction() as db:
            db.execute("insert or replace into failure values (?, ?, ?)", (artifact, key, message))
            if self._failures is not None:
                self._failures[artifact] = key, message
            _log(db, Entry(time.time(), artifact, key, "failed", seconds, (message,)))

    def _forget_failure(self, db: sqlite3.Connection, artifact: str) -> None:
        db.execute("delete from failure where artifact = ?", (artifact,))
        if self._failures is not None:
            self._failures.pop(artifact, None)

    def clean(self, artifact: str, why: str) -> None:
        """Record that `artifact` was removed on purpose, and that its failure no longer counts."""
        record = self.record(artifact)
        with self.transaction() as db:
            if record is not None and not record.cleaned:
                empty = Record(record.key, {}, {}, {}, record.seconds, time.time(), {}, cleaned=True)
                db.execute("insert or replace into record values (?, ?, ?)", (artifact, *encode(empty)))
                _log(db, Entry(time.time(), artifact, record.key, "cleaned", 0.0, (why,)))
            self._forget_failure(db, artifact)

    def forget(self, artifacts: Iterable[str]) -> None:
        """Remove the records of artifacts, as if they had never been built here."""
        with self.transaction() as db:
            db.executemany("delete from record where artifact = ?", [(name,) for name in artifacts])

    # -- history ------------------------------------------------------------------------------------------------------

    def keys(self, artifact: str) -> list[str]:
        """Return all keys under which `artifact` was built or restored here."""
        rows = self._rows("select distinct key from log where artifact = ? and key <> ''", (artifact,))
        keys = {key for (key,) in rows if isinstance(key, str)}  # a damaged database may hold anything
        record = self.record(artifact)
        return sorted(keys | ({record.key} if record is not None else set()))

    def names(self) -> dict[str, str]:
        """Return key -> name of the last artifact with that key here."""
        rows = self._rows("select key, artifact from log where key <> '' order by id")
        return {key: name for key, name in rows if isinstance(key, str) and isinstance(name, str)}

    def log(self, artifact: str | None = None) -> Iterator[Entry]:
        """Yield the log of one artifact or of all, newest first."""
        where, values = ("", ()) if artifact is None else ("where artifact = ?", (artifact,))
        rows = self._rows(f"select at, artifact, key, how, seconds, reasons from log {where} order by id desc", values)
        for at, name, key, event, seconds, reasons in rows:
            with contextlib.suppress(ValueError, TypeError, RecursionError):  # a damaged row
                yield Entry(
                    float(at), str(name), str(key), str(event), float(seconds), tuple(map(str, json.loads(reasons)))
                )

    def sources(self, artifact: str, key: str) -> dict[str, Any]:
        """Return the user's files of the build of `artifact` under `key`: role -> [[path, digest], ...]."""
        rows = self._rows("select sources from origin where artifact = ? and key = ?", (artifact, key))
        try:
            return dict(json.loads(rows[0][0])) if rows else {}
        except (ValueError, TypeError, RecursionError):
            return {}

    def last_seconds(self) -> dict[str, float]:
        """Return artifact -> duration of its last build, for all that were built here."""
        rows = self._rows("select artifact, seconds, max(id) from log where how = 'built' group by artifact")
        return {name: float(seconds) for name, seconds, _ in rows if isinstance(seconds, int | float)}


def _chunks(values: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Yield `values` in parts that fit into one SQLite query."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _log(db: sqlite3.Connection, entry: Entry) -> None:
    values = (*entry[:-1], json.dumps(entry.reasons))
    db.execute("insert into log (at, artifact, key, how, seconds, reasons) values (?, ?, ?, ?, ?, ?)", values)


def records_of(path: Path) -> dict[str, Record]:
    """Return the records of another workspace's state database at `path`, which is only read.

    Raises
    ------
    StoreError
        It cannot be read.
    """
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
        try:
            return decode_all(db.execute("select artifact, json from record"))
        finally:
            db.close()
    except sqlite3.Error as error:
        raise StoreError(
            f"{path}: cannot read which results that workspace uses: {error}; run `rvbuild status` there, or remove it"
        ) from None
