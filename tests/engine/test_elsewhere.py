"""Builds take what is lacking from a store elsewhere by themselves, and go on without it when it is down."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import fsspec
import pytest

from rvbuild.engine.remote.store import RemoteStore, Transfer
from rvbuild.engine.store.store import Store
from rvbuild.engine.upkeep.inventory import take_inventory
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import StoreError, UsageError
from rvbuild.progress import Silent


@pytest.fixture
def remote(tmp_path, monkeypatch):
    monkeypatch.setattr("rvbuild.engine.remote.read_through._PAUSES_S", (0.0, 0.0))
    return tmp_path / "remote"


@pytest.fixture
def pushed(space, remote):
    """A workspace whose results are in the store elsewhere."""
    space.run()
    push(space, str(remote))
    space.calls()
    return space


@pytest.fixture
def clone(pushed, new_space, remote, monkeypatch):
    """A colleague's workspace with the same inputs, which has the store elsewhere."""
    made = new_space()
    for name in "abc":
        made.write(name, name)
    monkeypatch.setenv("RVBUILD_REMOTE", str(remote))
    return made


def push(space, url: str) -> Transfer:
    workspace = Workspace(space.root)
    try:
        return RemoteStore(url).push(workspace.store, take_inventory(workspace.store).actions, Silent())
    finally:
        workspace.close()


def count_calls(monkeypatch, *names: str) -> list[str]:
    """Return a list to which every call of a method of the local file system is added."""
    calls: list[str] = []
    local = type(fsspec.filesystem("file"))

    def count(name):
        real = getattr(local, name)

        def counted(self, *args, **kwargs):
            calls.append(name)
            return real(self, *args, **kwargs)

        monkeypatch.setattr(local, name, counted)

    for name in names:
        count(name)
    return calls


def objects(root: Path) -> list[Path]:
    return sorted(p for p in (root / "objects").rglob("*") if p.is_file())


def test_a_clone_restores_everything_without_a_pull(pushed, clone, monkeypatch):
    calls = count_calls(monkeypatch, "get_file", "cat_file")
    assert set(clone.states().values()) == {"restorable"}
    assert calls == ["cat_file"] * 5  # records alone, each once
    assert objects(clone.root / "cache/store") == []
    assert set(clone.run(jobs=3).values()) == {"restored"}
    assert clone.calls() == []
    assert clone.shown() == pushed.shown()
    calls.clear()
    assert set(clone.run().values()) == {"fresh"}
    assert calls == []  # what is fresh is not asked for


def test_a_part_comes_with_nothing_else(clone):
    assert clone.run("upper:p:b") == {"upper:b": "restored"}
    assert len(objects(clone.root / "cache/store")) == 1


@pytest.mark.slow
def test_a_bucket_serves_a_clone(space, new_space, bucket, monkeypatch):
    space.run()
    assert push(space, f"{bucket}/a/b").records == 5
    monkeypatch.setenv("RVBUILD_REMOTE", f"{bucket}/a/b")
    clone = new_space()
    for name in "abc":
        clone.write(name, name)
    assert set(clone.states().values()) == {"restorable"}
    assert set(clone.run(jobs=3).values()) == {"restored"}
    assert clone.shown() == space.shown()
    clone.write("a", "other")
    assert clone.run()["last"] == "built"
    with pytest.raises(StoreError, match=r"s3://typo/x: cannot write to the store"):
        push(space, "s3://typo/x")


def test_what_only_one_level_has_is_used(pushed, clone):
    """What comes after a built artifact is asked for as soon as its key is known."""
    workspace = Workspace(pushed.root)
    key = workspace.state.record("join:p").key
    remote = Path(os.environ["RVBUILD_REMOTE"])
    workspace.close()
    (remote / "actions" / key[:2] / f"{key}.json").unlink()
    assert clone.states() == {"upper:a": "restorable", "upper:b": "restorable", "upper:c": "restorable"} | {
        "join": "missing",
        "last": "missing",
    }
    result = clone.run()
    assert (result["join"], result["last"]) == ("built", "restored")


def test_a_damaged_or_lost_content_is_built_here(pushed, clone, remote):
    first, second, *_ = objects(remote)
    first.chmod(0o644)
    first.write_bytes(b"x" * first.stat().st_size)
    second.unlink()
    result = clone.run(keep_going=True)
    assert sorted(result.values()) == ["built"] * 2 + ["restored"] * 3
    assert sum("is missing or damaged" in line for line in clone.recorder.lines) == 2
    assert clone.shown() == pushed.shown()
    assert set(clone.run().values()) == {"fresh"}


@pytest.mark.slow
def test_a_content_damaged_here_is_fetched_instead_of_built(pushed, clone):
    clone.run()
    for path in objects(clone.root / "cache/store"):
        path.chmod(0o644)
        path.write_bytes(b"x" * path.stat().st_size)
    shutil.rmtree(clone.root / "cache/p")
    assert set(clone.run().values()) == {"restored"}
    assert clone.calls() == []
    assert clone.shown() == pushed.shown()


def test_a_store_that_is_down_is_said_once_and_left_alone(pushed, clone, monkeypatch):
    calls: list[str] = []

    def cut(self, path, *args, **kwargs):
        calls.append(path)
        raise TimeoutError("the line is cut")

    local = type(fsspec.filesystem("file"))
    monkeypatch.setattr(local, "cat_file", cut)
    assert set(clone.run(jobs=3).values()) == {"built"}
    assert clone.shown() == pushed.shown()
    lines = [line for line in clone.recorder.lines if "RVBUILD_REMOTE" in line]
    assert len(lines) == 1
    assert "cannot read the store: the line is cut" in lines[0]
    assert 3 <= len(calls) <= 9  # three keys at once, three tries each, and then never again


def test_a_store_that_goes_down_between_record_and_content(pushed, clone, monkeypatch):
    def cut(self, path, *args, **kwargs):
        raise ConnectionResetError("reset")

    monkeypatch.setattr(type(fsspec.filesystem("file")), "get_file", cut)
    assert set(clone.run(jobs=3).values()) == {"built"}
    assert clone.shown() == pushed.shown()
    assert sum("RVBUILD_REMOTE" in line for line in clone.recorder.lines) == 1
    assert not any("quarantine" in line for line in clone.recorder.lines)


def test_a_line_that_stutters_is_tried_again(pushed, clone, monkeypatch):
    local = type(fsspec.filesystem("file"))
    real, failed = local.cat_file, set()

    def stutter(self, path, *args, **kwargs):
        if path not in failed:
            failed.add(path)
            raise ConnectionResetError("reset")
        return real(self, path, *args, **kwargs)

    monkeypatch.setattr(local, "cat_file", stutter)
    assert set(clone.run().values()) == {"restored"}
    assert len(failed) == 5


@pytest.mark.slow
def test_nobody_listens_at_the_address(space, bucket, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("RVBUILD_REMOTE", f"{bucket}/x")
        __import__("s3fs").S3FileSystem.clear_instance_cache()
        assert set(space.run().values()) == {"built"}
    assert sum("is it reachable" in line for line in space.recorder.lines) == 1


def test_an_address_of_an_unknown_kind_is_a_mistake(space, monkeypatch):
    monkeypatch.setenv("RVBUILD_REMOTE", "nothing://x")
    with pytest.raises(UsageError, match="nothing://x: not the address of a store"):
        space.run()


@pytest.mark.slow
def test_what_was_forgotten_is_built_again(pushed, clone, remote):
    clone.run()
    workspace = Workspace(clone.root)
    key = workspace.state.record("join:p").key
    workspace.store.forget(key)
    workspace.state.clean("join:p", "test")
    (clone.root / "cache/p/joined.txt").unlink()
    workspace.close()
    assert clone.states()["join"] == "missing"
    assert clone.run()["join"] == "built"
    assert clone.run("join:p", forced=frozenset({"join:p"}))["join"] == "built"
    workspace = Workspace(clone.root)
    workspace.store.forget(key)
    RemoteStore(str(remote)).pull(workspace.store, [key], Silent())  # asked for by name
    assert not workspace.store.is_forgotten(key)
    workspace.close()


def write_another(remote: Path, key: str) -> None:
    """Put another result of `key` into the store elsewhere, as another machine would."""
    file = remote / "actions" / key[:2] / f"{key}.json"
    record = json.loads(file.read_bytes())
    store = Store(remote)
    (name,) = record["outputs"]
    staged = remote / "staged"
    staged.write_text("other bytes")
    from rvbuild.engine.keys.signature import hash_file

    value = hash_file(staged)
    store.take(staged, value)
    record["outputs"][name] = [value, 11]
    file.chmod(0o644)
    file.write_text(json.dumps(record))


def test_the_first_writer_wins_while_a_key_is_built(pushed, clone, remote, monkeypatch):
    """Another machine finishes the same key with other bytes, between the question and the end of the stage."""
    workspace = Workspace(pushed.root)
    key = workspace.state.record("join:p").key
    workspace.close()
    away = remote.with_name("away")
    file = remote / "actions" / key[:2] / f"{key}.json"
    write_another(remote, key)
    file.rename(away)
    monkeypatch.setattr("rvbuild.engine.run.execute.Builder._run", _and_then(lambda: away.rename(file)))
    result = clone.run()
    assert (result["join"], result["last"]) == ("built", "built")
    assert (clone.root / "cache/p/joined.txt").read_text() == "other bytes"
    assert (clone.root / "cache/p/last/joined.txt").read_text() == "other bytes!"
    assert any("using that of" in line for line in clone.recorder.lines)
    (difference,) = Store(clone.root / "cache/store").differences().values()
    assert (difference["key"], difference["stage"], list(difference["outputs"])) == (key, "join", ["joined.txt"])
    assert set(clone.run().values()) == {"fresh"}


def _and_then(after):
    from rvbuild.engine.run.execute import Builder

    real, done = Builder._run, []

    def run(self, job, progress):
        made = real(self, job, progress)
        if not done:
            done.append(1)
            after()
        return made

    return run


def test_the_first_writer_wins_at_a_push(pushed, remote):
    workspace = Workspace(pushed.root)
    key = workspace.state.record("join:p").key
    workspace.close()
    write_another(remote, key)
    before = (remote / "actions" / key[:2] / f"{key}.json").read_bytes()
    assert push(pushed, str(remote)).differing == (key,)
    assert (remote / "actions" / key[:2] / f"{key}.json").read_bytes() == before
    assert list(Store(pushed.root / "cache/store").differences()) == [key]


def test_an_upstream_rebuilt_with_other_bytes_is_planned_anew(pushed, clone, remote):
    """A result elsewhere whose contents are lost: what is built instead decides what comes after it."""
    workspace = Workspace(pushed.root)
    key = workspace.state.record("join:p").key
    workspace.close()
    record = json.loads((remote / "actions" / key[:2] / f"{key}.json").read_bytes())
    write_another(remote, key)
    lost = json.loads((remote / "actions" / key[:2] / f"{key}.json").read_bytes())["outputs"]["joined.txt"][0]
    (remote / "objects" / lost[:2] / lost[2:]).unlink()
    assert record["outputs"]["joined.txt"][0] != lost
    assert clone.run()["join"] == "built"
    assert clone.shown() == pushed.shown()
    assert set(clone.run().values()) == {"fresh"}


def test_a_store_that_can_only_be_read_serves(pushed, clone, remote):
    if os.geteuid() == 0:
        mounted = subprocess.run(["mount", "--bind", "-o", "ro", str(remote), str(remote)], capture_output=True)
        if mounted.returncode or not os.statvfs(remote).f_flag & os.ST_RDONLY:
            subprocess.run(["umount", str(remote)], capture_output=True)
            pytest.skip("cannot mount here")
    else:
        subprocess.run(["chmod", "-R", "a-w", str(remote)], check=True)
    try:
        assert set(clone.run().values()) == {"restored"}
        clone.write("a", "other")
        clone.run()
        with pytest.raises(StoreError, match="cannot write to the store"):
            push(clone, str(remote))
    finally:
        subprocess.run(
            ["umount", str(remote)] if os.geteuid() == 0 else ["chmod", "-R", "u+w", str(remote)], check=True
        )
