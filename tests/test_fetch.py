from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

from rvbuild.files import fetch
from rvbuild.files.identity import Identity, UnreachableError
from rvbuild.files.urls import Url, to_path
from tests.range_server import RangeServer, serving


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    monkeypatch.setattr(fetch, "PAUSE_S", 0.01)
    (tmp_path / "a b.tif").write_bytes(b"abc")
    with serving(tmp_path) as server:
        yield server


def identity(server: RangeServer, name: str = "a b.tif") -> Identity:
    answer = fetch.identity(f"{server.url}/{name}")
    assert answer is not None
    return answer


def edit(path: Path, content: bytes, seconds: int = 10) -> None:
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, (before.st_atime, before.st_mtime + seconds))


def test_a_strong_etag_stands_for_the_content(server: RangeServer) -> None:
    first = identity(server)
    assert first.by == "ETag" and {method for method, _, _ in server.log} == {"HEAD"}
    os.utime(server.root / "a b.tif", (0, 0))
    assert identity(server) == first, "the time does not count then"
    edit(server.root / "a b.tif", b"abd")
    assert identity(server) != first
    (server.root / "b.tif").write_bytes(b"abc")
    assert identity(server, "b.tif") != first, "an ETag means something at one address only"


@pytest.mark.parametrize("says", [{"changed"}, {"changed", "weak"}])
def test_else_the_time_of_the_last_change_and_the_size(server: RangeServer, says: set[str]) -> None:
    server.tell(says)
    first = identity(server)
    assert first.by == "Last-Modified and size" and {method for method, _, _ in server.log} == {"HEAD"}
    edit(server.root / "a b.tif", b"abd")
    second = identity(server)
    edit(server.root / "a b.tif", b"abde", seconds=0)
    assert len({first, second, identity(server)}) == 3


@pytest.mark.parametrize("says", [set(), {"weak"}])
def test_else_the_content(server: RangeServer, says: set[str]) -> None:
    server.tell(says)
    assert identity(server) == Identity("content", xxhash.xxh3_128_hexdigest(b"abc"))


def test_a_server_that_knows_get_alone(server: RangeServer) -> None:
    by_head = identity(server)
    server.tell(["etag"], {"HEAD": 403})
    assert identity(server) == by_head
    assert server.log[-1] == ("GET", "/a b.tif", "bytes=0-0")


def test_a_file_that_is_not_there(server: RangeServer) -> None:
    assert fetch.identity(f"{server.url}/nothing.tif") is None
    assert fetch.read(f"{server.url}/nothing.tif") is None
    assert fetch.read(f"{server.url}/a b.tif?x=1") == b"abc"


def test_servers_that_do_not_answer_are_told(server: RangeServer) -> None:
    server.tell([], {"HEAD": 500, "GET": 503})
    with pytest.raises(UnreachableError, match="the server answers 503 Service Unavailable"):
        fetch.identity(f"{server.url}/a b.tif")
    assert len(server.log) == 2 * fetch.ATTEMPTS, "it may pass, so it is tried again"
    server.tell([], {"HEAD": 401, "GET": 401})
    with pytest.raises(UnreachableError, match="401 Unauthorized; do you have access"):
        fetch.read(f"{server.url}/a b.tif")
    server.close()
    identities = fetch.identities([f"{server.url}/a.tif", f"{server.url}/b.tif"])
    assert len(identities) == 2 and all(
        "Connection refused; is the server up?" in str(error) for error in identities.values()
    )


def test_an_address_that_is_none_is_told_before_anybody_is_asked() -> None:
    for ask in (fetch.identity, fetch.read):
        with pytest.raises(UnreachableError, match="has no server"):
            ask("https:///a.tif")
    identities = fetch.identities(["x", "https://[x/a.tif"])
    assert "does not begin with one of" in str(identities["x"]) and "Invalid IPv6" in str(
        identities["https://[x/a.tif"]
    )
    assert fetch._http("https://bücher.example/ä b.tif") == "https://xn--bcher-kva.example/%C3%A4%20b.tif"


def test_an_answer_that_leads_nowhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lead_on(*_: Any) -> None:
        raise ValueError("Invalid IPv6 URL")

    monkeypatch.setattr(fetch, "_open", lead_on)
    with pytest.raises(UnreachableError, match=r"the answer of the server is invalid \(Invalid IPv6 URL\)"):
        fetch.identity("http://127.0.0.1/a.tif")


def test_public_buckets_are_asked_without_a_signature(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    public_bucket(monkeypatch, server)
    (server.root / "bucket").mkdir()
    (server.root / "bucket" / "a.tif").write_bytes(b"abc")
    answer = fetch.identity("s3://bucket/a.tif")
    assert answer is not None and answer.by == "ETag" and server.log == [("HEAD", "/bucket/a.tif", "")]
    assert fetch.identity("s3://bucket/b.tif") is None
    monkeypatch.delenv("AWS_VIRTUAL_HOSTING")
    assert fetch._http("s3://bucket/a b.tif") == f"http://bucket.127.0.0.1:{server.port}/a%20b.tif"


def test_public_buckets_of_google_are_asked_without_a_signature(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server.root / "bucket").mkdir()
    (server.root / "bucket" / "a.tif").write_bytes(b"abc")
    monkeypatch.setenv("CPL_GS_ENDPOINT", f"{server.url}/")
    monkeypatch.delenv("GS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(UnreachableError, match=r"no credentials: set GS_ACCESS_KEY_ID .* GS_NO_SIGN_REQUEST=YES"):
        fetch.identity("gs://bucket/a.tif")
    monkeypatch.setenv("GS_NO_SIGN_REQUEST", "YES")
    answer = fetch.identity("gs://bucket/a.tif")
    assert answer is not None and answer.by == "ETag" and server.log == [("HEAD", "/bucket/a.tif", "")]
    assert fetch.read("gs://bucket/a.tif") == b"abc" and fetch.identity("gs://bucket/b.tif") is None
    monkeypatch.delenv("CPL_GS_ENDPOINT")
    assert fetch._http("gs://bucket/a b.tif") == "https://storage.googleapis.com/bucket/a%20b.tif"


def test_buckets_of_google_are_asked_with_an_hmac_key(monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs")
    made: list[dict[str, Any]] = []

    class Bucket:
        def __init__(self, config_kwargs: dict[str, Any], **options: Any) -> None:
            assert config_kwargs["read_timeout"] < 60
            made.append(options)

        def info(self, key: str, refresh: bool) -> dict[str, Any]:
            return {"ETag": '"e"', "size": 3, "key": key}

    monkeypatch.setattr(s3fs, "S3FileSystem", Bucket)
    monkeypatch.delenv("CPL_GS_ENDPOINT", raising=False)
    monkeypatch.setenv("GS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("GS_SECRET_ACCESS_KEY", "s")
    answer = fetch.identity("gs://bucket/a.tif")
    assert answer is not None and answer.by == "ETag"
    assert made == [{"key": "k", "secret": "s", "endpoint_url": "https://storage.googleapis.com"}]


def public_bucket(monkeypatch: pytest.MonkeyPatch, server: RangeServer) -> None:
    """Let this machine's server be S3, for GDAL as well."""
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    monkeypatch.setenv("AWS_S3_ENDPOINT", f"127.0.0.1:{server.port}")
    monkeypatch.setenv("AWS_HTTPS", "NO")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")


def test_addresses_are_paths_that_keep_their_text() -> None:
    url = to_path("https://x.org//a/b.tif?sig=1//2")
    assert isinstance(url, Url)
    assert str(url) == os.fspath(url) == f"{url}" == "https://x.org//a/b.tif?sig=1//2"
    assert (url.name, url.stem, url.suffix) == ("b.tif", "b", ".tif")
    assert url.gdal() == "/vsicurl/https://x.org//a/b.tif?sig=1//2"
    assert Url("s3://bucket/a.tif").gdal() == "/vsis3/bucket/a.tif"
    assert Url("gs://bucket/a.tif").gdal() == "/vsigs/bucket/a.tif"
    again = pickle.loads(pickle.dumps(url))
    assert again == url and hash(again) == hash(url) and str(again) == str(url)
    assert url != Path("https:/x.org/a/b.tif?sig=1/2")
    assert to_path("data/a.tif") == Path("data/a.tif")


def test_small_files_can_be_opened(server: RangeServer) -> None:
    url = Url(f"{server.url}/a b.tif")
    assert (url.read_bytes(), url.read_text(encoding="utf-8")) == (b"abc", "abc")
    with pytest.raises(FileNotFoundError, match="not found on the server"):
        Url(f"{server.url}/b.tif").read_bytes()
    with pytest.raises(OSError, match="cannot be written"):
        url.write_bytes(b"")
    server.close()
    with pytest.raises(OSError, match="Connection refused"):
        url.read_text(encoding="utf-8")


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the address of a server that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_server_is_waited_for_once(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(fetch, "PAUSE_S", 0.0)
    monkeypatch.setattr(fetch, "THREADS", 4)
    began = time.monotonic()
    identities = fetch.identities(f"{silent}/{i}.tif" for i in range(200))
    assert time.monotonic() - began < 5
    assert all(isinstance(answer, fetch.SilentError) for answer in identities.values())
    assert "is the server up?" in str(identities[f"{silent}/0.tif"])


def test_an_answer_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def trickle(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for i in range(100):
                connection.sendall(f"X-{i}: 1\r\n".encode())
                time.sleep(0.05)

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        threading.Thread(target=trickle, args=(server,), daemon=True).start()
        monkeypatch.setattr(fetch, "LIMIT_S", 0.3)
        monkeypatch.setattr(fetch._repeated, "__defaults__", (0.3,))
        with pytest.raises(fetch.SilentError, match="no answer within"):
            fetch.identity(f"http://127.0.0.1:{server.getsockname()[1]}/a.tif")


def served(chunks: Iterator[bytes], monkeypatch: pytest.MonkeyPatch, size: str = "") -> None:
    """Let every request have an answer of these chunks, without a state of the file."""

    class Answer:
        status = 200
        headers = {"Content-Length": size} if size else {}

        def __enter__(self) -> Answer:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read(self, _bytes: int) -> bytes:
            return next(chunks, b"")

    monkeypatch.setattr(fetch, "_open", lambda *_: Answer())


@pytest.mark.parametrize("size", [str(10**13), ""], ids=["said", "endless"])
def test_a_file_that_is_too_large_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setattr(fetch, "MAX_CONTENT_BYTES", 5000)
    chunks = itertools.repeat(bytes(1000))
    taken = itertools.count()
    served((chunk for chunk, _ in zip(chunks, taken, strict=False)), monkeypatch, size)
    with pytest.raises(UnreachableError, match=r"has .* bytes and would be downloaded in every run"):
        fetch.identity("https://server.org/a.tif")
    assert next(taken) == (0 if size else 6)


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>", b"\n <HTML lang='en'>"])
def test_a_web_page_is_no_file(monkeypatch: pytest.MonkeyPatch, page: bytes) -> None:
    served(iter([page, bytes(1000)]), monkeypatch)
    with pytest.raises(UnreachableError, match="is a web page"):
        fetch.identity("https://server.org/a.tif")
