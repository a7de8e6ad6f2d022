"""The command: what it asks for, and what it says."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from rvbuild.cli.app import app
from rvbuild.cli.commands import view as command
from rvbuild.errors import UsageError

from .conftest import Results


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "uvicorn" else real(name))
    with pytest.raises(UsageError, match=r"needs uvicorn: pip install 'rvbuild\[view\]'"):
        command.view(["p.toml"], [], 0, False, False)


def test_one_project_at_a_time() -> None:
    with pytest.raises(UsageError, match=r"name one of a\.toml, b\.toml"):
        command.view(["a.toml", "b.toml"], [], 0, False, False)


def test_a_project_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        command.view([str(tmp_path / "p.toml")], [], 0, False, False)


def test_a_port_that_is_taken(pixels: Results) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError, match=r"--port \d+: cannot be used"):
            command.view([str(pixels.file)], [], other.getsockname()[1], False, False)


def test_the_options_are_in_the_help() -> None:
    (command,) = [each for name, each in app.commands.items() if name == "view"]
    assert {"port", "no_open", "trust", "overrides"} <= {parameter.name for parameter in command.params}


@pytest.mark.slow
def test_the_address_with_the_token_is_printed_and_ctrl_c_ends_it(pixels: Results) -> None:
    words = [sys.executable, "-m", "rvbuild", "view", "--no-open", str(pixels.file)]
    server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert server.stderr is not None
        address = server.stderr.readline().split()[-1]
        assert address.startswith("http://127.0.0.1:") and len(address.partition("?token=")[2]) >= 32
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address.partition("?")[0])
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        assert "Traceback" not in server.stderr.read()
    finally:
        server.kill()
        server.stderr.close() if server.stderr else None
        server.wait()
