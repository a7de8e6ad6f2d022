"""When results become durable: dear ones before their record, others together."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rvbuild.engine.keys.signature import hash_file
from rvbuild.engine.store import later, store
from rvbuild.engine.store.action import Action
from rvbuild.engine.store.store import Store
from rvbuild.errors import StoreError


@pytest.fixture
def events(monkeypatch):
    """What is made durable and renamed, in order."""
    done: list[str] = []

    def kind(path) -> str:
        parts = Path(path).parts
        return next((part for part in ("objects", "actions", "tmp") if part in parts), "root")

    real = store.inside.move

    def move(source, root, path):
        real(source, root, path)
        done.append(f"rename {kind(path)}")

    def sync_all(paths):
        done.extend(sorted({f"sync {kind(path)}" for path in paths}))

    monkeypatch.setattr(store.inside, "move", move)
    monkeypatch.setattr(store, "sync", lambda path: done.append(f"sync {kind(path)}"))
    monkeypatch.setattr(store, "sync_all", sync_all)
    monkeypatch.setattr(later, "sync_all", sync_all)
    monkeypatch.setattr(later, "sync_around", lambda folder: done.append("sync all") or True)
    return done


def keep(stored: Store, key: str, seconds: float, text: str = "text") -> str:
    staged = stored.temporary()
    staged.write_text(text)
    digest = hash_file(staged)
    stored.keep({staged: digest}, Action(key, {}, {"out.txt": (digest, len(text))}, seconds, 1.0))
    return digest


@pytest.fixture
def stored(tmp_path):
    made = Store(tmp_path)
    made.prepare()
    yield made
    made.close()


def test_a_dear_result_is_durable_before_it_is_recorded(stored, events):
    keep(stored, "k", seconds=60)
    first, *rest = events
    assert first == "sync tmp"
    assert rest == ["rename objects", "sync objects", "sync tmp", "rename actions", "sync actions"]
    stored.close()
    assert "sync all" not in events


def test_cheap_results_become_durable_together(stored, events):
    for number in range(10):
        keep(stored, f"k{number}", seconds=0.1, text=str(number))
    assert set(events) == {"rename objects", "rename actions"}
    assert all(stored.restorable(f"k{number}") for number in range(10))
    stored.close()
    assert events.count("sync all") == 1 and events[-1] == "sync all"
    stored.close()
    assert events.count("sync all") == 1, "nothing is left"


def test_cheap_results_become_durable_while_a_build_goes_on(stored, events, monkeypatch):
    monkeypatch.setattr(later, "_DELAY_S", 0.0)
    keep(stored, "k", seconds=0.1)
    timer = stored._later._timer
    if timer is not None:  # it has not run yet
        timer.join()
    assert events[-1] == "sync all"


def test_without_one_call_for_all_each_file_is_synchronised(stored, events, monkeypatch):
    monkeypatch.setattr(later, "sync_around", lambda folder: False)
    keep(stored, "k", seconds=0.1)
    stored.close()
    assert events[-2:] == ["sync actions", "sync objects"]


def test_a_disk_that_could_not_write_is_told(stored, monkeypatch):
    def fail(folder):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(later, "sync_around", fail)
    keep(stored, "k", seconds=0.1)
    with pytest.raises(StoreError, match=r"could not write everything.*cache verify"):
        stored.close()
    assert not list((stored.root / "locks").glob("alive-*")), "it has let go all the same"


def test_what_a_power_cut_leaves_is_built_again(space):
    """Names may survive without their bytes, in any combination: no such content is ever shown."""
    space.scenes = ["a"]
    assert space.run()["last"] == "built"
    expected = space.shown()
    files = sorted(path for path in (space.root / "cache/store").glob("*/??/*") if path.is_file())
    contents = {path: path.read_bytes() for path in files}
    for lost in files:
        for left in (b"", contents[lost][:-1], bytes(len(contents[lost])), None):
            lost.unlink()
            if left is not None:
                lost.write_bytes(left)
            for name in ("upper", "last"):
                for path in (space.root / "cache/p" / name).rglob("*.txt"):
                    path.unlink()
            (space.root / "cache/p/joined.txt").unlink()
            for other in ("state.db", "state.db-wal", "state.db-shm"):
                (space.root / "cache" / other).unlink(missing_ok=True)
            assert set(space.run().values()) <= {"built", "restored"}
            assert space.shown() == expected, (lost, left)
            for path, content in contents.items():
                path.unlink(missing_ok=True)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)


def test_the_system_can_synchronise_a_file_system(tmp_path):
    (tmp_path / "file").write_text("text")
    assert later.sync_around(tmp_path) is True
    with pytest.raises(FileNotFoundError):
        later.sync_around(tmp_path / "none")
