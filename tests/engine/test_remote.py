"""A store elsewhere: what goes there, what comes back, and what is not believed."""

from __future__ import annotations

import importlib
import json
import shutil

import fsspec
import pytest

from rvbuild.engine.remote.store import RemoteStore, Transfer
from rvbuild.engine.upkeep.inventory import take_inventory
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import StoreError, UsageError
from rvbuild.progress import Silent


@pytest.fixture(params=["directory", "file", "memory", "s3"])
def url(request, tmp_path):
    if request.param == "s3":
        yield f"{request.getfixturevalue('bucket')}/some where"
    elif request.param == "memory":
        fs = fsspec.filesystem("memory")
        fs.store.clear()
        yield "memory://bucket/some where"
        fs.store.clear()
    else:
        path = tmp_path / "some where"
        yield str(path) if request.param == "directory" else f"file://{path}"


def push(space, url: str, everything: bool = True) -> Transfer:
    workspace = Workspace(space.root)
    try:
        return RemoteStore(url).push(workspace.store, take_inventory(workspace.store).actions, Silent())
    finally:
        workspace.close()


def pull(space, url: str) -> Transfer:
    workspace = Workspace(space.root)
    try:
        remote = RemoteStore(url)
        return remote.pull(workspace.store, sorted(remote.keys), Silent())
    finally:
        workspace.close()


@pytest.fixture
def clone(space, new_space):
    """A colleague's workspace with the same inputs, under other names."""
    made = new_space()
    for name in "abc":
        made.write(name, (space.root / f"{name}.txt").read_text() if (space.root / f"{name}.txt").exists() else name)
    return made


@pytest.mark.slow
def test_a_clone_restores_everything_by_keys_alone(space, clone, url):
    space.run()
    assert push(space, url).records == 5
    assert pull(clone, url).records == 5
    assert set(clone.states().values()) == {"restorable"}
    assert set(clone.run().values()) == {"restored"}
    assert clone.calls() == []
    assert clone.shown() == space.shown()


@pytest.mark.slow
def test_what_is_there_is_not_sent_again(space, clone, url):
    space.run()
    first = push(space, url)
    assert (first.records, first.contents) == (5, 5)
    assert push(space, url) == Transfer()
    space.write("b", "other")
    space.run()
    again = push(space, url)
    assert (again.records, again.contents) == (3, 3)
    assert pull(clone, url).records == 8
    assert pull(clone, url) == Transfer()


@pytest.mark.slow
def test_a_damaged_content_is_not_sent(space, url):
    space.run()
    workspace = Workspace(space.root)
    (output,) = workspace.state.record("last:p").outputs.values()
    path = workspace.store.object(output.digest)
    workspace.close()
    path.chmod(0o644)
    path.write_bytes(b"x" * output.size)
    moved = push(space, url)
    assert moved.records == 4
    assert f"content {output.digest} is damaged here" in moved.problems[0]


@pytest.mark.slow
def test_what_comes_is_verified(space, clone, url):
    space.run()
    push(space, url)
    fs, root = fsspec.core.url_to_fs(url)
    objects = sorted(fs.find(f"{root}/objects"))
    fs.pipe_file(objects[0], b"x" * fs.size(objects[0]))
    fs.rm_file(objects[1])
    forged = sorted(fs.find(f"{root}/actions"))[0]
    record = json.loads(fs.cat_file(forged))
    record["components"]["version"] = 7
    fs.pipe_file(forged, json.dumps(record).encode())
    moved = pull(clone, url)
    text = "\n".join(moved.problems)
    assert "damaged or forged" in text
    assert moved.records + len(moved.problems) >= 5
    workspace = Workspace(clone.root)
    assert take_inventory(workspace.store).broken() == {}
    assert not list((workspace.store.root / "tmp").iterdir())
    workspace.close()
    assert "failed" not in clone.run().values()
    assert (clone.root / "cache/p/last/joined.txt").read_text() == "A|B|C!"
    assert push(clone, url).contents >= 1  # a content of the wrong size, or none, is sent


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["outputs"].update({"../../evil": r["outputs"].pop("out.txt")}),
        lambda r: r["outputs"].update({"out.txt": ["../../../etc/passwd", 3]}),
        lambda r: r["outputs"].clear(),
        lambda r: r.update(seconds="long"),
        lambda r: r.update(trajectory="../x"),
        lambda r: r["components"].update(version=float("nan")),
        lambda r: r.update(surprise=1),
    ],
)
def test_a_forged_record_is_left_out(space, clone, change, tmp_path):
    space.run("upper:p:a")
    push(space, str(tmp_path / "remote"))
    (record,) = (tmp_path / "remote/actions").rglob("*.json")
    data = json.loads(record.read_bytes())
    change(data)
    record.chmod(0o644)
    record.write_text(json.dumps(data))
    moved = pull(clone, str(tmp_path / "remote"))
    assert (moved.records, moved.contents, len(moved.problems)) == (0, 0, 1)


def test_contents_go_before_records(space, tmp_path, monkeypatch):
    space.run()
    remote = RemoteStore(str(tmp_path / "remote"))

    def fail(path, text):
        raise OSError("the line is cut")

    monkeypatch.setattr(remote._backend, "create", fail)
    workspace = Workspace(space.root)
    with pytest.raises(StoreError, match="cannot write to the store: the line is cut"):
        remote.push(workspace.store, take_inventory(workspace.store).actions, Silent())
    workspace.close()
    assert len(list((tmp_path / "remote/objects").rglob("*.*"))) == 0
    assert sum(p.is_file() for p in (tmp_path / "remote/objects").rglob("*")) == 5
    again = push(space, str(tmp_path / "remote"))
    assert (again.records, again.contents) == (5, 0)


@pytest.mark.slow
def test_a_half_written_content_is_sent_again(space, tmp_path):
    space.run()
    push(space, str(tmp_path / "remote"))
    shutil.rmtree(tmp_path / "remote/actions")
    first = next(p for p in (tmp_path / "remote/objects").rglob("*") if p.is_file())
    first.chmod(0o644)
    first.write_bytes(first.read_bytes()[:-1])
    assert push(space, str(tmp_path / "remote")).contents == 1


def test_what_a_killed_push_left_is_ignored(space, clone, tmp_path):
    space.run()
    push(space, str(tmp_path / "remote"))
    for folder in ("objects/ab", "actions/ab"):
        (tmp_path / "remote" / folder).mkdir(exist_ok=True)
        (tmp_path / "remote" / folder / ".0123.tmp").write_text("half")
    assert pull(clone, str(tmp_path / "remote")) == Transfer(5, 5, 14)


def test_addresses_that_cannot_be_used_are_named(monkeypatch):
    with pytest.raises(UsageError, match=r"nothing://x: not the address of a store: .*nothing"):
        RemoteStore("nothing://x")
    known = importlib.import_module("fsspec.registry").known_implementations
    entry = {"class": "not_installed_package.Store", "err": "Install not-installed-package to use it"}
    monkeypatch.setitem(known, "missing", entry)
    with pytest.raises(UsageError, match="need a package that is not installed: Install not-installed-package"):
        RemoteStore("missing://x")
