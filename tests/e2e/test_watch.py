"""`rvbuild watch` in a process of its own: files are really saved, and the rebuild is really seen."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from .conftest import write_labels


class Watching:
    def __init__(self, space, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rvbuild", "watch", *words],
            cwd=space.root,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Where the suite runs in the background of a script, SIGINT is ignored, and so it would be here.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip())

    def until(self, wanted: str) -> list[str]:
        """Return the lines up to the one that begins with `wanted`."""
        lines = []
        while not lines or not lines[-1].startswith(wanted):
            lines.append(self._lines.get(timeout=60))
        return lines


@pytest.fixture
def watching(space) -> Iterator[Watching]:
    pytest.importorskip("watchfiles")
    made = Watching(space, "chip", "projects/p.toml", "--scene", "a")
    yield made
    made.process.kill()
    made.process.wait()
    made.process.stdout.close()


def test_a_saved_input_is_built_again(space, watching):
    assert any("built    chip:a" in line for line in watching.until("watching"))
    new = space.root / "data/new.geojson"
    write_labels(new, [(5, 5, 25, 30)])
    new.replace(space.root / "data/a.geojson")  # as editors save
    lines = watching.until("watching")
    assert lines[0].endswith("saved: data/a.geojson")
    assert "labels changed: data/a.geojson" in lines[1]

    text = space.project.read_text()
    space.project.write_text(text.replace("size_px = 32", "sise_px = 32"))
    assert any('did you mean "size_px"?' in line for line in watching.until("watching"))
    space.project.write_text(text)
    assert any("nothing to do" in line for line in watching.until("watching"))

    watching.process.send_signal(signal.SIGINT)
    assert watching.until("watching ended")
    assert watching.process.wait(20) == 0


def test_without_the_extra_it_says_what_to_install(space, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = space.rvbuild("watch", "chip")
    assert result.status == 2
    assert result.err == "rvbuild watch needs the package watchfiles: pip install 'rvbuild[watch]'\n"
    result = space.rvbuild("watch", "chp")
    assert 'no such stage; did you mean "chip"?' in result.err
