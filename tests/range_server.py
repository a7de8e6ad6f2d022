"""A tiny HTTP server on this machine that serves a directory, with ranges, and says of files what it is told to say.

It is a process of its own: GDAL does not let other threads run while it opens a file.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class RangeServer:
    """Serves the files below a directory, until it is closed; `url` says where."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._control = Path(tempfile.mkdtemp(prefix="range-server-"))
        self.tell(["etag", "changed"])
        words = [sys.executable, __file__, str(root), str(self._control)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def tell(self, says: Iterable[str], refuses: Mapping[str, int] | None = None) -> None:
        """Change what it says of a file (`etag`, `weak` for a weak one, `changed`), and method -> status to refuse."""
        new = self._control / "new.json"
        new.write_text(json.dumps({"says": list(says), "refuses": dict(refuses or {})}))
        new.replace(self._control / "control.json")

    @property
    def log(self) -> list[tuple[str, str, str]]:
        """The requests so far: method, path, range."""
        path = self._control / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    def close(self) -> None:
        """Stop: further requests are refused."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()


@contextmanager
def serving(root: Path) -> Iterator[RangeServer]:
    """Serve a directory for a while."""
    server = RangeServer(root)
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    control: Path

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        where, asked = unquote(urlsplit(self.path).path), self.headers.get("Range", "")
        with (self.control / "log").open("a") as log:
            log.write(json.dumps([self.command, where, asked]) + "\n")
        control = json.loads((self.control / "control.json").read_text())
        says, path = control["says"], self.root / where.lstrip("/")
        status = control["refuses"].get(self.command, 200 if path.is_file() else 404)
        if status >= 400:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        part, size, first, last = content, len(content), 0, 0
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        if match and int(match[1]) < size:
            first, last = int(match[1]), min(int(match[2] or size), size - 1)
            part, status = content[first : last + 1], 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        tag = hashlib.md5(content).hexdigest()
        if "etag" in says or "weak" in says:
            self.send_header("ETag", f'W/"{tag}"' if "weak" in says else f'"{tag}"')
        if "changed" in says:
            self.send_header("Last-Modified", email.utils.formatdate(path.stat().st_mtime, usegmt=True))
        self.end_headers()
        if with_body:
            self.wfile.write(part)


def _serve(root: Path, control: Path) -> None:
    _Handler.root, _Handler.control = root, control
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
