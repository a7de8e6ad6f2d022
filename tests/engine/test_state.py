"""A state database that is damaged is begun again: the day goes on, and what was built comes from the store."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from pathlib import Path

import pytest

from rvbuild.engine.store.state import Record, State
from rvbuild.engine.upkeep.inventory import require_records
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import StoreError
from rvbuild.files.mounts import is_on_network


@pytest.fixture
def built(space):
    space.run()
    space.calls()
    with sqlite3.connect(space.root / "cache/state.db") as db:
        db.execute("pragma wal_checkpoint(truncate)")
    db.close()
    return space


def assert_mended(space, announced: bool = True) -> None:
    """Check that a run restores or finds everything, runs no stage, and says what happened."""
    result = space.run(jobs=2)
    assert set(result.values()) <= {"restored", "fresh"}
    assert space.calls() == []
    assert (space.root / "cache/p/last/joined.txt").read_text() == "A|B|C!"
    notes = "\n".join(space.recorder.lines)
    if announced:
        assert "a new one was created" in notes
        assert list((space.root / "cache").glob("state.db.damaged-*"))
    assert set(space.run().values()) == {"fresh"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [b"this is not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000, b"\0" * 40_000],
    ids=["text", "header alone", "zeros"],
)
def test_a_file_that_is_no_database(built, content):
    (built.root / "cache/state.db").write_bytes(content)
    assert_mended(built)


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_a_database_that_was_cut(built, keep):
    path = built.root / "cache/state.db"
    path.write_bytes(path.read_bytes()[: keep * 4096 + 100 * (keep > 0)])
    assert_mended(built, announced=keep > 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_database_with_damaged_pages(built, seed):
    """Whatever the bytes, and whether it shows when it is opened, read or written: no stage runs in vain."""
    path = built.root / "cache/state.db"
    content = bytearray(path.read_bytes())
    luck = random.Random(seed)
    page = luck.randrange(1, len(content) // 4096)
    for i in range(4096 if seed % 2 else 300):
        content[page * 4096 + i] = luck.randrange(256)
    path.write_bytes(content)
    for _ in range(3):
        result = built.run(jobs=2, keep_going=True)
        if set(result.values()) <= {"restored", "fresh"}:
            break
        messages = [o.message for o in built.outcomes.values() if o.did.value == "failed"]
        assert all("no results are lost" in text for text in messages), messages
    assert_mended(built, announced=False)


@pytest.mark.slow
def test_damage_during_a_run_is_noticed_and_mended(built):
    lines: list[str] = []
    state = State(built.root / "cache/state.db", lines.append)
    assert state.record("join:p") is not None
    state._db.execute("drop table record")
    assert state.record("join:p") is None
    assert "a new one was created: earlier results are restored from the store" in lines[0]
    state._db.execute("drop table failure")
    with pytest.raises(StoreError, match="run again, no results are lost"):
        state.fail("x", "k", "m", 0.0)
    state.fail("x", "k", "m", 0.0)
    assert state.failure("x") == ("k", "m")
    state.close()
    assert_mended(built, announced=False)


def test_a_closed_database_is_not_a_damaged_one(built):
    """A thread of an interrupted run may ask for something after the end: that must not cost the database."""
    state = State(built.root / "cache/state.db")
    state.close()
    with pytest.raises(StoreError):
        state.record("join:p")
    with pytest.raises(StoreError):
        state.fail("x", "k", "m", 0.0)
    assert set(built.run().values()) == {"fresh"}
    assert not list((built.root / "cache").glob("*.damaged*"))


def test_a_damaged_record_counts_as_never_built(built):
    with sqlite3.connect(built.root / "cache/state.db") as db:
        db.execute("update record set json = '{\"key\": 1' where artifact = 'join:p'")
    db.close()
    result = built.run()
    assert {k for k, v in result.items() if v == "restored"} == {"join"}


@pytest.mark.slow
def test_gc_does_not_believe_a_lost_database(built):
    """Without records nothing seems to be shown; what is shown must not be removed for that."""
    for path in (built.root / "cache").glob("state.db*"):
        path.unlink()
    workspace = Workspace(built.root)
    with pytest.raises(StoreError, match="no record of them"):
        require_records(workspace.root, workspace.state.records())
    workspace.close()
    built.run()
    workspace = Workspace(built.root)
    require_records(workspace.root, workspace.state.records())
    workspace.close()


def test_a_log_of_anything_is_no_error(tmp_path):
    state = State(tmp_path / "state.db")
    with state.transaction() as db:
        for key, seconds in ((b"k", None), (b"l", b"x"), ("key", 2.5)):
            db.execute("insert into log values (null, 0, 'a', ?, 'built', ?, '[]')", (key, seconds))
    assert state.keys("a") == ["key"]
    assert state.last_seconds() == {"a": 2.5}
    assert state.names() == {"key": "a"}
    state.close()


def test_a_value_that_claims_to_be_larger_than_memory_is_damage(tmp_path):
    """SQLite allocates what a damaged header claims, before it reads it."""

    class Damaged:
        def execute(self, query, values=()):
            raise MemoryError

        def close(self):
            pass

    lines: list[str] = []
    state = State(tmp_path / "state.db", lines.append)
    state._db.close()
    state._db = Damaged()
    assert state.records() == {}
    assert "a value is larger than memory" in lines[0] and "a new one was created" in lines[0]
    state.close()


MOUNTS = """
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/local xfs rw 0 0
10.0.0.1@tcp:/big /lustre\\040big lustre rw,flock 0 0
s3fs /mnt/bucket fuse.s3fs rw 0 0
tmpfs /mnt/bucket tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/work", False),
        ("/home/me/ws/cache", True),
        ("/homes", False),
        ("/home/local/ws", False),
        ("/lustre big/ws", True),
        ("/mnt/bucket/ws", False),
    ],
)
def test_which_directories_are_on_a_server(tmp_path, path, expected):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS.lstrip())
    assert is_on_network(Path(path), mounts) is expected


def test_on_a_server_there_is_no_write_ahead_log(tmp_path, monkeypatch):
    monkeypatch.setattr("rvbuild.engine.store.state.is_on_network", lambda path: True)
    with contextlib.closing(State(tmp_path / "state.db", print)) as state:
        state.remember_content_digest("a", "b", "c")
        assert not (tmp_path / "state.db-wal").exists()
        assert state.content_digest("a", "b") == "c"


def test_failures_are_known_until_the_next_success(tmp_path):
    state = State(tmp_path / "state.db")
    assert state.failure("a") is None
    state.fail("a", "k1", "no", 0.0)
    state.fail("a", "k2", "still no", 0.0)
    state.fail("b", "k3", "never", 0.0)
    state.fail("c", "k4", "away", 0.0)
    assert state.failure("a") == ("k2", "still no")
    state.succeed("a", Record("k5", {}, {}, {}, 0.0, 0.0), "built", [], 0.0)
    state.clean("b", "for a test")
    state.succeed_elsewhere("c", "k4", [], 0.0)
    assert [state.failure(name) for name in "abc"] == [None, None, None]
    state.close()


def test_a_change_that_is_not_stored_is_not_remembered(tmp_path):
    state = State(tmp_path / "state.db")
    state.fail("a", "k", "no", 0.0)
    assert state.failure("a") == ("k", "no")
    with pytest.raises(TypeError):
        state.succeed("a", Record("k", {"not": object()}, {}, {}, 0.0, 0.0), "built", [], 0.0)
    with pytest.raises(ZeroDivisionError), state.transaction() as db:
        state._forget_failure(db, "a")
        raise ZeroDivisionError
    assert state.failure("a") == ("k", "no")
    state.close()
