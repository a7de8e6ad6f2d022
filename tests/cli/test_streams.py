"""What becomes of the command when nobody reads it, when it cannot print, and on terminals of all kinds."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import rich.console

from rvbuild.cli import asking, report


def start(words: str, folder: Path, **options) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m rvbuild {words}"
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("log >&-", 0, ""),
        ("log >&- 2>&- <&-", 0, ""),
        ("schema | true; exit ${PIPESTATUS[0]}", 1, ""),
        ("schema > /dev/full", 1, "the disk is full (No space left on device)"),
        ("log > /dev/full", 1, "the disk is full (No space left on device)"),
    ],
)
def test_standard_output_that_cannot_be_written_is_no_traceback(words, status, said, tmp_path):
    result = start(words, tmp_path)
    assert result.returncode == status
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


def test_a_project_cannot_be_written_where_projects_is_a_file(tmp_path, monkeypatch):
    from rvbuild.cli import writing
    from rvbuild.errors import RvbuildError

    (tmp_path / "projects").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RvbuildError, match="projects is there already"):
        writing.new("x", "semantic_segmentation")


def test_no_colour_for_those_who_want_none(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert report.styled("a", "red") == "\x1b[31ma\x1b[0m"
    assert report.styled("a", None) == "a"
    monkeypatch.setenv("NO_COLOR", "1")
    assert report.styled("a", "red") == "a"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert report.styled("a", "red") == "a"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_json_is_whole_in_any_encoding(encoding, tmp_path):
    code = "from rvbuild.cli.report import print_json; print_json({'id': 'Š → \\udce9'})"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert json.loads(result.stdout.decode(encoding)) == {"id": "Š → \udce9"}


def test_names_of_scenes_are_no_markup_in_bars(monkeypatch):
    console = rich.console.Console(force_terminal=True, width=100, record=True, file=io.StringIO())
    monkeypatch.setattr("rich.console.Console", lambda: console)
    bars = report.Bars(several=False, verbosity=0)
    try:
        bar = bars.task("chip:a[/b] [red]c")
        bar.start("cut", 3, "chips")
        bar.advance()
        bars._progress.refresh()
    finally:
        bars.close()
    assert "chip:a[/b] [red]c" in console.export_text()


def test_names_of_scenes_are_text_in_graphs():
    assert asking._dot_text('a"\\b&lt;') == 'a\\"\\\\b&amp;lt;'
    assert asking._mermaid_text('a"#9829;<b>&') == "a#quot;#35;9829;#lt;b#gt;#amp;"
