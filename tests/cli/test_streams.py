"""What becomes of the command when nobody reads it, when it cannot print, and on terminals of all kinds."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import rich.console

from rvbuild.cli import report
from rvbuild.cli.commands import status as asking
from rvbuild.cli.terminal import echo, printable, rendered, styled


def start(words: str, folder: Path, **options) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m rvbuild {words}"
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("log >&-", 0, ""),
        ("log >&- 2>&- <&-", 0, ""),
        ("schema | true; exit ${PIPESTATUS[0]}", 1, ""),
        ("schema > /dev/full", 1, "the disk is full (No space left on device)"),
        ("log > /dev/full", 1, "the disk is full (No space left on device)"),
    ],
)
def test_standard_output_that_cannot_be_written_is_no_traceback(words, status, message, tmp_path):
    result = start(words, tmp_path)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


def test_a_project_cannot_be_written_where_projects_is_a_file(tmp_path, monkeypatch):
    from rvbuild.cli.commands import new as writing
    from rvbuild.errors import RvbuildError

    (tmp_path / "projects").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RvbuildError, match="projects already exists"):
        writing.new("x", "semantic_segmentation")


def test_no_colour_for_those_who_want_none(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert rendered(f"x {styled('a', 'red')} y") == "x \x1b[31ma\x1b[0m y"
    assert styled("a", None) == "a"
    monkeypatch.setenv("NO_COLOR", "1")
    assert styled("a", "red") == "a"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert styled("a", "red") == "a"


HOSTILE = "a\x1b]0;title\x07\x1b[2J\x1b[31mb\x9b1m\r\x7f\u202ec\u2028d\udcff"
SHOWN = r"a\x1b]0;title\x07\x1b[2J\x1b[31mb\x9b1m\x0d\x7f\u202ec\u2028d\udcff"


def test_a_terminal_shows_names_and_does_nothing_else(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert printable(HOSTILE) == SHOWN
    assert rendered(f"{styled(HOSTILE, 'red')} {HOSTILE}") == f"\x1b[31m{SHOWN}\x1b[0m {SHOWN}"
    for text in ("plain", "é – 🌲 שלום\u200f\n\t[red]x[/]", "日本"):
        assert printable(text) == text
    echo(HOSTILE)
    echo(HOSTILE, err=True)
    assert capsys.readouterr() == (f"{SHOWN}\n", f"{SHOWN}\n")


def test_json_for_programs_is_exact_and_moves_no_cursor(capsys):
    value = {"id": HOSTILE.removesuffix("\udcff") + "é\n\t\"'\\"}
    report.print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert printable(out) == out and "é" in out


def test_bars_show_names_and_do_nothing_else(monkeypatch):
    console = rich.console.Console(force_terminal=True, width=300, record=True, file=io.StringIO())
    monkeypatch.setattr("rich.console.Console", lambda: console)
    bars = report.Bars(several=False, verbosity=0)
    try:
        bars.task(HOSTILE).start("cut", 3, "chips")
        bars.line(f"{styled('built', 'green')} {HOSTILE} [red]x[/red]")
        bars._progress.refresh()
    finally:
        bars.close()
    text = console.export_text()
    assert f"built {SHOWN} [red]x[/red]" in text and f"{SHOWN} cut" in text
    assert "\x1b]0;" not in console.file.getvalue()


def test_one_module_prints():
    """Anything else would print names as they are."""
    folder = Path(report.__file__).parent
    others = [path for path in folder.glob("*.py") if path.name not in ("terminal.py", "__init__.py")]
    prints = re.compile(r"click\.s?echo|(?<!\.)\bprint\(|std(out|err)\.write")
    printing = [path.name for path in others if prints.search(path.read_text())]
    assert printing == [], "print with rvbuild.cli.terminal.echo"


def test_messages_of_the_command_line_are_escaped(tmp_path, monkeypatch, capsys):
    from rvbuild.cli import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text('project = { task = "\\u001b[2J", data_hint = "\\u009b2J" }\n"\\u001b]0;x" = 1\n')
    for words in (
        ["status", "\x1b[2J.toml"],
        ["\x1b[2J"],
        ["check", "p.toml", "--set", "a.\x1b[2J=1"],
        ["build", "\x1b[2J"],
    ):
        assert app.run(words) == 2
        output = "".join(capsys.readouterr())
        assert output and not set(output) & set("\x1b\x9b\x07")


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


@pytest.mark.slow
def test_names_that_the_encoding_of_the_system_cannot_hold(tmp_path):
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment |= {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[2])}
    result = start("new größe_日 && ls projects", tmp_path, env=environment)
    assert "Traceback" not in result.stderr
    assert (result.returncode, [p.name for p in (tmp_path / "projects").iterdir()]) == (0, ["größe_日.toml"])
    again = start("-X utf8=0 status".replace("-X utf8=0 ", ""), tmp_path, env={**environment, "RVBUILD_UTF8": "1"})
    assert "Traceback" not in again.stderr


@pytest.mark.slow
def test_plain_doit_reads_names_that_the_encoding_of_the_system_cannot_hold(tmp_path):
    (tmp_path / "projects").mkdir()
    shutil.copy(Path(__file__).parents[2] / "dodo.py", tmp_path / "dodo.py")
    (tmp_path / "projects/größe.toml").write_text("[project]\ntask = 1\n")
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    run = subprocess.run([sys.executable, "-m", "doit", "list"], cwd=tmp_path, env=environment, capture_output=True)
    assert "projects/größe.toml:2: project.task: expected" in run.stderr.decode()


def test_without_rich_a_terminal_shows_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    reporter = report.make(False, 0, False)
    task = reporter.task("predict m.zip")
    task.start("", 3, "images")
    reporter.line("built    predict:a")
    task.advance(2)
    task.note("a note")
    reporter.close()
    shown = capsys.readouterr().out
    lines = [line.rpartition("\r\x1b[K")[2] for line in shown.split("\n")]
    assert lines == ["built    predict:a", "         predict m.zip: a note", ""]
    assert "predict m.zip 0/3 images" in shown and "predict m.zip 2/3 images, " in shown
