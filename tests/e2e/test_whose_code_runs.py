"""Whose code runs: what a key names and the user allows, and nothing that only lies there."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from .conftest import Space, start_forkserver

DECOY = """
import os
with open({mark!r}, "a") as file:
    file.write(__name__ + "\\n")
"""
TRANSFORM = """
import os, pathlib
with open(os.environ["MARK"], "a") as file:
    file.write("ran\\n")
def double(image, valid):
    return image // 2 * 2
"""


@pytest.fixture(scope="module", autouse=True)
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tell workers, too, where code leaves its mark."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARK", str(tmp_path_factory.mktemp("whose") / "mark"))
        start_forkserver()
        yield
    start_forkserver()


@pytest.fixture(autouse=True)
def state() -> Path:
    """Nothing is trusted yet, and no code has run."""
    trusted = Path(os.environ["XDG_STATE_HOME"], "rvbuild/trusted.json")
    for path in (trusted, Path(os.environ["MARK"])):
        path.unlink(missing_ok=True)
    return trusted


@pytest.fixture
def transformed(space: Space) -> Space:
    space.edit('image = "data/{id}.tif"', 'image = { files = "data/{id}.tif", transform = ["tools.t:double"] }')
    (space.root / "tools").mkdir()
    (space.root / "tools/t.py").write_text(TRANSFORM)
    return space


def ran() -> bool:
    return Path(os.environ["MARK"]).exists()


def loaded(code: str) -> set[str]:
    """Return the modules that Python has loaded after running some code."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("way", ["command", "module", "path"])
def test_files_that_are_called_like_modules_do_not_run(space: Space, way: str) -> None:
    here = {name for name in sys.stdlib_module_names if name != "__main__" and importlib.util.find_spec(name)}
    names = {*here, *metadata.packages_distributions()} - {"rvbuild"}
    variables = dict(os.environ)
    script = space.root.parent / "bin/rvbuild"
    script.parent.mkdir()
    script.write_text("import sys\nfrom rvbuild.cli import main\nsys.exit(main())\n")
    start = [str(script)]
    if way == "module":
        # What Python looks for in the current directory before anything of rvbuild runs: only its -P helps.
        names -= loaded("import runpy, importlib.util")
        start = ["-m", "rvbuild"]
    elif way == "path":  # an empty entry stands for the current directory
        names -= loaded("import rvbuild.cli") | {"sitecustomize", "usercustomize"}
        variables["PYTHONPATH"] = os.pathsep
    decoy = DECOY.format(mark=variables["MARK"])
    for name in filter(str.isidentifier, names):
        (space.root / f"{name}.py").write_text(decoy)
    for name in ("PIL", "torch", "numpy"):
        (space.root / f"{name}.py").unlink()
        (space.root / name).mkdir()
        (space.root / name / "__init__.py").write_text(decoy)
    for words in (["status"], ["check"], ["data"], ["chip", "-j", "2"])[: 4 if way == "command" else 2]:
        done = subprocess.run(
            [sys.executable, *start, *words], cwd=space.root, env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not ran(), (words, Path(variables["MARK"]).read_text().split())


def test_looking_runs_no_code(transformed: Space) -> None:
    space = transformed
    for words in (["status"], ["graph"], ["chip", "-n"], ["why", "chip:a"], ["check"], ["data"]):
        result = space.rvbuild(*words)
        assert result.status == 0, result.out + result.err
        assert not ran(), words
    assert "before tools.t: `data` does not run your code, `rvbuild data --trust` does" in result.out
    assert "before tools.t: `check` does not run your code" in space.rvbuild("check").out
    assert space.rvbuild("check", "--deep").status == 0 and not ran()
    assert space.rvbuild("check", "--trust").status == 0 and ran()


def test_a_script_builds_and_says_whose_code_runs(transformed: Space, state: Path) -> None:
    result = transformed.rvbuild("chip")
    assert result.status == 0 and ran()
    assert "running Python code of this workspace: tools/t.py (RVBUILD_TRUST=no prevents it)" in result.out + result.err
    assert not state.exists()
    assert "runs Python" not in transformed.rvbuild("chip").out  # nothing does


def test_who_refuses_code_gets_none(transformed: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVBUILD_TRUST", "no")
    for words in (["chip"], ["chip", "--trust"]):
        result = transformed.rvbuild(*words)
        assert result.status == 2
        assert "RVBUILD_TRUST=no: the code of this workspace must not run: tools/t.py" in result.err
    assert transformed.rvbuild("check", "--trust").status == 0
    assert not ran()
    monkeypatch.setenv("RVBUILD_TRUST", "perhaps")
    assert "RVBUILD_TRUST: expected yes or no, found 'perhaps'" in transformed.rvbuild("chip").err


def test_a_terminal_is_asked_once(transformed: Space, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["n", "y"]
    monkeypatch.setattr("rvbuild.cli.trust_prompt._on_terminal", lambda: True)
    monkeypatch.setattr("rvbuild.cli.trust_prompt.click.confirm", lambda *_, **__: answers.pop(0) == "y")
    result = transformed.rvbuild("chip")
    assert result.status == 2 and "nothing was built: the code of this workspace is not trusted" in result.err
    assert not ran() and not state.exists()
    assert transformed.rvbuild("chip").status == 0 and ran()
    assert json.loads(state.read_text()) == {"trusted": [str(transformed.root)]}
    assert transformed.rvbuild("chip", "-B").status == 0  # without a question


def test_the_question_can_be_read_and_answered(transformed: Space) -> None:
    """On a real terminal, where bars of progress are drawn."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rvbuild", "chip"]
    with subprocess.Popen(command, cwd=transformed.root, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, b"n\n")
        with contextlib.suppress(OSError):  # the other side is closed
            while more := os.read(ours, 4096):
                shown += more
        assert process.wait(60) == 2
    os.close(ours)
    assert b"tools/t.py" in shown and b"nothing was built" in shown
    assert not ran()


def test_trust_is_of_the_user_and_not_of_the_workspace(transformed: Space, state: Path, tmp_path: Path) -> None:
    assert transformed.rvbuild("chip", "--trust").status == 0
    assert json.loads(state.read_text()) == {"trusted": [str(transformed.root)]}
    assert not [p for p in transformed.root.rglob("*trust*")]


def test_data_that_code_reads_are_in_keys_or_refused(transformed: Space) -> None:
    space = transformed
    read = "import json\nGAIN = json.loads(pathlib.Path(__file__).with_name({}).read_text())\n"
    named, hidden = read.format('"bands.json"'), 'name = "bands"\n' + read.format('name + ".json"')
    (space.root / "tools/bands.json").write_text('{"gain": 1}')
    (space.root / "tools/t.py").write_text(TRANSFORM + named)
    assert space.rvbuild("chip").status == 0
    (space.root / "tools/bands.json").write_text('{"gain": 2}')
    result = space.rvbuild("status", "--json")
    assert any("tools/bands.json" in reason for reason in result.reasons("chip:a"))
    (space.root / "tools/t.py").write_text(TRANSFORM + hidden)
    result = space.rvbuild("chip")
    assert result.status != 0 and 'depends = ["tools/bands.json"]' in result.out + result.err
    space.edit("[project]", '[project]\ndepends = ["tools/*.json"]')
    assert space.rvbuild("chip").status == 0
    (space.root / "tools/bands.json").write_text('{"gain": 3}')
    result = space.rvbuild("status", "--json")
    assert any("tools/bands.json" in reason for reason in result.reasons("chip:a"))
    (space.root / "tools/more.json").write_text("{}")
    assert space.rvbuild("chip", "--json").did("built") >= {"chip:a", "chip:b"}


def test_variables_that_code_reads_are_in_keys_or_refused(transformed: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    space = transformed
    gain = "def double(image, valid):\n    return image * int({})\n"
    monkeypatch.setenv("GAIN_OF_TESTS", "2")
    (space.root / "tools/t.py").write_text("import os\n" + gain.format('os.environ.get("GAIN_OF_TESTS", "1")'))
    assert space.rvbuild("chip", "--inline").status == 0
    assert space.rvbuild("chip").out.startswith("nothing to do")
    monkeypatch.setenv("GAIN_OF_TESTS", "secret")
    result = space.rvbuild("status", "--json")
    reason = "environment variable GAIN_OF_TESTS, which your code reads, changed"
    assert result.reasons("chip:a") == [reason]
    assert "secret" not in result.out
    monkeypatch.setenv("GAIN_OF_TESTS", "2")
    assert space.rvbuild("chip").out.startswith("nothing to do")
    (space.root / "tools/t.py").write_text(
        "import os\n" + gain.format('os.getenv("_".join(["gain", "of", "tests"]), 1)')
    )
    result = space.rvbuild("chip")
    assert result.status != 0
    assert "tools/t.py reads the environment variable gain_of_tests, which is not part of any key" in result.err
    (space.root / "tools/t.py").write_text("import os\nALL = dict(os.environ)\n" + gain.format("1"))
    result = space.rvbuild("chip")
    assert result.status != 0 and "tools/t.py reads all environment variables" in result.err


def test_directories_that_code_lists_are_in_keys_or_refused(transformed: Space) -> None:
    space = transformed
    (space.root / "tables").mkdir()
    (space.root / "tables/one.txt").write_text("1")
    listing = "import os\nCOUNT = len(os.listdir({}))\ndef double(image, valid):\n    return image * COUNT\n"
    (space.root / "tools/t.py").write_text(listing.format("'tables'"))
    result = space.rvbuild("chip")
    assert result.status != 0
    assert "tools/t.py lists the directory tables" in result.err and 'depends = ["tables/*"]' in result.err
    space.edit("[project]", '[project]\ndepends = ["tables/*"]')
    assert space.rvbuild("chip").status == 0
    assert space.rvbuild("chip").out.startswith("nothing to do")
    (space.root / "tables/two.txt").write_text("2")
    assert space.rvbuild("chip", "--json").did("built") >= {"chip:a", "chip:b"}


def test_rasters_and_vectors_that_code_reads_are_in_keys_or_refused(transformed: Space) -> None:
    """GDAL opens files in compiled code, which Python does not see."""
    space = transformed
    reads = """
import rasterio
NAME = "el" + "evation"
def double(image, valid):
    with rasterio.open(f"{NAME}.tif") as source:
        return image * source.count
"""
    (space.root / "elevation.tif").write_bytes((space.root / "data/a.tif").read_bytes())
    (space.root / "tools/t.py").write_text(reads)
    result = space.rvbuild("chip")
    assert result.status != 0 and 'depends = ["elevation.tif"]' in result.err
    space.edit("[project]", '[project]\ndepends = ["elevation.tif"]')
    assert space.rvbuild("chip").status == 0


def test_new_files_fit_a_pattern_in_folders_that_were_empty(transformed: Space) -> None:
    transformed.edit("[project]", '[project]\ndepends = ["params/*/*.json"]')
    (transformed.root / "params/one").mkdir(parents=True)
    (transformed.root / "params/one/a.json").write_text("1")
    (transformed.root / "params/two").mkdir()
    assert transformed.rvbuild("chip").status == 0
    assert "nothing to do" in transformed.rvbuild("chip").out
    (transformed.root / "params/two/b.json").write_text("2")
    assert "nothing to do" not in transformed.rvbuild("chip").out


def test_files_of_scenes_are_no_data_of_code(transformed: Space) -> None:
    """Code that names `data/*.tif`, to try itself out, does not rest on all scenes."""
    (transformed.root / "tools/t.py").write_text(TRANSFORM + "\nPATTERN = 'data/*.tif'\n")
    assert transformed.rvbuild("chip").status == 0
    (transformed.root / "data/a.tif").write_bytes((transformed.root / "data/b.tif").read_bytes())
    assert transformed.rvbuild("chip", "--json").did("built") == {"chip:a"}


def test_depends_that_is_not_there_is_an_error(transformed: Space) -> None:
    transformed.edit("[project]", '[project]\ndepends = ["params.json", "nowhere/*.csv"]')
    result = transformed.rvbuild("status")
    assert result.status == 2
    assert "project.depends: no such file: params.json" in result.err and "no such file: nowhere/*.csv" in result.err


def test_a_module_that_is_called_like_another_is_an_error(transformed: Space) -> None:
    (transformed.root / "queue.py").write_text("")
    (transformed.root / "tools/t.py").write_text("import queue\n" + TRANSFORM)
    result = transformed.rvbuild("chip")
    assert result.status == 2 and not ran()
    assert "tools/t.py: queue.py has the name of Python's own module queue: rename it" in result.err
