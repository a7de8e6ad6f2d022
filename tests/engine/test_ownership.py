"""Caches of others: what they bring is not believed, and nothing outside of cache/ is written or removed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import zlib
from pathlib import Path

import pytest
import xxhash

from rvbuild.engine.keys.artifact import trajectory
from rvbuild.engine.plan import seal
from rvbuild.engine.store import ownership
from rvbuild.engine.store.ownership import Standing, standing
from rvbuild.engine.store.store import Store
from rvbuild.engine.upkeep.inventory import take_inventory
from rvbuild.engine.workspace import Workspace, is_output_path, locked
from rvbuild.errors import StoreError
from rvbuild.files import signing
from rvbuild.session.forget import forget
from rvbuild.session.session import Session


@pytest.fixture
def be(tmp_path, monkeypatch):
    """Become another user of the machine."""

    def become(name: str) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / name))

    become("me")
    return become


@pytest.fixture
def built(space, be):
    space.run()
    space.calls()
    return space


def copy(space, new_space):
    """Return a copy of a workspace, as `cp -r`, git or tar make one."""
    made = new_space()
    shutil.copytree(space.root, made.root, dirs_exist_ok=True, symlinks=True)
    return made


def change_records(root: Path, change) -> None:
    """Change what the state database says of every artifact: `change` gets the decoded record."""
    with contextlib.closing(sqlite3.connect(root / "cache/state.db")) as db, db:
        for name, text in db.execute("select artifact, json from record").fetchall():
            data = json.loads(text)
            change(data)
            db.execute("update record set json = ? where artifact = ?", (json.dumps(data), name))


def test_a_cache_is_new_then_own_and_a_copy_is_known(built, new_space, be):
    assert standing(built.root / "cache") is Standing.OWN
    other = copy(built, new_space)
    assert standing(other.root / "cache") is Standing.COPIED
    be("somebody else")
    assert standing(other.root / "cache") is Standing.STRANGE
    assert standing(new_space().root / "cache") is Standing.NEW


def test_a_copy_of_ones_own_builds_nothing_and_keeps_its_past(built, new_space):
    other = copy(built, new_space)
    assert set(other.states().values()) == {"fresh"}
    assert standing(other.root / "cache") is Standing.OWN
    other.write("a", "changed")
    assert ("text changed: a.txt" in other.states() and other.reasons["upper:a"]) or other.reasons["upper:a"]
    assert any("changed" in reason for reason in other.reasons["upper:a"])


def test_a_workspace_that_was_moved_is_fresh(built, tmp_path):
    built.root.rename(tmp_path / "elsewhere")
    built.root = tmp_path / "elsewhere"
    assert set(built.states().values()) == {"fresh"}


def test_results_of_others_are_not_believed(built, new_space, be):
    """A stranger's cache has forged results for the very keys that we need."""
    store = Store(built.root / "cache/store")
    for key, (action, _) in take_inventory(store).actions.items():
        forged = built.root / "forged"
        forged.write_text("forged")
        digest = xxhash.xxh3_128_hexdigest(b"forged")
        store.take(forged, digest)
        data = json.loads(store.action_file(key).read_bytes())
        data["outputs"] = {name: [digest, 6] for name in action.outputs}
        store.action_file(key).write_text(json.dumps(data))
    for path in (built.root / "cache/p").rglob("*.txt"):
        path.write_text("forged")
    clone = copy(built, new_space)
    be("victim")
    assert set(clone.run().values()) == {"built"}
    assert b"forged" not in clone.shown().values()
    assert any("is not trusted: 5 results" in line for line in clone.recorder.lines)
    be("me")  # the same in a copy of one's own that somebody has changed
    clone = copy(built, new_space)
    assert set(clone.run().values()) == {"built"}
    assert b"forged" not in clone.shown().values()


def test_a_forged_state_makes_no_edited_output_fresh(built, new_space):
    digest = xxhash.xxh3_128_hexdigest(b"forged")
    for path in (built.root / "cache/p").rglob("*.txt"):
        path.write_text("forged")

    def forge(data):
        for output in data["outputs"].values():
            output[1:] = [digest, 6, 0, 0, None]

    clone = copy(built, new_space)
    change_records(clone.root, forge)
    for path in (clone.root / "cache/p").rglob("*.txt"):
        os.utime(path, ns=(0, 0))
    assert set(clone.run().values()) == {"restored"}  # what we have signed is in the store
    assert b"forged" not in clone.shown().values()


def test_adopting_takes_a_strangers_cache_before_or_after_it_was_set_aside(built, new_space, be):
    first, second = copy(built, new_space), copy(built, new_space)
    be("colleague")
    assert set(first.states().values()) == {"missing"}
    for clone in (first, second):
        with locked(clone.root, print):
            assert ownership.adopt(clone.root / "cache") == 5
    assert set(first.states().values()) == {"restorable"}
    assert set(second.states().values()) == {"fresh"}


def test_without_a_place_for_a_key_one_builds_all_the_same(space, new_space, monkeypatch, tmp_path):
    (tmp_path / "no home").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "no home"))
    assert signing.user_key() is None
    assert set(space.run().values()) == {"built"}
    assert set(space.run().values()) == {"fresh"}
    assert set(copy(space, new_space).states().values()) == {"missing"}


def test_the_key_of_the_user_is_made_once_and_for_the_user_alone(be, tmp_path):
    key = signing.user_key()
    file = tmp_path / "home/me/rvbuild/key"
    assert key is not None and len(key) == 32
    assert signing.user_key() == key
    assert file.stat().st_mode & 0o077 == 0
    assert [p.name for p in file.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("field", ["inode", "link", "hard link"])
def test_a_stamp_cannot_be_brought_along(built, field):
    cache = built.root / "cache"
    place = json.loads((cache / ".place").read_bytes())
    target = cache / "target"
    target.write_bytes(b"")
    (cache / ".stamp").unlink()
    if field == "inode":
        (cache / ".stamp").write_bytes(b"")
    elif field == "link":
        (cache / ".stamp").symlink_to(target)
    else:
        os.link(target, cache / ".stamp")
        info = target.stat()
        (cache / ".place").write_text(json.dumps({**place, "stamp": [info.st_ino, info.st_ctime_ns]}))
    assert standing(cache) is not Standing.OWN


def test_a_seal_of_another_place_says_nothing(built, new_space):
    words, cache = ["build", "p.toml"], built.root / "cache"
    path = Path(seal.path_of(cache, words))
    seal.write(path, words, files={}, directories={}, environment={}, packages={}, remote_files={}, lines=["nothing"])
    assert seal.holds(path, words) == ["nothing"]
    clone = copy(built, new_space)
    assert seal.holds(seal.path_of(clone.root / "cache", words), words) is None
    data = json.loads(path.read_bytes().rpartition(b"\n")[0])
    for forged in (
        {**data, "stamp": [0, 0]},
        {k: v for k, v in data.items() if k != "stamp"},
        [],
        {**data, "files": 1},
    ):
        text = json.dumps(forged).encode()
        path.write_bytes(text + b"\n%08x" % zlib.crc32(text))
        assert seal.holds(path, words) is None
    path.write_bytes(json.dumps(data).encode())
    assert seal.holds(path, words) is None
    path.unlink()
    os.mkfifo(path)
    assert seal.holds(path, words) is None


LEAVES = ["../../outside/file", "cache/../../outside/file", "/{base}/outside/file", "cache/p/../../../outside/file"]


@pytest.mark.parametrize("path", LEAVES)
@pytest.mark.parametrize("field", ["path", "name"])
def test_a_state_that_leads_elsewhere_deletes_nothing(built, path, field):
    """The same user's, in the same place: also what would be believed is held against the gate."""
    outside = built.root.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    path = path.format(base=str(built.root.parent).lstrip("/"))

    def forge(data):
        for name, output in list(data["outputs"].items()):
            if field == "path":
                output[0] = path
            else:
                data["outputs"][path] = data["outputs"].pop(name)

    change_records(built.root, forge)
    built.settings["upper"]["prefix"] = "other "
    assert set(built.run().values()) <= {"built", "restored"}
    assert (outside / "file").read_text() == "precious"
    assert not is_output_path(path)


def test_an_action_with_names_that_lead_elsewhere_is_none(built):
    store = Store(built.root / "cache/store")
    for key in take_inventory(store).actions:
        data = json.loads(store.action_file(key).read_bytes())
        data["outputs"] = {f"../../../../outside {name}": value for name, value in data["outputs"].items()}
        store.action_file(key).write_text(json.dumps(data))
    shutil.rmtree(built.root / "cache/p")
    assert set(built.run().values()) == {"built"}
    assert not list(built.root.parent.glob("outside*"))


@pytest.mark.slow
def test_an_action_with_outputs_that_the_stage_does_not_make_is_not_taken(built, monkeypatch):
    from dataclasses import replace

    declared = [replace(a, writes=("out.txt", "joined.txt")) for a in built.artifacts()]
    monkeypatch.setattr(built, "artifacts", lambda: declared)
    store = Store(built.root / "cache/store")
    for key in take_inventory(store).actions:
        data = json.loads(store.action_file(key).read_bytes())
        data["outputs"]["index.html"] = next(iter(data["outputs"].values()))
        store.action_file(key).write_text(json.dumps(data))
    shutil.rmtree(built.root / "cache/p")
    assert set(built.states().values()) == {"missing", "stale"} or "restorable" not in built.states().values()
    assert set(built.run().values()) == {"built"}
    assert not list(built.root.rglob("index.html"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["p", "p/upper", "p/last"])
def test_a_folder_of_a_stage_that_is_a_link_is_left_alone(built, name):
    outside = built.root.parent / "outside"
    shutil.copytree(built.root / "cache" / name, outside)
    shutil.rmtree(built.root / "cache" / name)
    (built.root / "cache" / name).symlink_to(outside)
    before = {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()}
    for setting in ({"prefix": "x"}, {"prefix": "y", "extra": True}):
        built.settings["upper"] = setting
        result = built.run(keep_going=True)
        assert "failed" in result.values()
    assert any("is a symbolic link" in o.message for o in built.outcomes.values())
    assert {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", ["tmp", "store", "seals", "log", "store/tmp", "store/objects", "store/quarantine"])
def test_a_directory_of_ours_that_is_a_link_is_refused(space, be, name):
    outside = space.root.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    (space.root / "cache" / name).parent.mkdir(parents=True)
    (space.root / "cache" / name).symlink_to(outside)
    with pytest.raises(StoreError, match="is a symbolic link"):
        space.run()
    assert [p.name for p in outside.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "name", ["lock", ".gitignore", "state.db", "state.db-wal", "log/failures.txt", ".place", ".stamp"]
)
@pytest.mark.parametrize("dangling", [False, True])
def test_a_file_of_ours_that_is_a_link_is_never_written_through(space, be, name, dangling):
    outside = space.root.parent / "outside"
    if not dangling:
        outside.write_text("precious")
    (space.root / "cache" / name).parent.mkdir(parents=True)
    (space.root / "cache" / name).symlink_to(outside)
    try:
        with locked(space.root, print):
            space.run()
    except StoreError as error:
        assert "not a plain file" in str(error)
    assert outside.exists() is not dangling
    assert dangling or outside.read_text() == "precious"


def test_cache_may_be_a_link_to_an_empty_directory_or_a_cache_but_to_nothing_else(space, be, tmp_path):
    big = tmp_path / "big"
    big.mkdir()
    (space.root / "cache").symlink_to(big)
    space.run()
    assert set(space.run().values()) == {"fresh"}
    (space.root / "cache").unlink()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    (space.root / "cache").symlink_to(other)
    with pytest.raises(StoreError, match=r"holds 'thesis\.tex' and is not a cache"):
        space.run()
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_checkpoints_of_strangers_are_set_aside(built, new_space, be):
    parts = {"settings": {}, "inputs": []}
    planted = built.root / "cache/store/resume" / trajectory(parts, ())
    planted.mkdir()
    (planted / "checkpoint").write_text("poison")
    clone = copy(built, new_space)
    be("victim")
    clone.run()
    assert not list((clone.root / "cache/store/resume").iterdir())
    assert list((clone.root / "cache").glob(".strange-*/store/resume/*/checkpoint"))
    workspace = Workspace(clone.root)
    workspace.sweep()
    workspace.close()


def test_clean_removes_nothing_elsewhere(built):
    """Neither by a path that leads out of the cache, nor behind a link to a directory."""
    outside = built.root.parent / "outside"
    outside.mkdir()
    (outside / "out.txt").write_text("precious")
    for scene in "ab":
        shutil.rmtree(built.root / "cache/p/upper" / scene)
    (built.root / "cache/p/upper/a").symlink_to(outside)

    def forge(data):
        for output in data["outputs"].values():
            if output[0] == "cache/p/upper/b/out.txt":
                output[0] = "cache/p/upper/b/../../../../../outside/out.txt"

    change_records(built.root, forge)
    workspace, plan, builder, _ = built.opened()
    now = Session(workspace, [], [], builder._executor, plan)
    with pytest.raises(StoreError, match=r"upper/a: is a symbolic link"):
        forget(now, "upper:p:a")
    assert forget(now, "upper:p:b") == []
    assert forget(now, "upper:p:c") == ["cache/p/upper/c/out.txt"]
    assert not (built.root / "cache/p/upper/c").exists()
    workspace.close()
    assert (outside / "out.txt").read_text() == "precious"
