"""Inputs and results on their way through a remote store, and the contents that a worker keeps."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import bucket, bucket_server

from rvbuild.engine.cluster import kept as module
from rvbuild.engine.cluster.kept import Kept, UnwantedError
from rvbuild.engine.cluster.outpost import Meeting, Outpost, moved, moved_text
from rvbuild.engine.keys.signature import hash_file
from rvbuild.engine.remote.exchange import Exchange
from rvbuild.engine.remote.store import RemoteStore
from rvbuild.engine.run.made import Making
from rvbuild.engine.run.worker import Job, call
from rvbuild.engine.store.store import Store
from rvbuild.errors import StageError, StoreError
from rvbuild.files.urls import Url
from rvbuild.progress import Silent

__all__ = ["bucket", "bucket_server"]


@pytest.fixture(params=["directory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield f"{request.getfixturevalue('bucket')}/some" if request.param == "s3" else str(tmp_path / "remote")


def contents_of(*paths: Path) -> dict[str, tuple[str, int]]:
    return {str(path): (hash_file(path), path.stat().st_size) for path in paths}


def copy(inputs: dict[str, list[Path]], settings: dict[str, Any], outputs: Path, progress: Any) -> None:
    """A stage that copies its inputs."""
    for path in inputs["text"]:
        assert "/tree/" in str(path) and os.environ["RVBUILD_WORKSPACE"] in str(path)
        (outputs / path.name).write_bytes(path.read_bytes())


def test_from_one_machine_to_another_and_back(url: str, tmp_path: Path) -> None:
    texts = [tmp_path / "ws/a.txt", tmp_path / "ws/data/b.txt"]
    for path in texts:
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.name)
    exchange = Exchange(url, tmp_path, Store(tmp_path / "store"))
    contents = contents_of(*texts)
    exchange.require(contents, Silent())
    texts[0].unlink()
    exchange.require(contents, Silent())  # it is there

    outpost = Outpost(tmp_path / "node", url)
    making = Making("copy", tmp_path / "store", tmp_path / "tmp", contents=contents)
    job = Job(f"{__name__}:copy", {"inputs": {"text": texts}, "settings": {}, "outputs": tmp_path}, making=making)
    places = {"RVBUILD_WORKSPACE": str(tmp_path / "ws"), "OTHER": "/x"}
    made = outpost.run(job, places, lambda job, _: call(job, Silent()), Silent(), lambda: True)
    assert {name: file.digest for name, file in made.files.items()} == {
        Path(path).name: digest for path, (digest, _) in contents.items()
    }
    assert not made.changed and not list(made.copies())
    remote = RemoteStore(url)
    for file in made.files.values():
        assert remote.has_content(file.digest, file.size) and not remote.has_content(file.digest, file.size + 1)
    assert not made.folder.exists()
    with pytest.raises(UnwantedError):
        outpost.run(job, places, lambda job, _: call(job, Silent()), Silent(), lambda: False)
    outpost.close()
    outpost.close()
    assert not list((tmp_path / "node/jobs").iterdir())

    remote.remove_content(made.files["a.txt"].digest)
    with pytest.raises(StageError, match=r"a\.txt: neither this machine nor .* has its content"):
        Exchange(url, tmp_path, Store(tmp_path / "store")).require(contents, Silent())


def test_a_worker_with_another_store_is_told(url: str, tmp_path: Path) -> None:
    exchange = Exchange(url, tmp_path, Store(tmp_path / "store"))
    with exchange.met("s") as (path, nonce):
        assert Meeting(exchange.url, path, nonce).problem() is None
        assert "has another remote store" in str(Meeting(exchange.url, path, "other").problem())
    assert "has another remote store" in str(Meeting(exchange.url, path, nonce).problem())
    assert "cannot use the remote store" in str(Meeting("nothing://x", path, nonce).problem())


def test_a_file_that_changes_while_it_is_sent_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    contents = contents_of(path)
    exchange = Exchange("remote", tmp_path, Store(tmp_path / "store"))
    send = RemoteStore.send_content

    def slowly(self: RemoteStore, file: Path, digest: str) -> None:
        send(self, file, digest)
        file.write_text("b, while it is sent")

    monkeypatch.setattr(RemoteStore, "send_content", slowly)
    with pytest.raises(StageError, match="changed while it was sent"):
        exchange.require(contents, Silent())
    assert not [file for file in (tmp_path / "remote/objects").rglob("*") if file.is_file()]
    with pytest.raises(StageError, match="changed after this run began"):
        exchange.require(contents, Silent())


def keep(tmp_path: Path, *texts: str) -> tuple[Kept, dict[str, tuple[str, int]]]:
    """Return the contents of a worker, and those in its remote store by paths."""
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text(text)
    contents = contents_of(*files)
    Exchange("remote", tmp_path, Store(tmp_path / "store")).require(contents, Silent())
    return Kept(tmp_path / "node", RemoteStore(str(tmp_path / "remote"))), contents


def placed(kept: Kept, contents: dict[str, tuple[str, int]], tree: Path) -> list[str]:
    kept.place(contents, tree, Silent(), lambda: True)
    return [Path(f"{tree}{path}").read_text() for path in contents]


def test_contents_are_fetched_once_and_verified(tmp_path: Path) -> None:
    kept, contents = keep(tmp_path, "a", "b", "b")
    assert placed(kept, contents, tmp_path / "1") == ["a", "b", "b"]
    objects = [path for path in (tmp_path / "remote/objects").rglob("*") if path.is_file()]
    for path in objects:
        path.write_text("x")
    assert placed(kept, contents, tmp_path / "2") == ["a", "b", "b"]  # from this machine
    assert placed(Kept(tmp_path / "node", kept._remote), contents, tmp_path / "3") == ["a", "b", "b"]
    (digest, _), *_ = contents.values()
    path = kept._path(digest)
    path.chmod(0o644)
    path.write_text("damaged here")
    with pytest.raises(StoreError, match=rf"0\.txt: its content {digest} is missing or damaged in"):
        placed(kept, contents, tmp_path / "4")
    assert not path.exists() and not list((tmp_path / "node/tmp").iterdir())


def test_what_was_not_used_for_the_longest_time_is_removed_from_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, contents = keep(tmp_path, "a" * 100, "b" * 100, "c" * 100)
    placed(kept, contents, tmp_path / "all")
    first, second, third = (Path(f"{tmp_path / 'all'}{path}") for path in contents)
    assert third.stat().st_nlink == 2
    second.unlink()
    first.unlink()
    placed(kept, dict(list(contents.items())[:1]), tmp_path / "first")  # it is used again
    Path(f"{tmp_path / 'first'}{next(iter(contents))}").unlink()
    usage = type("Usage", (), {"total": 1000, "free": 950})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    kept.trim()
    assert len([path for path in (tmp_path / "node/objects").rglob("*") if path.is_file()]) == 3
    usage.free = 50
    kept.trim()
    here = [kept._path(digest).exists() for digest, _ in contents.values()]
    assert here == [True, False, True]
    usage.free = 0
    kept.trim()
    here = [kept._path(digest).exists() for digest, _ in contents.values()]
    assert here == [False, False, True]  # a job uses the last one


def test_paths_below_another_directory() -> None:
    tree = Path("/node/tree")
    url = Url("https://x.org/a.tif")
    value = {"image": [Path("/ws/a.tif"), url], "n": 1, "text": "/ws/a.tif"}
    assert moved(value, tree) == {"image": [Path("/node/tree/ws/a.tif"), url], "n": 1, "text": "/ws/a.tif"}
    assert moved_text("/ws", tree) == "/node/tree/ws"
    assert moved_text('["/data", "https://x.org/", 1]', tree) == '["/node/tree/data", "https://x.org/", 1]'
    assert moved_text("[not json", tree) == "[not json" and moved_text("yes", tree) == "yes"
