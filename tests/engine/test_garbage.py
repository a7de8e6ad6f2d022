"""What gc takes and what it leaves, also when it is killed half-way."""

from __future__ import annotations

import time

import pytest

from rvbuild.engine.store.store import Action
from rvbuild.engine.upkeep.garbage import Drop, Kind, choose, remove
from rvbuild.engine.upkeep.inventory import find_roots, take_inventory
from rvbuild.engine.workspace import Workspace

DAY = 24 * 3600.0


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(tmp_path)
    yield made
    made.close()


def put(store, text: str) -> tuple[str, int]:
    from rvbuild.engine.keys.signature import hash_file

    staged = store.temporary()
    staged.write_text(text)
    digest = hash_file(staged)
    store.take(staged, digest)
    return digest, len(text)


def act(store, key: str, seconds: float, *texts: str, trajectory: str | None = None) -> Action:
    outputs = {f"{i}.txt": put(store, text) for i, text in enumerate(texts)}
    action = Action(key, {"stage": "s"}, outputs, seconds, time.time(), {}, trajectory)
    store.record(action)
    return action


def chosen(workspace, **limits) -> list[Drop]:
    limits.setdefault("grace", 0.0)
    limits.setdefault("now", time.time() + 1)
    inventory = take_inventory(workspace.store)
    return choose(workspace.store, inventory, find_roots(workspace), **limits)


def test_without_a_limit_only_what_nobody_can_use_goes(workspace):
    store = workspace.store
    act(store, "k1", 1.0, "one", trajectory="t1")
    orphan = put(store, "orphan")[0]
    (store.root / "quarantine" / "x-1").write_text("rotten")
    (store.root / "actions" / "ab").mkdir()
    (store.root / "actions" / "ab" / "abc.json").write_text("{")
    for name in ("t1", "unfinished"):
        store.resume(name).mkdir()
        (store.resume(name) / "epoch").write_text("weights")
    assert {(d.kind, d.name) for d in chosen(workspace)} == {
        (Kind.CHECKPOINTS, "t1"),
        (Kind.QUARANTINE, "x-1"),
        (Kind.BROKEN, "abc.json"),
        (Kind.CONTENT, orphan),
    }
    list(remove(store, chosen(workspace)))
    assert chosen(workspace) == []
    assert store.restorable("k1") is not None
    assert store.resume("unfinished").exists()
    aged = chosen(workspace, older_than=30 * DAY, now=time.time() + 31 * DAY)
    assert {(d.kind, d.name) for d in aged} == {(Kind.CHECKPOINTS, "unfinished"), (Kind.ACTION, "k1")}


def test_cheap_bytes_go_first_and_no_more_than_needed(workspace):
    store = workspace.store
    act(store, "cheap", 1.0, "c" * 5000)
    act(store, "dear", 1000.0, "d" * 5000)
    total = take_inventory(store).size()
    assert chosen(workspace, max_size=total) == []
    assert [d.name for d in chosen(workspace, max_size=total - 1)] == ["cheap"]
    assert [d.name for d in chosen(workspace, max_size=0)] == ["cheap", "dear"]
    assert sum(d.size for d in chosen(workspace, max_size=0)) == total


def test_what_was_not_used_for_long_counts_less(workspace):
    import os

    store = workspace.store
    act(store, "old", 2.0, "o" * 5000)
    act(store, "new", 1.5, "n" * 5000)
    before = time.time() - 20 * DAY
    os.utime(store.action_file("old"), (before, before))
    assert [d.name for d in chosen(workspace, max_size=0)] == ["old", "new"]
    store.touch("old")
    assert [d.name for d in chosen(workspace, max_size=0)] == ["new", "old"]


def test_shared_contents_stay_with_the_action_that_stays(workspace):
    store = workspace.store
    act(store, "a", 1.0, "shared" * 100, "only a")
    kept = act(store, "b", 9.0, "shared" * 100)
    drops = chosen(workspace, max_size=take_inventory(store).size() - 1)
    assert [d.name for d in drops] == ["a"]
    list(remove(store, drops))
    assert store.restorable("b") == kept
    assert chosen(workspace) == []


def test_the_young_stay(workspace):
    act(workspace.store, "k", 1.0, "text")
    put(workspace.store, "orphan")
    assert chosen(workspace, max_size=0, grace=60.0) == []
    assert chosen(workspace, max_size=0, grace=60.0, now=time.time() - DAY) == []  # the clock was moved back


@pytest.mark.parametrize("steps", range(1, 7))
def test_a_killed_gc_leaves_a_good_store(workspace, steps):
    store = workspace.store
    for i in range(3):
        act(store, f"k{i}", float(i), f"text {i}", "shared")
    paths = [path for drop in chosen(workspace, max_size=0) for path in drop.paths]
    for path in paths[:steps]:
        path.unlink()
    inventory = take_inventory(store)
    assert inventory.broken() == {}
    for key in inventory.actions:
        assert store.restorable(key) is not None
    list(remove(store, chosen(workspace, max_size=0)))
    assert take_inventory(store).size() == 0


def test_checkpoints_in_use_stay(workspace):
    store = workspace.store
    act(store, "k", 1.0, "text", trajectory="t")
    store.resume("t").mkdir()
    drops = chosen(workspace)
    assert [d.kind for d in drops] == [Kind.CHECKPOINTS]
    with store.building("t", lambda: None):
        assert list(remove(store, drops)) == []
    assert store.resume("t").exists()
    assert list(remove(store, drops)) == drops
    assert not store.resume("t").exists()
    store.close()
    assert list((store.root / "tmp").iterdir()) == []


def test_what_the_workspace_shows_never_goes(space):
    space.run()
    space.write("b", "other")
    space.run()
    space.calls()
    workspace = Workspace(space.root)
    drops = chosen(workspace, max_size=0)
    list(remove(workspace.store, drops))
    workspace.close()
    assert len(drops) == 3
    assert set(space.states().values()) == {"fresh"}
    for path in (space.root / "cache/p").rglob("*.txt"):
        path.unlink()
    assert set(space.run().values()) == {"restored"}
    space.write("b", "b")
    result = space.run()
    assert {k for k, v in result.items() if v == "built"} == {"upper:b", "join", "last"}


def test_another_workspace_of_the_store_is_asked_too(tmp_path, new_space, monkeypatch):
    monkeypatch.setenv("RVBUILD_STORE", str(tmp_path / "shared"))
    first, second = new_space(), new_space()
    for made, text in ((first, "one"), (second, "two")):
        for name in "abc":
            made.write(name, text + name)
        made.run()
    workspace = Workspace(first.root)
    assert chosen(workspace, max_size=0) == []
    second.root.rename(second.root.with_name("gone"))
    assert len(chosen(workspace, max_size=0)) == 5
    workspace.close()
