"""A store elsewhere that somebody else has filled: signatures, sizes, and what is never taken."""

from __future__ import annotations

import http.server
import json
import os
import threading
from pathlib import Path

import fsspec
import pytest
import xxhash

from rvbuild.engine.remote.backend import Backend
from rvbuild.engine.remote.store import RemoteStore, Transfer
from rvbuild.engine.upkeep.inventory import take_inventory
from rvbuild.engine.workspace import Workspace
from rvbuild.errors import UsageError
from rvbuild.files import signing
from rvbuild.progress import Silent

KEY = "a secret that only we have"


@pytest.fixture
def remote(tmp_path):
    return tmp_path / "remote"


@pytest.fixture
def clone(space, new_space):
    made = new_space()
    for name in "abc":
        made.write(name, name)
    return made


def push(space, url) -> Transfer:
    workspace = Workspace(space.root)
    try:
        return RemoteStore(str(url)).push(workspace.store, take_inventory(workspace.store).actions, Silent())
    finally:
        workspace.close()


def pull(space, url) -> Transfer:
    workspace = Workspace(space.root)
    try:
        remote = RemoteStore(str(url))
        return remote.pull(workspace.store, sorted(remote.keys), Silent())
    finally:
        workspace.close()


def records(remote: Path) -> list[Path]:
    return sorted((remote / "actions").rglob("*.json"))


def change(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}))


def plant(remote: Path, content: bytes) -> str:
    """Put a content into the store, named as it should be; return its digest."""
    digest = xxhash.xxh3_128_hexdigest(content)
    path = remote / "objects" / digest[:2] / digest[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return digest


@pytest.mark.slow
def test_what_is_signed_comes_back_with_the_key_and_without(space, clone, new_space, remote, monkeypatch):
    monkeypatch.setenv("RVBUILD_REMOTE_KEY", KEY)
    space.run()
    assert push(space, remote).records == 5
    assert push(space, remote) == Transfer()
    assert pull(clone, remote) == Transfer(5, 5, sum(len(c) for c in {**space.shown()}.values()))
    assert set(clone.run().values()) == {"restored"}
    monkeypatch.delenv("RVBUILD_REMOTE_KEY")
    other = new_space()
    assert pull(other, remote).records == 5


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, "the secret of somebody else"])
def test_what_is_not_signed_with_the_key_is_refused(space, clone, remote, monkeypatch, key):
    if key:
        monkeypatch.setenv("RVBUILD_REMOTE_KEY", key)
    space.run()
    push(space, remote)
    monkeypatch.setenv("RVBUILD_REMOTE_KEY", KEY)
    moved = pull(clone, remote)
    assert (moved.records, moved.contents) == (0, 0)
    assert all("not signed with RVBUILD_REMOTE_KEY" in problem for problem in moved.problems)
    assert len(moved.problems) == 5
    monkeypatch.setenv("RVBUILD_REMOTE", str(remote))
    assert set(clone.run().values()) == {"built"}
    lines = [line for line in clone.recorder.lines if "RVBUILD_REMOTE_KEY" in line]
    assert len(lines) == 1
    assert push(clone, remote).records == 5  # what is not signed is of no use, and is replaced
    clone.calls()
    assert pull(clone, remote) == Transfer()


@pytest.mark.slow
def test_a_forged_result_is_refused(space, clone, remote, monkeypatch):
    monkeypatch.setenv("RVBUILD_REMOTE_KEY", KEY)
    space.run()
    push(space, remote)
    digest = plant(remote, b"forged")
    sha256 = "0" * 64
    for path in records(remote):
        outputs = {name: [digest, 6] for name in json.loads(path.read_bytes())["outputs"]}
        change(path, outputs=outputs, sha256={digest: sha256})
    assert pull(clone, remote).records == 0
    assert set(clone.run().values()) == {"built"}
    monkeypatch.delenv("RVBUILD_REMOTE_KEY")
    assert pull(clone, remote).records == 0  # what is here is whole


def test_contents_are_held_against_sha256(space, clone, remote, monkeypatch):
    """Another content with the same xxh3 is no matter of chance: somebody may compute one."""
    monkeypatch.setenv("RVBUILD_REMOTE_KEY", KEY)
    space.run("upper:p:a")
    push(space, remote)
    (path,) = records(remote)
    data = json.loads(path.read_bytes())
    ((value, _),) = data["outputs"].values()
    data["sha256"] = {value: "0" * 64}
    path.write_text(json.dumps(signing.signed(data, KEY.encode())))
    moved = pull(clone, remote)
    assert moved.records == 0
    assert f"content {value} is missing or damaged" in moved.problems[0]


@pytest.mark.parametrize(
    "values",
    [
        {"sha256": None},
        {"sha256": {}},
        {"sha256": []},
        {"signature": None},
        {"signature": "hmac-sha256:"},
        {"signature": 1},
        {"signature": "ö"},
        {"seconds": 7.0},
    ],
)
def test_a_record_that_was_changed_is_refused(space, clone, remote, monkeypatch, values):
    monkeypatch.setenv("RVBUILD_REMOTE_KEY", KEY)
    space.run("upper:p:a")
    push(space, remote)
    change(records(remote)[0], **values)
    moved = pull(clone, remote)
    assert (moved.records, len(moved.problems)) == (0, 1)


def test_a_short_key_is_no_secret(remote, monkeypatch):
    monkeypatch.setenv("RVBUILD_REMOTE_KEY", "short")
    with pytest.raises(UsageError, match="at least 16 letters, found 5"):
        RemoteStore(str(remote))


def test_a_content_larger_than_its_record_says_is_not_fetched(space, clone, remote):
    space.run("upper:p:a")
    push(space, remote)
    (content,) = [p for p in (remote / "objects").rglob("*") if p.is_file()]
    content.chmod(0o644)
    content.write_bytes(bytes(1 << 20))
    copied = []
    monkey = type(fsspec.filesystem("file"))
    real = monkey.get_file

    def get_file(self, *args, **kwargs):
        copied.append(args)
        return real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monkey, "get_file", get_file)
        moved = pull(clone, remote)
    assert (moved.records, moved.contents, copied) == (0, 0, [])


def test_a_record_of_more_than_the_disk_holds_is_left_out(space, clone, remote):
    space.run("upper:p:a")
    push(space, remote)
    (path,) = records(remote)
    change(path, outputs={"out.txt": ["a" * 32, 1 << 60]})
    moved = pull(clone, remote)
    assert moved.records == 0
    assert "lists 1,152,921,504,606,846,976 bytes" in moved.problems[0]


@pytest.mark.parametrize("kind", ["record", "content"])
def test_a_pipe_in_a_directory_keeps_nobody_waiting(space, clone, remote, kind):
    space.run("upper:p:a")
    push(space, remote)
    path = records(remote)[0] if kind == "record" else next(p for p in (remote / "objects").rglob("*") if p.is_file())
    path.unlink()
    os.mkfifo(path)
    assert pull(clone, remote).records == 0


class _Endless(http.server.BaseHTTPRequestHandler):
    """Answers every question with more than anybody asked for."""

    sent = 0

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        try:
            while type(self).sent < 1 << 30:
                self.wfile.write(bytes(1 << 16))
                type(self).sent += 1 << 16
        except OSError:
            pass

    def log_message(self, *args) -> None:
        pass


def test_a_server_that_never_stops_sending_is_stopped(tmp_path):
    pytest.importorskip("aiohttp")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        backend = Backend(f"http://127.0.0.1:{server.server_port}/store", None, ())
        assert backend.fetch("objects/aa/b", tmp_path / "copy", 100) is False
        assert _Endless.sent < 1 << 26
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_an_empty_record_in_a_bucket_is_no_fault_of_the_line(bucket):
    import s3fs

    s3fs.S3FileSystem().pipe_file("bucket/store/empty", b"")
    assert Backend(f"{bucket}/store", None, ()).read("empty", 100) == b""
