"""The state database of a workspace on a file server is on this machine's own disk; others have their own."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Space

from rvbuild.engine.store import state_file
from rvbuild.engine.upkeep.inventory import find_roots
from rvbuild.engine.workspace import Workspace

Machine = Callable[[str], Path]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Let `ws` be on a file server, and return a function that goes to a machine with a disk of its own."""
    monkeypatch.setattr(state_file, "is_on_network", lambda path: str(path).startswith(str(tmp_path / "ws")))

    def go(name: str) -> Path:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / name))
        return tmp_path / name / "rvbuild/workspaces"

    return go


def space_in(root: Path) -> Space:
    space = Space(root)
    for name in space.scenes:
        space.write(name, name)
    return space


def databases(folder: Path) -> list[Path]:
    return sorted(folder.rglob("state.db"))


def test_each_machine_has_its_own_database_and_finds_the_results_of_others(tmp_path: Path, machine: Machine) -> None:
    first = machine("first")
    key = tmp_path / "first/rvbuild/key"
    space = space_in(tmp_path / "ws")
    assert set(space.run().values()) == {"built"}
    assert not list((space.root / "cache").glob("state.db*"))
    (database,) = databases(first)
    with sqlite3.connect(database) as db:
        assert db.execute("pragma journal_mode").fetchone() == ("wal",)
    db.close()
    space.calls()
    shown = space.shown()

    second = machine("second")  # the same user, whose home directory is shared
    (tmp_path / "second/rvbuild").mkdir(parents=True)
    (tmp_path / "second/rvbuild/key").write_bytes(key.read_bytes())
    (tmp_path / "second/rvbuild/key").chmod(0o600)
    assert set(space.states().values()) == {"restorable"}
    assert set(space.run().values()) == {"restored"}
    assert space.calls() == [] and space.shown() == shown and len(databases(second)) == 1
    space.write("a", "edited")
    assert "built" in space.run().values()
    assert space.calls()
    shown = space.shown()

    machine("first")
    assert "stale" not in space.states().values()
    assert "built" not in space.run().values()
    assert space.calls() == [] and space.shown() == shown
    assert set(space.run().values()) == {"fresh"}


def test_a_database_in_the_cache_is_taken_along_once(tmp_path: Path, machine: Machine) -> None:
    space = space_in(tmp_path / "elsewhere")
    space.run()
    cache = space.root / "cache"
    assert state_file.state_file(cache) == cache / "state.db"  # it is on a disk of this machine
    space.root.rename(tmp_path / "ws")
    space, cache = Space(tmp_path / "ws"), tmp_path / "ws/cache"
    folder = machine("first")
    assert set(space.run().values()) == {"fresh"}
    (database,) = databases(folder)
    before = database.stat().st_ino
    (cache / "state.db").write_bytes(b"it is not read again")
    assert set(space.run().values()) == {"fresh"} and database.stat().st_ino == before
    assert database.parent.stat().st_mode & 0o077 == 0


def test_one_that_is_being_written_is_not_copied(tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", tmp_path / "own/state.db"
    cache.mkdir()
    (cache / "state.db").write_bytes(b"half")
    (cache / "state.db-journal").write_bytes(b"the other half")
    state_file.bring(cache, path)
    assert not path.exists()
    (cache / "state.db-journal").unlink()
    state_file.bring(cache, path)
    assert path.read_bytes() == b"half" and [p.name for p in path.parent.iterdir()] == ["state.db"]


def test_a_home_directory_on_a_server_is_no_place_for_it(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "ws/cache"
    machine("ws")  # the home directory is on the server as well
    assert state_file.state_file(cache) == cache / "state.db"
    monkeypatch.setenv("RVBUILD_STATE", str(tmp_path / "scratch"))
    assert state_file.state_file(cache).parent.parent == tmp_path / "scratch"
    assert state_file.state_file(tmp_path / "other/cache") != state_file.state_file(cache)


def test_gc_keeps_the_results_of_a_workspace_whose_database_is_elsewhere(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("first")
    owner = space_in(tmp_path / "ws")
    owner.run()
    monkeypatch.setenv("RVBUILD_STORE", str(owner.root / "cache/store"))
    (tmp_path / "guest").mkdir()
    guest = Workspace(tmp_path / "guest")
    try:
        keys = find_roots(guest).keys
    finally:
        guest.close()
    assert len(keys) == len(owner.artifacts())
