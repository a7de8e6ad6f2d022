"""`rvbuild watch` in a process of its own: files are really saved, and the rebuild is really seen."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rvbuild.cli.commands.build import Options
from rvbuild.session import watched

from .conftest import Space, write_image, write_labels


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


CODE = """\
def same(pixels, nodata):
    return pixels
"""


@pytest.fixture
def here(space: Space, monkeypatch: pytest.MonkeyPatch) -> Space:
    """Return a workspace that this process is in, and whose images code transforms."""
    monkeypatch.chdir(space.root)
    (space.root / "tools.py").write_text(CODE)
    function = '{ kind = "function", function = "tools:same" }'
    space.edit('image = "data/{id}.tif"', f'image = {{ files = "data/{{id}}.tif", transform = [{function}] }}')
    return space


def look(*words: str, before: watched.Watched | None = None, trusted: bool = False) -> watched.Watched:
    return watched.inspect(Options(inline=True).order(words[0]), words[1:], (), before or watched.Watched(), trusted)


def waited(seen: watched.Watched, again: Any, *steps: Any) -> list[str]:
    """Return what `_wait` says is saved, if each of the steps does something where it watches; all are done by then."""
    left = list(steps)

    def changes(*folders: str, **_: Any) -> Iterator[set[tuple[int, str]]]:
        yield set()  # nothing yet
        while left:
            path = left.pop(0)()
            # Only what happens in a folder that is watched is told.
            assert str(path.parent) in folders, path
            yield {(1, str(path))}

    try:
        saved = [os.path.relpath(path) for path in watched.wait(changes, seen, again)]
    except KeyboardInterrupt:  # nothing of interest happened
        return []
    assert not left
    return saved


def writing(path: str, text: str = "1") -> Any:
    def write() -> Path:
        Path(path).write_text(text)
        return Path(path).absolute()

    return write


def making(path: str) -> Any:
    def make() -> Path:
        Path(path).mkdir()
        return Path(path).absolute()

    return make


def test_new_files_that_fit_a_pattern(here: Space) -> None:
    here.edit("[project]", '[project]\ndepends = ["params/*/*.json"]')
    Path("params").mkdir()
    seen = look("chip", "projects/p.toml")  # the project is wrong: no file fits
    again = lambda: look("chip", "projects/p.toml", before=seen)  # noqa: E731
    first = (making("params/one"), writing("params/one/notes.txt"), writing("params/one/a.json"))
    assert waited(seen, again, *first) == ["params/one/a.json"]
    seen = again()
    assert waited(seen, again, making("params/two"), writing("params/two/b.json")) == ["params/two/b.json"]
    seen = again()
    assert waited(seen, again, writing("params/two/b.json", "2")) == ["params/two/b.json"]


def test_new_scenes_projects_and_companions(here: Space) -> None:
    here.edit('train = ["a", "b"]', 'train = { files = "data/{id}.tif", without = ["c"] }')
    seen = look("chip")
    again = lambda: look("chip", before=seen)  # noqa: E731

    def scene() -> Path:
        write_labels(here.root / "data/d.geojson", [(5, 5, 25, 30)])
        write_image(here.root / "data/d.tif", [(5, 5, 25, 30)])
        return here.root / "data/d.tif"

    assert waited(seen, again, scene) == ["data/d.geojson", "data/d.tif"]
    seen = again()
    aux = '<PAMDataset><PAMRasterBand band="1"><NoDataValue>0</NoDataValue></PAMRasterBand></PAMDataset>'
    assert waited(seen, again, writing("data/a.tif.aux.xml", aux)) == ["data/a.tif.aux.xml"]
    seen = again()
    text = here.project.read_text().replace("seed", "sede")
    assert waited(seen, again, writing("projects/q.toml", text)) == ["projects/q.toml"]


def test_the_only_project_file_may_be_gone_while_it_is_saved(here: Space) -> None:
    seen = look("chip")
    text = here.project.read_text()
    here.project.unlink()
    without = look("chip", before=seen)
    assert without.files.keys() == seen.files.keys()
    back = writing("projects/p.toml", text)
    assert waited(without, lambda: look("chip", before=without), back) == ["projects/p.toml"]


def test_rules_of_the_workspace_are_asked_where_they_may_run(here: Space) -> None:
    Path("rules").mkdir()
    Path("rules/__init__.py").touch()
    Path("rules/count.py").write_text(RULE)
    Path("tables").mkdir()
    Path("tables/a.csv").touch()
    here.edit("[project]", '[project]\nrules = ["rules/count.py"]')
    seen = look("count", "projects/p.toml")
    assert not seen.whole and str(here.root / "tables/a.csv") not in seen.files
    seen = look("count", "projects/p.toml", trusted=True)
    assert seen.whole
    names = {os.path.relpath(path) for path in seen.files}
    assert names == {"projects/p.toml", "rules/__init__.py", "rules/count.py", "tables/a.csv", "tools.py"}


RULE = """\
from rvbuild.rules.common import Artifact, Source, folder, name, resolve

VERSION = 1


def artifacts(project, code):
    table = Source("table", (resolve(project, "tables/a.csv"),))
    at = folder(project, "count")
    made = {"project": project.name, "stage": "count", "scene": None, "run": "tools:same", "version": VERSION}
    yield Artifact(name=name("count", project.name), settings={}, inputs=(table,), folder=at, writes=("n",), **made)
"""


def test_without_the_extra_it_says_what_to_install(space, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = space.rvbuild("watch", "chip")
    assert result.status == 2
    assert result.err == "rvbuild watch needs the package watchfiles: pip install 'rvbuild[watch]'\n"
    result = space.rvbuild("watch", "chp")
    assert 'no such stage; did you mean "chip"?' in result.err


def test_a_draft_follows_the_labels_that_are_saved(space: Space) -> None:
    pytest.importorskip("watchfiles")
    space.project.write_text(f"{space.project.read_text()}\n[draft]\nblock_px = 32\n")
    watching = Watching(space, "draft", "projects/p.toml")
    try:
        assert any("built    draft:a" in line for line in watching.until("watching"))
        for boxes in ([(5, 5, 25, 30)], [(5, 5, 25, 30), (40, 40, 60, 60)]):
            new = space.root / "data/new.geojson"
            write_labels(new, boxes)
            new.replace(space.root / "data/a.geojson")
            lines = watching.until("watching")
            assert lines[0].endswith("saved: data/a.geojson")
            assert {"sums:a", "head", "draft:c"} <= {line.split()[1] for line in lines if line.startswith("built")}
    finally:
        watching.process.kill()
        watching.process.wait()
        assert watching.process.stdout is not None
        watching.process.stdout.close()
