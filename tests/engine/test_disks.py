"""Disks that are full, read-only, elsewhere, linked or mounted."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvbuild.engine.upkeep.garbage import choose, remove
from rvbuild.engine.upkeep.inventory import find_roots, take_inventory
from rvbuild.engine.workspace import Workspace, locked
from rvbuild.errors import StoreError


@contextlib.contextmanager
def mounted(*words: str) -> Iterator[None]:
    """Mount something; skip the test where that is not allowed. The last word is the place."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount")
    if subprocess.run(["mount", *words], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", words[-1]], check=True)


@contextlib.contextmanager
def small_disk(place: Path, size: str = "300k") -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    with mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)):
        yield


@pytest.fixture
def large(new_space):
    """A workspace whose artifacts take about 1 MB, built in workers."""
    space = new_space(pool=True)
    for name in "abc":
        space.write(name, name * 250_000)
    return space


def expected() -> bytes:
    return ("|".join(c * 250_000 for c in "ABC") + "!").encode()


@pytest.mark.slow
def test_a_disk_that_is_full_for_staging(large):
    """The store's staging directories are on a small disk of their own."""
    with small_disk(large.root / "cache/store/tmp"):
        result = large.run(jobs=2, keep_going=True)
        assert set(result.values()) <= {"built", "failed", "skipped"}
        failures = [o for o in large.outcomes.values() if o.did.value == "failed"]
        assert failures
        assert all("full" in o.message or "another" in o.message for o in failures), failures[0].message
        assert not list((large.root / "cache/store/tmp").iterdir())
    assert large.run(jobs=2)["last"] == "built"
    assert (large.root / "cache/p/last/joined.txt").read_bytes() == expected()


def test_a_disk_that_is_full_for_the_store(large, monkeypatch, tmp_path):
    with small_disk(tmp_path / "disk", "700k"):
        monkeypatch.setenv("RVBUILD_STORE", str(tmp_path / "disk/store"))
        result = large.run(jobs=1, keep_going=True)
        assert result["last"] == "skipped"
        failures = [o for o in large.outcomes.values() if o.did.value == "failed"]
        assert failures
        assert all("the disk is full" in o.message and str(tmp_path / "disk") in o.message for o in failures)
        store = Workspace(large.root).store
        for file in store.root.glob("objects/??/*"):
            assert file.stat().st_size == 250_000
        assert not list((store.root / "tmp").iterdir())
        for name, content in large.shown().items():
            assert content == name[6].upper().encode() * 250_000
        subprocess.run(["mount", "-o", "remount,size=10m", str(tmp_path / "disk")], check=True)
        again = large.run(jobs=2)
        assert again["last"] == "built"
        assert "fresh" in again.values()
        assert (large.root / "cache/p/last/joined.txt").read_bytes() == expected()


def test_a_disk_that_is_full_for_the_workspace(large, monkeypatch, tmp_path):
    """The store has room and the workspace has none: what was built is not built again."""
    monkeypatch.setenv("RVBUILD_STORE", str(tmp_path / "store"))
    with small_disk(large.root / "cache", "800k"):
        result = large.run(jobs=1, keep_going=True)
        assert "failed" in result.values()
        failures = [o for o in large.outcomes.values() if o.did.value == "failed"]
        assert all("full" in o.message for o in failures), failures[0].message
        for name, content in large.shown().items():
            assert content == name[6].upper().encode() * 250_000
    large.calls()
    assert large.run()["last"] == "built"
    assert "upper" not in large.calls()
    assert (large.root / "cache/p/last/joined.txt").read_bytes() == expected()


def test_a_disk_that_is_full_for_the_database(space, monkeypatch, tmp_path):
    """No transaction can be written: every message says so, and the next run restores what was built."""
    monkeypatch.setenv("RVBUILD_STORE", str(tmp_path / "store"))
    with small_disk(space.root / "cache", "1m"):
        assert space.run("upper:p:a") == {"upper:a": "built"}
        filler = fill(space.root / "cache")
        space.write("a", "b2")
        try:
            result = space.run(keep_going=True)
        except StoreError as error:
            messages = [str(error)]
        else:
            assert not {"built", "restored"} & set(result.values())
            messages = [o.message for o in space.outcomes.values() if o.did.value == "failed"]
        assert messages
        assert all("full" in text for text in messages), messages
        filler.unlink()
        assert space.run()["last"] in ("built", "restored")
        assert not list((space.root / "cache").glob("*.damaged*"))
        assert set(space.run().values()) == {"fresh"}


def fill(disk: Path) -> Path:
    """Leave not a byte on the disk that `disk` is the root of."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


@pytest.mark.parametrize("killed", [False, True])
def test_gc_makes_space_on_a_disk_that_is_full(space, killed):
    """It opens the database without a byte to write, also after a run that was killed and left a journal."""
    with small_disk(space.root / "cache", "6m"):
        space.write("a", "a" * 300_000)
        space.run()
        space.write("a", "b" * 300_000)
        space.run()
        if killed:
            with contextlib.closing(sqlite3.connect(space.root / "cache/state.db")) as db, db:
                db.execute("pragma journal_mode = wal")
                db.execute("delete from view")
                db.execute("insert into view values ('x', 'y', 'z')")
                db.commit()
                left = (space.root / "cache/state.db-wal").read_bytes()
            db.close()
            (space.root / "cache/state.db-wal").write_bytes(left)
        fill(space.root / "cache")
        workspace = Workspace(space.root)
        with workspace.store.alone():
            inventory = take_inventory(workspace.store)
            drops = choose(workspace.store, inventory, find_roots(workspace), max_size=0, grace=-1.0)
            list(remove(workspace.store, drops))
        workspace.close()
        assert sum(d.size for d in drops) > 900_000
        assert set(space.run().values()) == {"fresh"}
        space.write("b", "other")
        assert space.run("upper:p:b") == {"upper:b": "built"}
        assert not list((space.root / "cache").glob("*damaged*"))


def test_a_cache_that_can_only_be_read(space):
    space.run()
    cache = str(space.root / "cache")
    with mounted("--bind", cache, cache):
        subprocess.run(["mount", "-o", "remount,bind,ro", cache], check=True)
        with pytest.raises(StoreError, match=r"cache.*read-?only"):
            space.run()
        with (
            pytest.raises(StoreError, match=r"cache/lock: cannot lock: Read-only"),
            locked(space.root, print),
        ):
            pass
    assert set(space.run().values()) == {"fresh"}


def test_a_store_that_can_only_be_read_is_named(space, monkeypatch, tmp_path):
    store = tmp_path / "store"
    monkeypatch.setenv("RVBUILD_STORE", str(store))
    space.run()
    with mounted("--bind", str(store), str(store)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(store)], check=True)
        space.write("a", "other")
        try:
            result = space.run(keep_going=True)
            messages = [o.message for o in space.outcomes.values() if o.did.value == "failed"]
            assert result["upper:a"] == "failed"
        except StoreError as error:
            messages = [str(error)]
        assert all("store" in text and "ead-only" in text for text in messages), messages
    assert space.run()["last"] == "built"


def test_a_store_on_another_file_system(space, monkeypatch):
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == space.root.stat().st_dev:
        pytest.skip("no second file system here")
    store = Path(tempfile.mkdtemp(dir=shm))
    try:
        monkeypatch.setenv("RVBUILD_STORE", str(store))
        assert set(space.run().values()) == {"built"}
        shutil.rmtree(space.root / "cache")
        assert set(space.run().values()) == {"restored"}
        assert set(space.run().values()) == {"fresh"}
        assert (space.root / "cache/p/last/joined.txt").read_text() == "A|B|C!"
        assert not list((space.root / "cache/tmp").iterdir())
        assert not (space.root / "cache/store").exists()
    finally:
        shutil.rmtree(store)


def test_a_part_of_the_cache_on_another_file_system_is_named(space):
    place = space.root / "cache/p/last"
    with small_disk(place):
        result = space.run(keep_going=True)
        assert result["last"] == "failed"
        assert "link the whole cache/" in space.outcomes["last"].message
    assert set(space.run().values()) == {"fresh", "restored"}


def test_a_workspace_seen_through_a_link_a_mount_and_moved(space, tmp_path):
    space.run()
    space.calls()
    real = space.root
    space.root = tmp_path / "link"
    space.root.symlink_to(real)
    assert set(space.run().values()) == {"fresh"}
    space.write("a", "through the link")
    assert space.run()["last"] == "built"
    space.root = real
    assert set(space.run().values()) == {"fresh"}
    (tmp_path / "link").unlink()
    space.root = tmp_path / "mount"
    space.root.mkdir()
    with contextlib.ExitStack() as mounts:
        try:
            mounts.enter_context(mounted("--bind", str(real), str(space.root)))
        except pytest.skip.Exception:
            pass
        else:
            assert set(space.run().values()) == {"fresh"}
            with locked(real, print), pytest.raises(_GaveUpError), locked(space.root, _give_up):
                pass  # one lock, whichever way it is reached
    space.root = tmp_path / "moved here"
    real.rename(space.root)
    space.calls()
    assert set(space.run().values()) == {"fresh"}
    assert space.calls() == []


class _GaveUpError(Exception):
    pass


def _give_up(line: str) -> None:
    raise _GaveUpError


def test_a_cache_that_is_a_link(space, tmp_path):
    (tmp_path / "big disk").mkdir()
    (space.root / "cache").symlink_to(tmp_path / "big disk")
    assert set(space.run().values()) == {"built"}
    assert (tmp_path / "big disk/p/last/joined.txt").read_text() == "A|B|C!"
    assert set(space.run().values()) == {"fresh"}


def test_numbers_of_errors_have_words():
    from rvbuild.engine.run.worker import plain

    full = OSError(errno.ENOSPC, "No space left on device", "/x/y")
    assert plain(full).startswith("the disk is full: /x/y (No space left on device); free space")
    assert "ran out of memory" in plain(MemoryError())
    assert plain(KeyError("x")) is None
