"""Several processes that push other results of the same keys in the same moment: each key keeps the first one."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rvbuild.engine.keys.artifact import digest
from rvbuild.engine.remote.backend import Backend
from rvbuild.engine.remote.store import RemoteStore
from rvbuild.engine.store.store import Action, Store
from rvbuild.progress import Silent

PUSHERS = 2


def components(number: int) -> dict:
    return {"stage": "s", "number": number}


def fill(store: Store, who: str, count: int) -> list[str]:
    """Give `store` a result for each of the same keys, with contents that only `who` made."""
    from rvbuild.engine.keys.signature import hash_file

    store.prepare()
    keys = [digest(components(i)) for i in range(count)]
    for i, key in enumerate(keys):
        staged = store.temporary()
        staged.write_text(f"{who} {i}")
        outputs = {"out.txt": (hash_file(staged), staged.stat().st_size)}
        store.take(staged, outputs["out.txt"][0])
        store.release(staged)
        store.record(Action(key, components(i), outputs, 1.0, 1.0))
    return keys


def push(root: Path, who: str, url: str, count: int) -> None:
    """Fill a store, say so, wait for the word to go, push, and print what differs; all look before anyone writes."""
    store, remote = Store(root / who), RemoteStore(url)
    keys = fill(store, who, count)
    assert not remote.keys
    assert not remote._objects
    look = remote._backend.read

    def look_slowly(path: str) -> bytes | None:
        text = look(path)
        time.sleep(random.uniform(0, 0.1))
        return text

    remote._backend.read = look_slowly
    print("ready", flush=True)
    sys.stdin.readline()
    moved = remote.push(store, keys, Silent())
    print(json.dumps([moved.records, list(moved.differing), sorted(store.differences())]), flush=True)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("directory", 32), ("s3", 16)])
def test_each_key_keeps_the_first_of_several_results(kind, count, tmp_path, request):
    url = f"{request.getfixturevalue('bucket')}/shared" if kind == "s3" else str(tmp_path / "shared")
    names = [f"p{i}" for i in range(PUSHERS)]
    pushers = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path), who, url, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in names
    ]
    assert [p.stdout.readline() for p in pushers] == ["ready\n"] * PUSHERS
    for pusher in pushers:
        pusher.stdin.write("go\n")
        pusher.stdin.flush()
    reports = [json.loads(pusher.communicate(timeout=60)[0]) for pusher in pushers]
    there = RemoteStore(url).look_up([digest(components(i)) for i in range(count)])
    lost = {key: 0 for key in there}
    for who, (records, differing, counted) in zip(names, reports, strict=True):
        assert differing == counted
        assert records + len(differing) == count
        ours = {key for i, key in enumerate(there) if there[key].outputs == Store(tmp_path / who).action(key).outputs}
        assert ours.isdisjoint(differing), "a winner was overwritten"
        assert len(ours) == records
        for key in differing:
            lost[key] += 1
    assert set(lost.values()) == {PUSHERS - 1}
    print([records for records, *_ in reports])


class Bucket:
    """Where files are, with a server's ideas of conditional writes."""

    def __init__(self, code: int | None, then: str | None) -> None:
        self.files: dict[str, bytes] = {}
        self.code, self.then = code, then

    def pipe_file(self, path: str, text: bytes, mode: str = "overwrite") -> None:
        if mode == "create" and self.code is not None:
            if self.then is not None:
                self.files[path] = self.then.encode()
            raise OSError(self.code, "what the server says")
        self.files[path] = text

    def exists(self, path: str) -> bool:
        return path in self.files

    def makedirs(self, path: str, exist_ok: bool) -> None:
        pass


@pytest.mark.parametrize(
    ("code", "then", "written"),
    [
        (errno.ENOSYS, None, True),  # a server without conditions: looked at, then written
        (errno.ENOSYS, "first", False),
        (errno.EINVAL, "first", False),  # a condition that did not hold, said without its name
    ],
)
def test_servers_that_say_it_in_other_ways(code, then, written):
    backend = Backend("memory://bucket", pauses_s=())
    backend._fs = bucket = Bucket(code, then)
    assert backend.create("a/b", b"ours") is written
    assert bucket.files == {"/bucket/a/b": b"ours" if written else then.encode()}


def test_a_conflict_that_passes_is_tried_again():
    backend = Backend("memory://bucket", pauses_s=(0.0,))
    backend._fs = bucket = Bucket(errno.EBUSY, None)
    with pytest.raises(OSError, match="what the server says"):
        backend.create("a", b"ours")
    real = bucket.pipe_file

    def busy_once(*args, **kwargs):
        try:
            real(*args, **kwargs)
        finally:
            bucket.code = None

    bucket.pipe_file = busy_once
    assert backend.create("a", b"ours")
    assert bucket.files == {"/bucket/a": b"ours"}


def test_a_directory_without_hard_links(tmp_path, monkeypatch):
    def no_links(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    backend = Backend(str(tmp_path))
    assert backend.create("a/b", b"first")
    assert not backend.create("a/b", b"second")
    assert (tmp_path / "a/b").read_bytes() == b"first"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


def test_a_useless_record_is_replaced(tmp_path):
    """A damaged record, and one whose contents are gone and are others than ours, help nobody."""
    ours, theirs, url = Store(tmp_path / "ours"), Store(tmp_path / "theirs"), str(tmp_path / "shared")
    keys = fill(theirs, "theirs", 3)
    fill(ours, "ours", 3)
    assert RemoteStore(url).push(theirs, keys, Silent()).records == 3
    record = tmp_path / f"shared/actions/{keys[0][:2]}/{keys[0]}.json"
    record.write_text("{")
    (digest_, _) = theirs.action(keys[1]).outputs["out.txt"]
    (tmp_path / f"shared/objects/{digest_[:2]}/{digest_[2:]}").unlink()
    moved = RemoteStore(url).push(ours, keys, Silent())
    assert (moved.records, moved.contents, moved.differing) == (2, 2, (keys[2],))
    now = RemoteStore(url).look_up(keys)
    assert [now[key] == ours.action(key) for key in keys] == [True, True, False]


if __name__ == "__main__":
    push(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
